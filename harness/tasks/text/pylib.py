"""`pylib`: the running Python's standard library, byte by byte."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import SPLITS, Task, digest, sample_path
from harness.tasks.specs import PylibSpec
from harness.tasks.text.windows import as_windows, token_facts, window_order

_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}  # of the files

# Not the library's own source: installed packages, tests and their broken or strange data, and
# files that the build writes, which hold paths of the machine.
_SKIPPED_DIRECTORIES = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)
_SKIPPED_PREFIXES = ("config-", "_sysconfigdata")


class Pylib(Task):
    """Next-byte prediction on real text that is on every machine.

    Split by file; each split's files are joined, in the order of their paths, and cut into
    windows of window + 1 bytes that do not overlap: x is all but the last byte, y all but the
    first.
    """

    def __init__(self, spec: PylibSpec, data_dir: Path | None = None) -> None:
        self.name, self.family = spec.name, spec.family
        self.metric, self.info = spec.metric, spec.info
        corpus = read_corpus(Path(sysconfig.get_paths()["stdlib"]))
        self.files = split_files(sorted(corpus), spec.split_seed)
        caps = {split: getattr(spec, split) for split in SPLITS}
        self._windows = {
            split: _windows(split, [corpus[f] for f in self.files[split]], spec, caps[split])
            for split in SPLITS
        }
        self.sizes = {split: len(windows) for split, windows in self._windows.items()}
        self.corpus_sha256 = _corpus_sha256(corpus)
        self.fingerprint = digest(self._windows, note=self.corpus_sha256)
        self.provenance = (
            f"source text of the standard library of {platform.python_implementation()} "
            f"{platform.python_version()}: {len(corpus)} files, "
            f"{sum(map(len, corpus.values()))} bytes, SHA-256 {self.corpus_sha256}"
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        windows = torch.from_numpy(self._windows[split][rows].astype(np.int64))
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def _balance(self, split: str) -> dict[str, Any]:
        return {"files": len(self.files[split])} | token_facts(self._windows[split])

    def sample(self, directory: str | Path) -> Path:
        """A text file: three windows, as the model reads them and as it must answer."""
        x, y = self.examples("train", np.arange(min(3, self.sizes["train"])))
        lines = [f"pylib: {self.provenance}", ""]
        for k in range(len(x)):
            lines += [f"--- window {k}: text of x ({x.shape[1]} bytes) ---"]
            lines += [bytes(x[k].tolist()).decode("utf-8", errors="replace"), ""]
            lines += [f"first bytes of x {x[k, :12].tolist()}"]
            lines += [f"first bytes of y {y[k, :12].tolist()}  (x, one byte later)", ""]
        lines += ["--- test files ---", textwrap.fill(", ".join(self.files["test"]), 100), ""]
        path = sample_path(directory, "pylib.txt")
        path.write_text("\n".join(lines), encoding="utf-8")
        return path


def read_corpus(root: Path) -> dict[str, bytes]:
    """{path relative to `root`, with slashes: content} of the library's own *.py files.

    Links are skipped (they lead out of the library), and so is what `_SKIPPED_*` names.
    """
    corpus = {}
    for folder, folders, filenames in os.walk(root):
        folders[:] = [
            f
            for f in folders
            if f not in _SKIPPED_DIRECTORIES and not f.startswith(_SKIPPED_PREFIXES)
        ]
        for filename in filenames:
            path = Path(folder, filename)
            skipped = filename.startswith(_SKIPPED_PREFIXES) or path.is_symlink()
            if path.suffix == ".py" and not skipped:
                corpus[path.relative_to(root).as_posix()] = path.read_bytes()
    if not corpus:
        raise ValueError(f"no source text of the standard library under {root}")
    return corpus


def split_files(files: list[str], split_seed: int) -> dict[str, list[str]]:
    """{split: its files, sorted}: a seeded permutation of `files`, cut 80 : 10 : 10."""
    order = np.random.default_rng(split_seed).permutation(len(files))
    first = round(_SHARES["train"] * len(files))
    second = first + round(_SHARES["validation"] * len(files))
    parts = np.split(order, [first, second])
    return {
        split: sorted(files[i] for i in part) for split, part in zip(SPLITS, parts, strict=True)
    }


def _windows(split: str, texts: list[bytes], spec: PylibSpec, cap: int | None) -> np.ndarray:
    """(windows, window + 1) uint8, in an order drawn by the seed: a smaller cap is a prefix."""
    # A zero byte ends each file: it occurs in no source text, so files cannot run together.
    stream = np.frombuffer(b"".join(text + b"\0" for text in texts), dtype=np.uint8)
    windows = as_windows(stream, spec.window)
    count = len(windows)
    wanted = count if cap is None else cap
    if wanted > count or count == 0:
        raise ValueError(
            f"pylib has {count} {split} windows of {spec.window} bytes; asked for {max(wanted, 1)}"
        )
    return windows[window_order(split, spec.split_seed, count)[:wanted]]


def _corpus_sha256(corpus: dict[str, bytes]) -> str:
    state = hashlib.sha256()
    for name in sorted(corpus):
        state.update(f"{name}\0{len(corpus[name])}\0".encode())
        state.update(corpus[name])
    return state.hexdigest()
