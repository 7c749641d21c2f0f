"""Small versions of the tasks, built once; those of real data from miniature archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import tasks
from harness.tasks import specs as specs_of

from . import miniature, miniature_media, miniature_text

EMBEDDED: dict[str, tasks.TaskSpecBase] = {
    "copying": specs_of.CopyingSpec(name="copying", length=24, train=120, validation=40, test=50),
    "digits": tasks.DigitsSpec(name="digits"),
    "induction": specs_of.InductionSpec(
        name="induction", length=24, trained="every_step", train=120, validation=40, test=50
    ),
    "listops": tasks.ListopsSpec(
        name="listops", train=400, validation=50, test=60, min_length=5, max_length=64, length=64
    ),
    "mqar": specs_of.MqarSpec(
        name="mqar", length=40, pairs=8, vocabulary=64, train=120, validation=40, test=50
    ),
    "pylib": tasks.PylibSpec(name="pylib", window=64, train=200, validation=50, test=60),
    "selective_copying": specs_of.SelectiveCopyingSpec(
        name="selective_copying", length=24, train=120, validation=40, test=50
    ),
    "vowels": tasks.VowelsSpec(name="vowels", length=256, train=120, validation=40, test=50),
}
MODULES = (miniature, miniature_text, miniature_media)
SMALL = EMBEDDED | {name: spec for module in MODULES for name, spec in module.SPECS.items()}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def specs() -> dict[str, tasks.TaskSpecBase]:
    return SMALL


@pytest.fixture(scope="session")
def built(data_dir: Path) -> dict[str, tasks.Task]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        miniature.without_checksums(monkeypatch)
        for module in MODULES:
            module.write_all(data_dir / "downloads")
        return {name: tasks.build(spec, data_dir) for name, spec in SMALL.items()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[miniature.Server]:
    """A local server that is the only mirror of every archive, none with a known checksum."""
    from harness.tasks.storage import transfer

    monkeypatch.setattr(transfer, "_PATIENCE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HARNESS_DATA_MIRROR", raising=False)
    monkeypatch.delenv("HARNESS_DATA_UNCHECKED", raising=False)
    with miniature.serving() as state:
        miniature.without_checksums(monkeypatch, state.base)
        yield state
