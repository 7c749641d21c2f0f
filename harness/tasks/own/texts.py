"""Files of `text_file`: bytes or characters of one or several files, and their splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.tasks.base import SPLITS
from harness.tasks.own.content import content_sha256, files_of, numbered
from harness.tasks.own.splits import named_splits
from harness.tasks.specs.own import Content, TextFileSpec
from harness.tasks.storage.capacity import check_memory
from harness.tools.inputs import cut, os_reason

_UNICODE = 0x110000
_MOST_TOKENS = 1 << 16


def look(spec: TextFileSpec, path: Path) -> Content:
    """What the files at `path` hold. Writes nothing."""
    files = files_of(path)
    sha256 = content_sha256(path, files)
    texts = read(spec, path, files)
    sizes = {}
    for split, tokens in parts(spec, path, files, texts).items():
        sizes[split] = len(tokens) // (spec.window + 1)
        if not sizes[split]:
            raise ValueError(
                f"{cut(str(path))}: the {split} text of {len(tokens)} {spec.by}s holds no window "
                f"of {spec.window} + 1"
            )
    return Content(
        path=str(path),
        sha256=sha256,
        train=sizes["train"],
        validation=sizes["validation"],
        vocabulary=len(alphabet(path, texts)) if spec.by == "character" else None,
    )


def read(spec: TextFileSpec, path: Path, files: list[Path]) -> list[np.ndarray]:
    """For each file its bytes, (n,) uint8, or the code points of its characters, (n,) uint32.

    Raises ValueError with one line that names a file that cannot be read or is not UTF-8.
    """
    try:
        check_memory(spec.name, sum(file.stat().st_size for file in files))
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    return [_read(spec, files[k], numbered(path, files, k)) for k in range(len(files))]


def _read(spec: TextFileSpec, file: Path, where: str) -> np.ndarray:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from None
    if spec.by == "byte":
        return np.frombuffer(content, dtype=np.uint8)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8 text: byte {error.start} is {content[error.start]:#04x}; "
            'by="byte" takes any file'
        ) from None
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def alphabet(path: Path, texts: list[np.ndarray]) -> np.ndarray:
    """(vocabulary,) uint32: the code points that occur, ascending; token k is the k-th."""
    seen = np.zeros(_UNICODE, dtype=bool)
    for text in texts:
        seen[text] = True
    found = np.flatnonzero(seen).astype(np.uint32)
    if len(found) < 2 or len(found) > _MOST_TOKENS:
        what = "1 character only" if len(found) == 1 else f"{len(found)} different characters"
        raise ValueError(f"{cut(str(path))} holds {what}: not 2 to {_MOST_TOKENS}")
    return found


def parts(
    spec: TextFileSpec, path: Path, files: list[Path], texts: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """{split: its bytes or code points}: by position of all files together, or by file."""
    if spec.split_by == "position":
        whole = np.concatenate(texts)
        held, tested = (round(s * len(whole)) for s in (spec.validation_share, spec.test_share))
        first, second = len(whole) - held - tested, len(whole) - tested
        return dict(zip(SPLITS, np.split(whole, [first, second]), strict=True))
    split_of = named_splits(path, files)
    if split_of is None:
        split_of = _drawn(spec, path, len(files))
    found = {}
    for code, split in enumerate(SPLITS):
        own = [text for text, of in zip(texts, split_of, strict=True) if of == code]
        if not own:
            raise ValueError(f"{cut(str(path))}: of {len(files)} files none is for {split}")
        found[split] = np.concatenate(own)
    return found


def _drawn(spec: TextFileSpec, path: Path, count: int) -> list[int]:
    """The split of each file, as an index into SPLITS."""
    held, tested = (max(1, round(s * count)) for s in (spec.validation_share, spec.test_share))
    if held + tested >= count:
        raise ValueError(
            f'{cut(str(path))}: {count} files cannot be split by file; split_by="position" splits '
            "what they hold"
        )
    codes = np.zeros(count, dtype=np.int64)
    order = np.random.default_rng(spec.split_seed).permutation(count)
    codes[order[:held]], codes[order[held : held + tested]] = 1, 2
    return [int(code) for code in codes]
