"""`text_file`: the next byte or character of the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.tasks.own.checks import check_same, check_unchanged, facts
from harness.tasks.own.content import content_sha256, files_of
from harness.tasks.own.texts import alphabet, parts, read
from harness.tasks.specs.own import Content, TextFileSpec
from harness.tasks.storage.builder import Builder
from harness.tasks.text.corpora import Corpus
from harness.tools.inputs import cut

_BUILD = 1  # increase when the arrays change


class TextFile(Corpus):
    """Windows of bytes, or of characters numbered in the order of their code points."""

    source = "the user's own text"
    _spec: TextFileSpec

    def __init__(self, spec: TextFileSpec, data_dir: Path) -> None:
        self._path, self.unit = Path(spec.path), f"{spec.by}s"
        check_unchanged(spec, content_sha256(self._path, files_of(self._path)))
        super().__init__(spec, data_dir)
        check_same(spec, self.stored.notes["content"])
        self.provenance += f", of {cut(spec.path)}, SHA-256 {spec.seen('sha256')}"

    def _options(self) -> dict[str, Any]:
        spec = self._spec
        options = {"build": _BUILD, "content": spec.seen("sha256"), "by": spec.by}
        options |= {"split_by": spec.split_by, "shares": [spec.validation_share, spec.test_share]}
        return options | ({"split_seed": spec.split_seed} if spec.split_by == "file" else {})

    def _build(self, builder: Builder) -> None:
        spec, files = self._spec, files_of(self._path)
        sha256 = content_sha256(self._path, files)
        check_unchanged(spec, sha256)
        texts = read(spec, self._path, files)
        content = Content(path=str(self._path), sha256=sha256)
        tokens = None
        if spec.by == "character":
            symbols = alphabet(self._path, texts)
            content = content.model_copy(update={"vocabulary": len(symbols)})
            tokens = np.zeros(int(symbols[-1]) + 1, dtype=np.min_scalar_type(len(symbols) - 1))
            tokens[symbols] = np.arange(len(symbols))
            builder.put("alphabet", symbols)
        for split, part in parts(spec, self._path, files, texts).items():
            builder.put(split, part if tokens is None else tokens[part])
        check_unchanged(spec, content_sha256(self._path, files_of(self._path)))
        builder.notes |= {
            "path": str(self._path),
            "content": facts(content),
            "files": len(files),
        }

    def _text(self, tokens: np.ndarray) -> str:
        if self._spec.by == "byte":
            return super()._text(tokens)
        points = np.asarray(self.stored.arrays["alphabet"])[tokens]
        return points.astype("<u4").tobytes().decode("utf-32-le")
