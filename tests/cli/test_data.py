"""`harness data`: fetch, check and list of real data, from miniature archives."""

from __future__ import annotations

import json

import pytest
from tasks.miniature import serving, without_checksums, write_mnist

from harness import tasks
from harness.cli.app import execute


@pytest.fixture
def offline(here, monkeypatch):
    without_checksums(monkeypatch)
    return here


def test_fetch_downloads_and_processes(here, monkeypatch, capsys):
    write_mnist(here / "away")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        without_checksums(monkeypatch, server.base)
        server.files |= {path.name: path.read_bytes() for path in (here / "away").iterdir()}
        assert execute(["data", "fetch", "smnist", "--data-dir", "d"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("smnist: {'train': 270, 'validation': 30, 'test': 100}, fingerprint ")
    assert len(err.splitlines()) == 4
    assert len(list((here / "d" / "mnist").glob("*/images.npy"))) == 1
    assert execute(["data", "list", "--data-dir", "d"]) == 0
    size = (here / "d" / "downloads" / "t10k-images-idx3-ubyte.gz").stat().st_size / 1e6
    listed = capsys.readouterr().out
    assert f"archive: t10k-images-idx3-ubyte.gz, here, {size:.3g} MB" in listed


def test_check_verifies_describes_and_shows(offline, capsys):
    write_mnist(offline / "data" / "downloads")
    options = ["--set", "time_channel=true", "--set", "test=30"]
    assert execute(["data", "check", "psmnist", *options]) == 0
    *lines, path = capsys.readouterr().out.splitlines()
    summary = json.loads("\n".join(lines))
    assert summary["sizes"] == {"train": 270, "validation": 30, "test": 30}
    assert sum(summary["balance"]["train"]["classes"]) == 270
    assert len(summary["archives"]["t10k-images-idx3-ubyte.gz"]) == 64
    assert (offline / path).read_bytes().startswith(b"\x89PNG")
    (labels,) = (offline / "data" / "mnist").glob("*/labels.npy")
    labels.write_bytes(labels.read_bytes()[:-1] + b"\xff")
    assert execute(["data", "check", "smnist"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "labels.npy is damaged: its SHA-256 is" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("smnist", "--set", "time_channel"), "--set needs FIELD=VALUE"),
        (("smnist", "--set", "time_chanel=true"), "time_chanel"),
        (("smnist", "--set", "time_channel=7"), "time_channel"),
        (("scifar", "--set", "grayscale=true"), 'grayscale needs scaling "unit"'),
        (("digits", "--set", "name=vowels"), "the task's name comes first"),
    ],
)
def test_options_that_are_none(refusal, arguments, says):
    assert says in refusal("data", "check", *arguments)


def test_without_a_network_one_line_says_what_to_do(offline, capsys):
    assert execute(["data", "fetch", "scifar", "--data-dir", "d"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "harness: cifar-10-binary.tar.gz is not here and could not be downloaded (127.0.0.1: "
        f"cannot be reached): put it into {offline / 'd' / 'downloads'} (CIFAR-10's binary "
        "version, not the one for Python)\n"
    )


@pytest.mark.parametrize("suite", ["paper.smnist", "paper.listops"])
def test_a_suite_whose_data_cannot_be_had_is_refused_before_it_starts(suite, offline, capsys):
    assert execute(["run", suite, "--store", "store"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "is not here and could not be downloaded" in err
    assert ("task.source=generated" in err) == (suite == "paper.listops")
    assert len(err.splitlines()) == 1
    assert not list((offline / "store").glob("*/*"))


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def sealed(folder):
    """Make the places unusable that a writer would use, for root, too, whom no mode stops."""
    for lock in folder.rglob("*.lock"):
        lock.unlink()
        lock.mkdir()
    (folder / "samples").write_text("in the way")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("smnist", []),
        ("vowels", ["length=64", "train=10", "validation=10", "test=10"]),
        ("listops", ["train=9", "validation=5", "test=5", "min_length=3", "max_length=50"]),
        ("mqar", ["train=9", "validation=5", "test=5"]),
    ],
)
def test_check_needs_to_write_nothing(offline, capsys, name, settings):
    """Before, it took the lock of a download, and ended without having described the data."""
    write_mnist(offline / "data" / "downloads")
    options = [name, *(word for setting in settings for word in ("--set", setting))]
    assert execute(["data", "fetch", *options]) == 0
    sealed(offline / "data")
    before = everything(offline / "data")
    tasks._build.cache_clear()
    capsys.readouterr()
    assert execute(["data", "check", *options]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == name
    (line,) = err.splitlines()
    assert line.startswith(f"{name}: the data are verified; no sample was written: cannot write a")
    assert everything(offline / "data") == before


def test_check_still_looks_at_the_archives(offline, capsys):
    write_mnist(offline / "data" / "downloads")
    assert execute(["data", "fetch", "smnist"]) == 0
    path = offline / "data" / "downloads" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"x")
    capsys.readouterr()
    assert execute(["data", "check", "smnist"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "t10k-labels-idx1-ubyte.gz is not what it was" in err


def test_a_sample_that_cannot_be_replaced_is_said(offline, capsys):
    sample = offline / "data" / "samples" / "digits.png"
    sample.mkdir(parents=True)
    assert execute(["data", "check", "digits"]) == 0
    assert "no sample was written: " in capsys.readouterr().err
    sample = offline / "data" / "samples" / "vowels.wav"
    sample.mkdir()
    small = ["length=64", "train=10", "validation=10", "test=10"]
    options = [word for setting in small for word in ("--set", setting)]
    assert execute(["data", "check", "vowels", *options]) == 0
    assert "vowels.wav: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "fetch", "check"])
def test_a_home_is_expanded(here, monkeypatch, capsys, verb):
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    name = [] if verb == "list" else ["vowels"]
    small = ["length=64", "train=10", "validation=10", "test=10"]
    options = [word for setting in small for word in ("--set", setting)] if name else []
    assert execute(["data", verb, *name, *options, "--data-dir", "~/d"]) == 0
    assert list((here / "work").iterdir()) == []
    assert (here / "home" / "d" / "vowels").is_dir() == bool(name)


def test_values_of_megabytes_are_cut(refusal):
    for arguments in (
        ("data", "check", "x" * 10**6),
        ("data", "check", "digits", "--set", "y" * 10**6),
        ("data", "check", "vowels", "--set", "train=" + "9" * 10**5),
        ("data", "check", "vowels", "--set", "train=" + "[" * 10**5),
    ):
        assert len(refusal(*arguments)) < 2000


def test_list_goes_on_where_something_is_broken(here, capsys):
    folder = here / "data" / "vowels" / "0123"
    folder.mkdir(parents=True)
    (folder / "train.npz").symlink_to("/nowhere/train.npz")
    (folder / "loop.npz").symlink_to(folder / "loop.npz")
    (here / "data" / "downloads").mkdir()
    (here / "data" / "downloads" / "text8.zip").symlink_to("text8.zip")
    index = here / "data" / "sc10" / "0123" / "index.json"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"[" * 10**5)
    assert execute(["data", "list"]) == 0
    out = capsys.readouterr().out
    for path in (folder / "train.npz", folder / "loop.npz", index.parent):
        assert f"here: {path}, damaged" in out
    assert "archive: text8.zip, not here" in out
