"""Small versions of the four tasks, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import tasks

SMALL: dict[str, tasks.TaskSpecBase] = {
    "digits": tasks.DigitsSpec(name="digits"),
    "listops": tasks.ListopsSpec(
        name="listops", train=400, validation=50, test=60, min_length=5, max_length=64, length=64
    ),
    "pylib": tasks.PylibSpec(name="pylib", window=64, train=200, validation=50, test=60),
    "vowels": tasks.VowelsSpec(name="vowels", length=256, train=120, validation=40, test=50),
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def specs() -> dict[str, tasks.TaskSpecBase]:
    return SMALL


@pytest.fixture(scope="session")
def built(data_dir: Path) -> dict[str, tasks.Task]:
    return {name: tasks.build(spec, data_dir) for name, spec in SMALL.items()}
