"""ListOps as the Long Range Arena released it: three tables of expressions with their values.

Each line is Source<tab>Target, after a header. Source is a binary tree in parentheses, such as
`( ( ( [MAX 2 ) 9 ) ] )`; they are dropped, `]` becomes X, and what spaces separate are the tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.tasks.listops import trees
from harness.tasks.storage.download import UnavailableError
from harness.tasks.storage.lra_tables import Table, tables
from harness.tasks.storage.mapped import Builder, Mapped, mapped

TABLES = {
    "test": "basic_test.tsv",
    "validation": "basic_val.tsv",
    "train": "basic_train.tsv",
}

_HEADER = b"Source\tTarget"
_WITHOUT_PARENTHESES = bytes.maketrans(b"]", b"X")
_TOKENS = {symbol.encode(): token for token, symbol in enumerate(trees.SYMBOLS)}
_IN_A_TREE = {word: token for word, token in _TOKENS.items() if token >= trees.DIGIT}
_LAYOUT = 1  # increase when the arrays change


def released(data_dir: Path) -> Mapped:
    """tokens (total,) uint8, ends (count,) int64, labels (count,) uint8 as the generator's, the
    splits in the order of `TABLES`; notes: {"counts": {split: expressions}}.

    Raises ValueError if the tables are missing or wrong.
    """
    options = {"source": "lra", "layout": _LAYOUT}
    try:
        return mapped(data_dir, "listops", options, lambda builder: _build(builder, data_dir))
    except UnavailableError as error:
        raise UnavailableError(f"{error}; or task.source=generated, by the same rules") from error


def tokens_of(source: bytes) -> bytes:
    """The tokens of one expression, a byte each, without an end mark; KeyError names a symbol
    that has none."""
    words = source.translate(_WITHOUT_PARENTHESES, b"()").split()
    return bytes([_IN_A_TREE[word] for word in words])


def _build(builder: Builder, data_dir: Path) -> None:
    _, parts = tables(builder, data_dir, tuple(TABLES.values()), _read)
    in_order = [parts[name] for name in TABLES.values()]
    lengths = np.concatenate([[len(t) for t in tokens] for tokens, _ in in_order])
    builder.put("tokens", np.frombuffer(b"".join(b"".join(t) for t, _ in in_order), dtype=np.uint8))
    builder.put("ends", np.cumsum(lengths, dtype=np.int64))
    builder.put("labels", np.concatenate([labels for _, labels in in_order]))
    builder.notes["counts"] = {split: len(parts[name][1]) for split, name in TABLES.items()}


def _read(table: Table) -> tuple[list[bytes], np.ndarray]:
    """The tokens of each expression, and (count,) uint8 values."""
    lines = table.lines()
    if next(lines, (1, b""))[1] != _HEADER:
        raise table.error(1, "expected the header Source<tab>Target")
    tokens, labels = [], []
    for number, line in lines:
        source, tab, target = line.partition(b"\t")
        if not tab or target not in _TOKENS or not target.isdigit():
            raise table.error(number, "expected an expression, a tab and a value 0 to 9")
        try:
            tokens.append(tokens_of(source))
        except KeyError as error:
            symbol = error.args[0].decode("utf-8", errors="replace")[:20]
            raise table.error(number, f"unknown symbol {symbol!r}") from error
        if not tokens[-1]:
            raise table.error(number, "no expression")
        labels.append(int(target))
    if not labels:
        raise ValueError(f"{table.name} holds no expression")
    return tokens, np.array(labels, dtype=np.uint8)
