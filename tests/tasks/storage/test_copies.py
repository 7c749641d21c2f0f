"""Copies of data on several machines, which are compared without reading the data."""

import hashlib
import shutil

import numpy as np
import pytest

from harness import tasks
from harness.suite import TaskSpec
from harness.tasks.storage.copies import Copy, DataSet, copy_of, data_set
from harness.tasks.storage.mapped import INDEX
from tests.tasks.own.conftest import sequences


def test_every_data_set_from_archives_is_found_where_it_was_built(specs, built, data_dir):
    stored = {name: spec for name, spec in specs.items() if spec.from_archives}
    assert len(stored) >= 8
    for name, spec in stored.items():
        found = data_set(spec)
        assert data_dir / found.folder == built[name].stored.folder
        assert (found.path, copy_of(found, data_dir).state) == ("", "there")


def test_what_is_generated_or_installed_is_not_asked_for(specs):
    assert [data_set(specs[name]) for name in ("digits", "listops", "pylib", "vowels")] == [
        None
    ] * 4


@pytest.fixture
def fashion(specs, built, data_dir, tmp_path):
    """Fashion-MNIST, and another machine's data folder with a copy of it."""
    found = data_set(specs["fashion"])
    there = tmp_path / "data"
    shutil.copytree(data_dir / found.folder, there / found.folder)
    return found, there


def test_equal_copies_have_one_fingerprint(fashion, data_dir):
    data, there = fashion
    copy = copy_of(data, there)
    assert copy == copy_of(data, data_dir)
    assert len(copy.fingerprint) == 64


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        (lambda folder: shutil.rmtree(folder), "missing"),
        (lambda folder: (folder / INDEX).unlink(), "unusable"),
        (lambda folder: (folder / INDEX).write_text("{}"), "unusable"),
        (lambda folder: next(folder.glob("*.npy")).unlink(), "missing"),
        (lambda folder: next(folder.glob("*.npy")).write_bytes(b"x"), "unusable"),
    ],
)
def test_a_copy_that_cannot_be_used_is_no_copy(fashion, harm, state):
    data, there = fashion
    harm(there / data.folder)
    assert copy_of(data, there) == Copy(state)


def test_a_users_file_must_be_the_one_that_was_planned(tmp_path):
    x, y = sequences()
    file = tmp_path / "mine.npz"
    np.savez(file, x=x, y=y)
    spec = TaskSpec(name="arrays", path=str(file))
    data = data_set(spec)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (data.path, data.sha256) == (str(file), sha256)
    assert copy_of(data, tmp_path) == Copy("missing")
    tasks.build(spec, tmp_path)
    assert copy_of(data, tmp_path).state == "there"
    np.savez(file, x=x + 1, y=y)
    assert copy_of(data, tmp_path) == Copy("changed")
    file.unlink()
    assert copy_of(data, tmp_path) == Copy("unavailable")


def test_a_folder_of_the_users_is_only_looked_for(tmp_path):
    (tmp_path / "sounds").mkdir()
    data = DataSet("audio_folder", "audio_folder/ab", str(tmp_path / "sounds"))
    assert copy_of(data, tmp_path) == Copy("missing")
