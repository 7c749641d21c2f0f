"""A toy shape, timings made up by hand, and the threads of the test process put back."""

import pytest
import torch

from harness.bench.shapes import Shape

TOY = Shape("toy", "Toy", 4, 16, 2, (8, 2), inputs=1, outputs=3)


@pytest.fixture
def toy():
    return TOY


@pytest.fixture(autouse=True)
def same_threads():
    """Benchmarks set the threads of their process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def machine():
    """What `harness.bench.bench_machine.describe` says, of a machine that does not exist."""
    identity = {"device": "an abacus", "threads": 2, "torch_version": "2.99"}
    versions = {"numba_version": None, "triton_version": "3.0"}
    return {"identity": identity, "cores": 2, "git_commit": None, "load_average": 0.1, **versions}
