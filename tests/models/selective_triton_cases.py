"""Mamba's Triton backend against its recurrence: run by `test_selective_triton.py` in processes of
their own, in Triton's interpreter on a CPU (TRITON_INTERPRET=1), or on a GPU where there is one."""

import math

import pytest
import torch

from harness.models import Mamba
from harness.models.scans.selective import reference, selective_scan, triton_scan
from harness.models.scans.triton_scan import unavailable

INTERPRETED = unavailable("cpu") is None
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
NAMES = ("y", "x", "dt", "A", "B", "C")

# batch, length, D, N, dt |A|: one step and one state; parts of chunks (16 steps here, 32 at 17
# states), of tiles of channels (32) and of states (16), whole ones and one more; |decay| of 0.9999,
# of half, and one that underflows.
SHAPES = [
    (1, 1, 1, 1, 1e-4),
    (2, 2, 3, 17, 0.7),
    (1, 16, 33, 1, 200.0),
    (2, 17, 5, 3, 1e-4),
    pytest.param((1, 70, 33, 17, 1e-4), marks=pytest.mark.slow),
    pytest.param((2, 70, 5, 1, 0.7), marks=pytest.mark.slow),
    pytest.param((1, 70, 3, 16, 200.0), marks=pytest.mark.slow),
    (2, 7, 32, 16, 0.7),
]


def system(batch, length, D, N, size):
    """Leaves x, dt, A, B, C; the largest decay is exp(-size)."""
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    dt = 1 + torch.rand(batch, length, D, generator=generator, dtype=torch.float64)
    A = -size * (1 + torch.arange(N) / 4 + torch.rand(D, 1, generator=generator))
    inputs = (drawn(batch, length, D), dt, A.double(), drawn(batch, length, N))
    return [one.to(DEVICE) for one in (*inputs, drawn(batch, length, N))]


def outcome(function, inputs):
    """y, and the gradients of (weight * y).sum() by every input."""
    leaves = [one.clone().requires_grad_() for one in inputs]
    y = function(*leaves)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad((weight.to(y) * y).sum(), leaves)
    assert [g.dtype for g in gradients] == [y.dtype] * 5
    return [one.detach() for one in (y, *gradients)]


def assert_near(ours, exact, tolerance):
    for name, a, b in zip(NAMES, ours, exact, strict=True):
        assert bool(torch.isfinite(a).all()), name
        assert float((a.double() - b).norm()) <= tolerance * float(b.norm()) + 1e-80, name


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_recurrence(shape, monkeypatch):
    monkeypatch.setattr(triton_scan, "STEPS", 16)
    inputs = system(*shape)
    assert_near(outcome(triton_scan.run, inputs), outcome(reference, inputs), 1e-13)
    rounded = [one.float() for one in inputs]
    exact = outcome(reference, [one.double() for one in rounded])
    ours = outcome(triton_scan.run, rounded)
    if shape[-1] > 100:  # in float32 the decays are zero, and so are their gradients
        ours[3], exact[3] = ours[3] * 0, exact[3] * 0
    assert_near(ours, exact, 2e-5)


def test_pieces_of_every_kind_hand_on_what_they_have(monkeypatch):
    """Three chunks, two tiles of channels, and three launches, the last for a part of a tile."""
    monkeypatch.setattr(triton_scan, "STEPS", 2)
    monkeypatch.setattr(triton_scan, "MOST_STATES", 2)
    monkeypatch.setattr(triton_scan, "CHANNELS", 2)
    inputs = system(2, 19, 3, 5, 0.1)
    assert_near(outcome(triton_scan.run, inputs), outcome(reference, inputs), 1e-13)


def test_equal_inputs_give_equal_bits():
    inputs = [one.float() for one in system(2, 5, 40, 3, 0.1)]
    first, second = (outcome(triton_scan.run, inputs) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_the_layer_runs_by_it():
    torch.manual_seed(0)
    ssm = Mamba(3, 4, backend="triton").to(DEVICE)
    u = torch.randn(2, 9, 3, device=DEVICE)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        assert ssm(u).dtype == torch.bfloat16
    y = ssm(u)
    ssm.backend = "reference"
    torch.testing.assert_close(y, ssm(u))
    with torch.inference_mode():
        torch.testing.assert_close(y, ssm(u))


def test_half_precision_by_itself_is_refused():
    inputs = [one.bfloat16() for one in system(1, 3, 2, 2, 0.5)]
    with pytest.raises(ValueError, match="float32 or float64"):
        selective_scan(*inputs, backend="triton")


@pytest.mark.parametrize(("length", "states"), [(1, 1), (1000, 16), (1000, 65), (333, 128)])
def test_states_that_are_kept_are_no_more_than_the_input(length, states):
    T, chunks = triton_scan._chunks(length, states)
    assert math.log2(T).is_integer()
    assert (chunks - 1) * T < length <= chunks * T
    assert (chunks - 1) * states <= length
