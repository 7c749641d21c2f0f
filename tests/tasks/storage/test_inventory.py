"""The list of data sets: all tasks, from names and files alone, without reading data."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import tasks
from harness.tasks.storage.inventory import data_lines

from ..miniature import SPECS, without_checksums, write_mnist


def blocks(data_dir):
    """{task: its lines, without the first}."""
    found = {}
    for line in data_lines(data_dir):
        if not line.startswith(" "):
            name = line.split()[0]
            found[name] = []
        else:
            found[name].append(line.strip())
    return found


def test_an_empty_folder(tmp_path):
    found = blocks(tmp_path / "nosuch")
    assert list(found) == tasks.names()
    for kind in tasks.TASK_SPECS:
        name = kind.model_fields["name"].annotation.__args__[0]
        lines = found[name]
        assert lines[0] == f"from: {kind.origin}"
        assert [line for line in lines if line.startswith("archive:")] == lines[1:-1]
        assert len(lines) == 2 + len(kind.archives)
        assert all(line.endswith(", not here") for line in lines[1:-1])
        assert lines[-1].startswith("here: yes, as installed" if kind.installed else "here: no")
    assert not (tmp_path / "nosuch").exists()
    assert found["listops"][1] == "archive: lra_release.gz (only for source=lra), not here"


def test_what_is_here(tmp_path, monkeypatch):
    without_checksums(monkeypatch)
    write_mnist(tmp_path / "downloads")
    (tmp_path / "downloads" / "lra_release.gz.part").write_bytes(bytes(2_000_000))
    task = tasks.build(SPECS["smnist"], tmp_path)
    found = blocks(tmp_path)
    checksum = task.stored.checksums["images"][:16]
    for name in ("smnist", "psmnist"):
        # 400 images of 784 bytes, 400 labels, two headers of 128 bytes: 314,256 bytes
        assert found[name][-1] == (
            f'here: {task.stored.folder}, 0.314 MB, images sha256 {checksum}, of {{"build": 1}}'
        )
        archive = tmp_path / "downloads" / "train-images-idx3-ubyte.gz"
        size = archive.stat().st_size / 1e6
        assert found[name][1] == f"archive: {archive.name}, here, {size:.3g} MB"
    assert found["aan"][1] == "archive: lra_release.gz, 2 MB of it here"
    for name in ("imdb", "sc10"):  # what is kept is found under its name
        index = tmp_path / name / "0123" / "index.json"
        index.parent.mkdir(parents=True)
        index.write_text('{"arrays": {"x": {"bytes": 1000, "sha256": "ab"}}, "options": {}}')
        assert blocks(tmp_path)[name][-1] == f"here: {index.parent}, 0.001 MB, x sha256 ab, of {{}}"
    (task.stored.folder / "index.json").write_text("{}")
    assert blocks(tmp_path)["smnist"][-1] == f"here: {task.stored.folder}, damaged"


@pytest.mark.parametrize("module", ["torch", "scipy", "pooch", "requests", "matplotlib"])
def test_listing_imports_nothing_heavy(module, loaded):
    assert module not in loaded


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The modules loaded by `harness data list`."""
    code = (
        "import sys; from harness.cli.app import execute; "
        f"execute(['data', 'list', '--data-dir', {str(tmp_path_factory.mktemp('d'))!r}]); "
        "print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return shown.stdout.splitlines()[-1].split()
