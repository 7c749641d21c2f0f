"""`mqar`, `copying`, `selective_copying`, `induction`: the answers stand in the sequence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import SPLITS, UNSCORED, Task, digest, sample_path
from harness.tasks.specs.recall import RecallSpec
from harness.tasks.storage.cache import cached

from .generator import GENERATOR_VERSION, generate

_LINE = 16  # steps of a sample in one line
_SAYS = "`says` is the target, `.` where none is trained; validation and test score answers alone"


class Recall(Task):
    """A recall task: its targets are `UNSCORED` but where an answer is asked for, and in training
    `every_step`, if so `trained`."""

    def __init__(self, spec: RecallSpec, data_dir: Path) -> None:
        self.name, self.family = spec.name, spec.family
        self.metric, self.info = spec.metric, spec.info
        self.spec = spec
        self.sizes = {split: int(getattr(spec, split)) for split in SPLITS}
        self.provenance = f"{spec.origin} (seed {spec.split_seed}, trained on {spec.trained})"
        self._data = {split: _load(spec, split, data_dir) for split in SPLITS}
        arrays = {f"{split}/{key}": array for split in SPLITS
                  for key, array in self._data[split].items()}  # fmt: skip
        self.fingerprint = digest(arrays, note=spec.trained)

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = self._data[split]["tokens"][rows].astype(np.int64)
        shown, asked = (self._data[split][key][rows].astype(np.int64) for key in ("shown", "asked"))
        y = np.full_like(x, UNSCORED)
        if split == "train" and self.spec.trained == "every_step":
            y[:, :-1] = x[:, 1:]
        np.put_along_axis(y, asked, np.take_along_axis(x, shown, axis=1), axis=1)
        return torch.from_numpy(x), torch.from_numpy(y)

    def _balance(self, split: str) -> dict[str, Any]:
        data = self._data[split]
        answers = np.take_along_axis(data["tokens"], data["shown"].astype(np.int64), axis=1)
        distance = data["asked"].astype(np.int64) - data["shown"]
        return {
            "answers_per_example": self.spec.answers,
            "chance_accuracy": 1 / self.spec.choices,
            "majority_share": float(np.bincount(answers.ravel()).max() / answers.size),
            "mean_distance": float(distance.mean()),
            "longest_distance": int(distance.max()),
        }

    def sample(self, directory: str | Path) -> Path:
        """A text file: training examples step by step, what the model sees above what it is to
        say, and for each answer where it stands."""
        count = min(self.sizes["train"], max(1, 256 // self.info.length))
        lines = [f"{self.name}: {self.provenance}", "", *self.spec.legend, _SAYS, ""]
        for row in range(count):
            x, y = (part[0].tolist() for part in self.examples("train", np.array([row])))
            lines += [f"--- training example {row}", *self._steps(x, y)]
            lines += self._answers("train", row)
        path = sample_path(directory, f"{self.name}.txt")
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def _steps(self, x: list[int], y: list[int]) -> list[str]:
        lines = []
        for start in range(0, len(x), _LINE):
            part = slice(start, start + _LINE)
            rows = {
                "step": map(str, range(start, start + len(x[part]))),
                "sees": map(self._word, x[part]),
                "says": map(self._word, y[part]),
            }
            lines += [f"{what}{''.join(f'{word:>6}' for word in words)}"
                      for what, words in rows.items()]  # fmt: skip
            lines.append("")
        return lines

    def _answers(self, split: str, row: int) -> list[str]:
        data = self._data[split]
        steps = zip(data["asked"][row].tolist(), data["shown"][row].tolist(), strict=True)
        tokens = data["tokens"][row].tolist()
        said = [
            f"step {asked} asks for {self._word(tokens[shown])}, which stands at step {shown}"
            for asked, shown in sorted(steps)
        ]
        return [*said, ""]

    def _word(self, token: int) -> str:
        if token == UNSCORED:
            return "."
        return self.spec.special[token] if token < len(self.spec.special) else str(token)


def _load(spec: RecallSpec, split: str, data_dir: Path) -> dict[str, np.ndarray]:
    """One split, from the cache, whose name holds everything that decides it: not the sizes of
    other splits, nor what is trained."""
    options = spec.model_dump(exclude={*SPLITS, "trained"}) | {
        "split": split,
        "count": int(getattr(spec, split)),
        "generator": GENERATOR_VERSION,
    }
    name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
    path = data_dir / spec.name / name / f"{split}.npz"
    size = int(getattr(spec, split)) * spec.example_bytes
    return cached(path, lambda: generate(spec, split), size)
