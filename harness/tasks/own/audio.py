"""`audio_folder`: the class of a recording, from the user's own files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from harness.tasks.base import sample_path
from harness.tasks.own.checks import check_same, check_unchanged, facts
from harness.tasks.own.content import content_sha256, numbered
from harness.tasks.own.recordings import content_of, listed, read_recording, rows_of
from harness.tasks.progress_lines import ProgressLines
from harness.tasks.samples import write_sound
from harness.tasks.specs.own import AudioFolderSpec
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.mapped import mapped
from harness.tasks.stored import StoredTask
from harness.tools.inputs import cut

_BUILD = 1  # increase when the arrays change
_HEARD = 20  # classes in a sample


class AudioFolder(StoredTask):
    """x: (batch, length, 1) float32, nominally in [-1, 1]; classes in the order of their names."""

    def __init__(self, spec: AudioFolderSpec, data_dir: Path) -> None:
        path = Path(spec.path)
        check_unchanged(spec, content_sha256(path, listed(path).files))
        options = {
            "build": _BUILD,
            "content": spec.seen("sha256"),
            "rate": spec.rate,
            "length": spec.length,
        }
        stored = mapped(data_dir, spec.name, options, lambda builder: _build(builder, spec, path))
        check_same(spec, stored.notes["content"])
        labels = np.asarray(stored.arrays["labels"])
        given = np.asarray(stored.arrays["split"]) if "split" in stored.arrays else None
        self._classes = stored.notes["classes"]
        super().__init__(spec, stored, rows_of(spec, labels, given, self._classes), labels)
        self._clips, self._rate = stored.arrays["clips"], spec.rate
        self.provenance = (
            f"{cut(spec.path)}: {len(labels)} recordings of {len(self._classes)} classes at "
            f"{spec.rate} Hz, {stored.notes['padded']} followed by silence and "
            f"{stored.notes['cut']} cut; SHA-256 {spec.seen('sha256')}"
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        clips = np.asarray(self._clips[self.pool_rows(split, rows)])
        return torch.from_numpy(clips).unsqueeze(-1), torch.from_numpy(self.labels(split, rows))

    def sample(self, directory: str | Path) -> Path:
        """A sound file: one training recording of each class, in turn, of up to twenty."""
        labels = self.labels("train")
        chosen = [int(np.argmax(labels == k)) for k in np.unique(labels)[:_HEARD]]
        x, _ = self.examples("train", np.array(chosen))
        gap = np.zeros(self._rate // 5, dtype=np.float32)
        sound = np.concatenate([part for wave in x[..., 0].numpy() for part in (wave, gap)])
        path = sample_path(directory, f"{self.name}.wav")
        write_sound(path, sound, self._rate)
        return path


def _build(builder: Builder, spec: AudioFolderSpec, path: Path) -> None:
    """`clips` (n, length) float32 in the order of the files' paths, `labels` (n,), and `split` (n,)
    if it is given."""
    found = listed(path)
    content = content_of(path, found)
    check_unchanged(spec, content.sha256)
    files = found.files
    clips = builder.create("clips", (len(files), spec.length), np.float32)
    said = ProgressLines(spec.name, "recordings", len(files))
    rates: Counter[int] = Counter()
    padded = shortened = 0
    for number, file in enumerate(files):
        where = numbered(path, files, number)
        clips[number], rate, frames = read_recording(file, where, spec.rate, spec.length)
        rates[rate] += 1
        padded += frames * spec.rate < spec.length * rate
        shortened += frames * spec.rate > spec.length * rate
        said(1)
    builder.put("labels", found.labels.astype(np.min_scalar_type(len(found.classes) - 1)))
    if found.split is not None:
        builder.put("split", found.split)
    check_unchanged(spec, content_sha256(path, files))
    builder.notes |= {
        "path": str(path),
        "content": facts(content),
        "classes": found.classes,
        "padded": padded,
        "cut": shortened,
        "rates": {str(rate): count for rate, count in sorted(rates.items())},
        "left_out": found.left_out,
        "splits": "given" if found.split is not None else "drawn",
    }
