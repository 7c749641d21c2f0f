"""`arrays`: files of each wrong kind, one line each; nothing is written."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from harness.cli.app import execute

from .conftest import sequences

X, Y = sequences()


def with_nan():
    x = X.copy()
    x[7, 3, 1] = np.nan
    return x


def lying():
    """An .npz whose x announces more than it has."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 12, 2)}
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("x.npy", header.getvalue())
        file.writestr("y.npy", header.getvalue())
    return content.getvalue()


def saved(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


RAGGED = np.empty(3, dtype=object)
RAGGED[:] = [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]]
SPLIT = np.repeat(["train", "test"], 30)
WRONG = {
    "nothing": (b"", {}, "mine.npz is damaged, cut off or no .npz file"),
    "text": (b"hello", {}, "mine.npz is damaged, cut off or no .npz file: File is not a zip file"),
    "cut off": (saved(x=X, y=Y)[:-300], {}, "mine.npz is damaged, cut off or no .npz file"),
    "lying": (lying(), {}, "x announces 96000000000 bytes and has"),
    "no x": (saved(a=X, y=Y), {}, "mine.npz has no array x; it has a, y"),
    "no y": (saved(x=X, labels=Y), {}, "mine.npz has no array y; it has x, labels"),
    "objects": (saved(x=RAGGED, y=Y[:3]), {}, "x holds Python objects, which are never unpickled"),
    "object labels": (saved(x=X, y=Y.astype(object)), {}, "y holds Python objects"),
    "complex": (saved(x=X.astype(complex), y=Y), {}, "x has dtype complex128"),
    "text in x": (saved(x=np.full((60, 12, 2), "a"), y=Y), {}, "x has dtype <U1, not integers"),
    "one axis": (saved(x=X[:, 0, 0], y=Y), {}, r"x has shape (60,) of float32, not (n, length,"),
    "no channels": (saved(x=X[..., 0], y=Y), {}, "one channel is x[:, :, None]"),
    "empty": (saved(x=X[:0], y=Y[:0]), {}, "x is empty, of shape (0, 12, 2)"),
    "too few labels": (saved(x=X, y=Y[1:]), {}, "y has shape (59,), and x (60, 12, 2)"),
    "labels of steps": (
        saved(x=X, y=np.zeros((60, 12), int)), {},
        'y has shape (60, 12); to predict a class per="sequence" it is (60,)',
    ),
    "labels of sequences": (
        saved(x=X, y=Y), {"per": "step"},
        'y has shape (60,); to predict a class per="step" it is (60, 12)',
    ),
    "real labels": (saved(x=X, y=Y * 1.0), {}, "y has dtype float64, not integers or text"),
    "text as values": (saved(x=X, y=Y.astype(str)), {"predict": "value"}, "y has dtype <U"),
    "NaN in y": (saved(x=X, y=np.where(Y, 1.0, np.nan)), {"predict": "value"}, "is NaN or infini"),
    "one class": (saved(x=X, y=Y * 0), {}, "y holds one class only, 0"),
    "new in test": (saved(x=X, y=np.where(np.arange(60) == 59, 7, Y), split=SPLIT), {},
        "class 7 is in the test split and not in training"),
    "short": (saved(x=X[:2], y=Y[:2]), {}, "of 2 examples none are left for train"),
    "split of another word": (saved(x=X, y=Y, split=np.repeat(["train", "dev"], 30)), {},
        "split holds 'dev', not train, validation, test"),
    "split of numbers": (saved(x=X, y=Y, split=Y), {}, "split has shape (60,) of int64"),
    "lengths beyond": (saved(x=X, y=Y, lengths=np.full(60, 13)), {}, "outside 1..12"),
    "lengths of none": (saved(x=X, y=Y, lengths=np.zeros(60, int)), {}, "outside 1..12"),
    "real lengths": (saved(x=X, y=Y, lengths=np.full(60, 3.0)), {}, "lengths has shape (60,) of"),
    "ragged steps": (
        saved(x=X, y=np.zeros((60, 12)), lengths=np.arange(60) % 12 + 1),
        {"predict": "value", "per": "step"}, "different lengths have no target at every step",
    ),
    "negative token": (saved(x=np.full((60, 12), -1)), {"predict": "next_step"}, "token -1"),
    "one token": (saved(x=np.zeros((60, 12), int)), {"predict": "next_step"}, "one token only"),
    "columns": (saved(x=X, y=Y), {"x_columns": ["u"]}, "x_columns is for tables"),
    "shares": (saved(x=X, y=Y), {"test_share": 0.95}, "leave nothing to train on"),
    "NaN": (saved(x=with_nan(), y=Y), {}, "sequence 8 is NaN or infinite at step 4, channel 2"),
    "beyond float32": (saved(x=X * np.float64(1e300), y=Y), {}, "beyond single precision"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_of_each_wrong_kind(here, capsys, name):
    content, fields, says = WRONG[name]
    (here / "mine.npz").write_bytes(content)
    settings = [f"{key}={value}" for key, value in fields.items()]
    settings = [s.replace("'", '"') for s in ("path=mine.npz", *settings)]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert execute(["data", "check", "arrays", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness: ")
    assert err.count("\n") == 1
    assert says in err
    assert not list(here.rglob("index.json"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nosuch.npz", "nosuch.npz does not exist"),
        ("", "the data's path is empty"),
        ("mine.txt", "mine.txt is none of .npz, .parquet, .csv"),
        ("folder", "folder holds no file of .npz, .parquet, .csv"),
        ("mixed", "mixed/1.npz (file 2 of 2): x has shape (60, 12, 1), and in"),
        ("torn", "torn/2.npz (file 3 of 3) is damaged, cut off or no .npz file"),
        ("lengths", "has sequences of 11 steps"),
        ("~nobody-at-all/x.npz", "there is no such user"),
    ],
)
def test_a_path_of_each_wrong_kind(here, capsys, path, says):
    (here / "mine.txt").write_text("x")
    for name in ("folder", "mixed", "torn", "lengths"):
        (here / name).mkdir()
    for number in range(3):
        (here / "torn" / f"{number}.npz").write_bytes(saved(x=X, y=Y)[: None if number < 2 else 99])
    for number in range(2):
        (here / "mixed" / f"{number}.npz").write_bytes(saved(x=X[..., : 2 - number], y=Y))
        (here / "lengths" / f"{number}.npz").write_bytes(saved(x=X[:, number:], y=Y))
    assert execute(["data", "check", "arrays", "--set", f"path={path}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
    assert not (here / "data").exists()
