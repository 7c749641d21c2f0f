"""Shared by all tests: one thread, so that sums and timings do not depend on the machine."""

import os
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent / "reduction"))


@pytest.fixture
def plugged(monkeypatch):
    """What a test registers is gone after it; it begins with nothing but ours."""
    from harness import spec
    from harness.arms import ARM_UNION, in_training, rank_rules
    from harness.models.specs import MODEL_UNION
    from harness.plugins import registry
    from harness.suite import bring
    from harness.tasks.specs import TASK_UNION

    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(bring, "_brought", set())
    monkeypatch.setattr(spec, "_faults", None)
    monkeypatch.setattr(rank_rules, "RULES", rules := dict(rank_rules.RULES))
    monkeypatch.setattr(in_training, "RULES", rules)
    for union in (ARM_UNION, MODEL_UNION, TASK_UNION):
        monkeypatch.setattr(union, "specs", dict(union.specs))
        monkeypatch.setattr(union, "_replaced", {})
        monkeypatch.setattr(union, "_adapter", None)
    return registry


@pytest.fixture(scope="session")
def moto_server():
    """The port of a moto server, with a bucket `records`."""
    from tests.servers import moto_with_a_bucket

    with moto_with_a_bucket() as port:
        yield port


@pytest.fixture
def moto(moto_server, monkeypatch):
    """The address of a bucket of a real server, whose credentials are in the environment."""
    from tests.servers import environment_of

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment_of(moto_server).items():
        monkeypatch.setenv(name, value)
    return "s3://records"


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server on loopback."""
    from tests import postgres

    with postgres.postgres_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server, request):
    """The URL of an empty database on it."""
    return postgres_server.database(f"test_{abs(hash(request.node.nodeid))}")
