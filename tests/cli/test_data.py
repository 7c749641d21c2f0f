"""`harness data`: fetch, check and list of real data, from miniature archives."""

from __future__ import annotations

import json

import pytest
from tasks.miniature import serving, without_checksums, write_mnist

from harness.cli import execute


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
