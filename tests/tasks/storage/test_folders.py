"""Where data live, and whether there is room: folders that users name, memory, and what is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import tasks
from harness.tasks import progress_lines
from harness.tasks.sound import vowel_synthesis
from harness.tasks.specs import PathfinderGeneratedSpec


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    return tmp_path / "home"


SMALL = tasks.VowelsSpec(name="vowels", length=64, train=10, validation=10, test=10)


def test_a_home_is_expanded_wherever_the_folder_is_named(home, monkeypatch):
    """Before, a folder called ~ came into being below the working directory."""
    tasks.build(SMALL, "~/a")
    tasks.build(SMALL, Path("~/b"))
    monkeypatch.setenv("HARNESS_DATA", "~/c")
    tasks.build(SMALL)
    assert tasks.default_data_dir() == home / "c"
    assert sorted(path.name for path in home.iterdir()) == ["a", "b", "c"]
    assert all((home / name / "vowels").is_dir() for name in "abc")
    assert list(Path.cwd().iterdir()) == []


def test_workers_get_the_expanded_folder(home, monkeypatch):
    from harness.launch.driver import _environment

    assert _environment("local", Path("~/d"))["HARNESS_DATA"] == str(home / "d")
    monkeypatch.setenv("HARNESS_DATA", "~/e")
    assert _environment("local", None)["HARNESS_DATA"] == str(home / "e")


@pytest.mark.parametrize("name", ["~nosuchuser/d", "", " ", "a\0b"])
def test_a_folder_that_is_none_is_one_clear_line(home, name):
    with pytest.raises(ValueError, match="the data folder's path") as told:
        tasks.build(SMALL, name)
    assert "\n" not in str(told.value)
    assert list(Path.cwd().iterdir()) == []


def test_without_a_home_no_folder_called_so_is_left(home, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # a user whom nobody knows
    monkeypatch.setenv("HARNESS_DATA", "~/d")
    with pytest.raises(ValueError, match="HARNESS_DATA's path '~/d': there is no such user"):
        tasks.build(SMALL)
    assert list(Path.cwd().iterdir()) == []


def test_a_working_directory_that_is_gone(home):
    os.rmdir(Path.cwd())
    with pytest.raises(ValueError, match=r"the working directory is gone, .* data folder d below"):
        tasks.build(SMALL, "d")
    assert tasks.data_folder(home / "d") == home / "d"


@pytest.mark.parametrize(
    "spec",
    [
        tasks.VowelsSpec(name="vowels", length=160_000, train=10_000_000),
        tasks.ListopsSpec(
            name="listops", train=10_000_000, min_length=99_000, max_length=100_000, length=10**6
        ),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_made(tmp_path, spec, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("psutil.virtual_memory", lambda: _Memory(16 * 10**9))
        patch.setattr("psutil.swap_memory", lambda: _Memory(0))
        with pytest.raises(ValueError, match=r"its data take .* of memory at least, and this") as e:
            tasks.build(spec, tmp_path)
    assert "16000" in str(e.value) or "1.6e+04 MB" in str(e.value)
    assert list(tmp_path.iterdir()) == []


class _Memory:
    def __init__(self, total: int) -> None:
        self.total = total


@pytest.mark.parametrize(
    "spec",
    [
        tasks.VowelsSpec(name="vowels", train=10_000_000),
        tasks.ListopsSpec(name="listops", train=10_000_000),
        PathfinderGeneratedSpec(name="pathfinder_generated", resolution=128, train=10_000_000),
    ],
)
def test_what_no_disk_holds_is_refused_before_it_is_made(tmp_path, spec, monkeypatch):
    """The most examples that a spec takes."""
    monkeypatch.setattr(tasks, "check_memory", lambda name, size: None)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: _Disk(10**9))
    with pytest.raises(ValueError, match=r"no room for .* MB under .*: 1e\+03 MB are free"):
        tasks.build(spec, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


class _Disk:
    def __init__(self, free: int) -> None:
        self.free = free


def test_memory_that_runs_out_is_one_clear_line(tmp_path, monkeypatch):
    def short(*_):
        raise MemoryError

    monkeypatch.setattr(vowel_synthesis, "synthesise", short)
    with pytest.raises(ValueError, match="vowels: there is not enough memory for its data"):
        tasks.build(SMALL, tmp_path)
    assert not list(tmp_path.rglob("*.npz*"))


@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        tasks.ListopsSpec(
            name="listops", train=3000, validation=5, test=5, min_length=3, max_length=50, length=50
        ),
        PathfinderGeneratedSpec(name="pathfinder_generated", train=6, validation=2, test=2),
    ],
)
def test_making_data_says_how_far_it_is(tmp_path, monkeypatch, capsys, spec):
    """Before, all but Pathfinder's were silent for as long as it took."""
    monkeypatch.setattr(progress_lines.ProgressLines, "every", 0.0)
    tasks.build(spec, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    for line in lines:
        assert line.startswith(f"{spec.name}: ")
        assert line.endswith(" left")
        assert " a second, " in line


def test_how_far_it_is(monkeypatch, capsys):
    progress = progress_lines.ProgressLines("x", "images", 300)
    progress(100)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "every", 0.0)
    progress(100)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("x: 200 of 300 images, ")
    assert line.endswith(" s left")
