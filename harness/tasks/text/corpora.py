"""`text8`, `enwik8`, `wikitext103`: the next byte of long texts, in windows from a memory map."""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from harness.tasks.base import SPLITS, sample_path
from harness.tasks.specs import Enwik8Spec, Text8Spec, TextFileSpec, Wikitext103Spec
from harness.tasks.storage.archives import below_one_root
from harness.tasks.storage.mapped import Builder, mapped
from harness.tasks.stored import StoredTask
from harness.tasks.text.windows import as_windows, token_facts, window_order

CorpusSpec = Text8Spec | Enwik8Spec | Wikitext103Spec | TextFileSpec

_MAX_TEXT = 10**9  # bytes of one text unpacked; the largest has 541 MB
_BALANCE_BYTES = 1 << 22  # of each split, for a summary
_LAYOUT = 1  # increase when the arrays change


class Corpus(StoredTask):
    """Windows of window + 1 tokens that do not overlap: x is all but the last, y all but the first.

    Each split is one array of bytes, or of other tokens; the windows of a split come in an order
    drawn by `split_seed`, so that a smaller cap is a prefix. A batch is all that is ever copied.
    """

    source: ClassVar[str]  # for the provenance
    unit: str = "bytes"  # what a token is

    def __init__(self, spec: CorpusSpec, data_dir: Path) -> None:
        self._spec = spec
        options = {"layout": _LAYOUT, **self._options()}
        stored = mapped(data_dir, spec.name, options, self._build)
        self._windows = {
            split: as_windows(np.asarray(stored.arrays[split]), spec.window) for split in SPLITS
        }
        for split, windows in self._windows.items():
            if not len(windows):
                raise ValueError(
                    f"{spec.name}: the {split} text of {len(stored.arrays[split])} {self.unit} "
                    f"holds no window of {spec.window} + 1"
                )
        rows = {
            split: window_order(split, spec.split_seed, len(windows))
            for split, windows in self._windows.items()
        }
        super().__init__(spec, stored, rows, labels=None)
        lengths = " / ".join(str(len(stored.arrays[split])) for split in SPLITS)
        self.provenance = f"{self.source}: {lengths} {self.unit} for train / validation / test"

    def _options(self) -> dict[str, Any]:
        """The options that, besides the task's name, decide the stored bytes."""
        return {}

    @abstractmethod
    def _build(self, builder: Builder) -> None:
        """Put one vector of uint8 for each split."""

    def _text(self, tokens: np.ndarray) -> str:
        """`tokens` as readable text."""
        return tokens.astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        windows = self._windows[split][self.pool_rows(split, rows)].astype(np.int64)
        return torch.from_numpy(windows[:, :-1].copy()), torch.from_numpy(windows[:, 1:].copy())

    def _balance(self, split: str) -> dict[str, Any]:
        shown = max(1, _BALANCE_BYTES // (self.info.length + 1))
        rows = self.pool_rows(split, np.arange(min(shown, self.sizes[split])))
        return {"windows": self.sizes[split]} | token_facts(self._windows[split][rows], self.unit)

    def sample(self, directory: str | Path) -> Path:
        """A text file: three windows, as the model reads them and as it must answer."""
        x, y = self.examples("train", np.arange(min(3, self.sizes["train"])))
        lines = [f"{self.name}: {self.provenance}", ""]
        for k in range(len(x)):
            lines += [f"--- window {k}: text of x ({x.shape[1]} {self.unit}) ---"]
            lines += [self._text(x[k].numpy()), ""]
            lines += [f"first tokens of x {x[k, :12].tolist()}"]
            lines += [f"first tokens of y {y[k, :12].tolist()}  (x, one later)", ""]
        path = sample_path(directory, f"{self.name}.txt")
        path.write_text("\n".join(lines), encoding="utf-8")
        return path


class Enwik8(Corpus):
    """The first 10^8 bytes of an English Wikipedia dump, XML and all."""

    source = "enwik8 (Hutter Prize), the first 90, then 5, then 5 %"

    def _build(self, builder: Builder) -> None:
        _put_shares(builder, _one_text(builder, "enwik8.zip", "enwik8"))


class Text8(Corpus):
    """Wikipedia's text in a to z and spaces. Tokens: 0 the space, 1..26 the letters."""

    source = "text8 (cleaned Wikipedia), the first 90, then 5, then 5 %"

    def _build(self, builder: Builder) -> None:
        text = _one_text(builder, "text8.zip", "text8")
        tokens = _SYMBOL_TOKENS[text]
        if tokens.max() == _NO_SYMBOL:
            place = int(np.argmax(tokens == _NO_SYMBOL))
            raise ValueError(
                f"text8.zip: byte {int(text[place])} at {place} is neither a space nor a to z"
            )
        _put_shares(builder, tokens)

    def _text(self, tokens: np.ndarray) -> str:
        return _SYMBOLS[tokens].tobytes().decode("ascii")


class Wikitext103(Corpus):
    """WikiText-103 by bytes, in the splits of its release."""

    source = "WikiText-103 (Merity et al. 2016)"
    _spec: Wikitext103Spec

    def _options(self) -> dict[str, Any]:
        return {"edition": self._spec.edition}

    def _build(self, builder: Builder) -> None:
        edition = self._spec.edition
        name = "wikitext-103-raw-v1.zip" if edition == "raw" else "wikitext-103-v1.zip"
        files = {
            split: f"wiki.{part}.{edition}"
            for split, part in zip(SPLITS, ("train", "valid", "test"), strict=True)
        }
        found = _texts(builder, name, tuple(files.values()))
        for split, file in files.items():
            builder.put(split, found[file])


_SYMBOLS = np.frombuffer(b" abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)
_NO_SYMBOL = 255
_SYMBOL_TOKENS = np.full(256, _NO_SYMBOL, dtype=np.uint8)
_SYMBOL_TOKENS[_SYMBOLS] = np.arange(len(_SYMBOLS))


def _texts(builder: Builder, archive: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """{file name: its bytes, (n,) uint8}, all in one folder; ValueError for what is missing."""
    path = builder.archive(archive)
    pattern = "|".join(map(re.escape, names))
    found = {
        match["key"]: np.frombuffer(file.read(), dtype=np.uint8)
        for match, file in below_one_root(path, pattern, _MAX_TEXT, 2 * _MAX_TEXT)
    }
    for name in names:
        if name not in found or not found[name].size:
            state = "is empty" if name in found else "is missing"
            raise ValueError(f"{path}: {name} {state}")
    return found


def _one_text(builder: Builder, archive: str, name: str) -> np.ndarray:
    return _texts(builder, archive, (name,))[name]


def _put_shares(builder: Builder, text: np.ndarray) -> None:
    """The first 90 % for training, the next 5 % for validation, the rest for the test."""
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    if first == 0 or second == first:
        raise ValueError(f"a text of {len(text)} bytes is too short to be split")
    for split, part in zip(SPLITS, np.split(text, [first, second]), strict=True):
        builder.put(split, part)
