"""pylib: which files, how they are split, and that y is x one byte later."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.tasks import PylibSpec, build
from harness.tasks.text.pylib import read_corpus, split_files


def test_y_is_x_one_byte_later_and_both_are_in_the_text(built):
    task = built["pylib"]
    root = Path(sysconfig.get_paths()["stdlib"])
    for split, size in task.sizes.items():
        text = b"".join((root / name).read_bytes() + b"\0" for name in task.files[split])
        x, y = task.examples(split, np.arange(min(size, 20)))
        for before, after in zip(x.tolist(), y.tolist(), strict=True):
            assert before[1:] == after[:-1]
            assert bytes([*before, after[-1]]) in text


def test_files_are_split_without_overlap_and_none_is_lost(built):
    files = built["pylib"].files
    every = files["train"] + files["validation"] + files["test"]
    corpus = read_corpus(Path(sysconfig.get_paths()["stdlib"]))
    assert sorted(every) == sorted(corpus)
    assert len(files["train"]) == round(0.8 * len(corpus))
    assert split_files(sorted(corpus), 0) == files
    assert split_files(sorted(corpus), 1) != files


def test_windows_do_not_overlap(data_dir):
    task: Any = build(PylibSpec(name="pylib", train=None, validation=None, test=None), data_dir)
    root = Path(sysconfig.get_paths()["stdlib"])
    text = sum((root / name).stat().st_size + 1 for name in task.files["test"])
    assert task.sizes["test"] == text // 257
    assert task.sizes["train"] > 1000


def test_a_smaller_cap_is_a_prefix(built, data_dir):
    spec = PylibSpec(name="pylib", window=64, train=100, validation=50, test=60)
    few = build(spec, data_dir)
    rows = np.arange(100)
    assert (few.examples("train", rows)[0] == built["pylib"].examples("train", rows)[0]).all()


def test_more_windows_than_there_are_is_refused(data_dir):
    spec = PylibSpec(name="pylib", test=9_999_999)
    with pytest.raises(ValueError, match=r"pylib has \d+ test windows .* asked for 9999999"):
        build(spec, data_dir)


def test_what_is_not_the_librarys_own_source_is_left_out(tmp_path):
    for name in (
        "a.py",
        "pkg/b.py",
        "pkg/test/t.py",
        "pkg/tests/t.py",
        "site-packages/s.py",
        "__pycache__/c.py",
        "config-3.11-x/python-config.py",
        "_sysconfigdata__linux.py",
        "pkg/data.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "linked").symlink_to(tmp_path / "pkg")
    assert read_corpus(tmp_path) == {"a.py": b"a.py", "pkg/b.py": b"pkg/b.py"}
    with pytest.raises(ValueError, match="no source text"):
        read_corpus(tmp_path / "nothing")
