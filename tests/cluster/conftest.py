"""The description that comes with the project, and files rendered from it or from changes to it."""

import tomllib
from pathlib import Path

import pytest

from harness.cluster import Cluster, render

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "cluster" / "example.toml"


def described(**changes):
    """The example with fields replaced; None leaves one out."""
    content = tomllib.loads(EXAMPLE.read_text()) | changes
    return Cluster.model_validate({k: v for k, v in content.items() if v is not None})


def workers(**changes):
    """The example's group of workers with fields replaced; None leaves one out."""
    group = tomllib.loads(EXAMPLE.read_text())["workers"][0] | changes
    return {k: v for k, v in group.items() if v is not None}


@pytest.fixture
def rendered():
    """`rendered(target, **changes)`: the files, by name."""
    return lambda target, **changes: render(described(**changes), target)
