"""The Triton backend against the recurrence: run by `test_triton.py` in processes of their own,
in Triton's interpreter on a CPU (TRITON_INTERPRET=1), or on a GPU where there is one."""

import math

import pytest
import torch

from harness.models.scans import triton_launch, triton_scan
from harness.models.scans.reference import run as recurrence

from .test_scan import relative_error, single, system

INTERPRETED = triton_scan.unavailable("cpu") is None
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
NAMES = ("y", "nu", "theta", "B", "C", "u")

# length, N, H, batch, |Lambda|: one step, parts of chunks (16 steps) and tiles (32 or 64 states),
# whole ones, and one more; a memory of no step at all, and of ten thousand.
SHAPES = [
    (1, 1, 1, 1, 0.9999),
    (1, 13, 3, 2, 1e-4),
    (16, 32, 3, 1, 0.9),
    (31, 1, 3, 2, 0.9999),
    (31, 13, 1, 1, 1e-4),
    (48, 65, 2, 1, 0.99),
    (100, 1, 1, 1, 0.9999),
    (100, 13, 3, 2, 0.9999),
]


def outcome(function, inputs, *arguments):
    """y, and the gradients of (weight * y).sum() by every input, on the CPU."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    y = function(*leaves, *arguments)
    assert y.shape == inputs[-1].shape
    assert y.dtype == inputs[-1].dtype
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad((weight.to(y) * y).sum(), leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert gradient.shape == leaf.shape
        assert gradient.dtype == leaf.dtype
    return [t.detach().cpu() for t in (y, *gradients)]


def assert_near(ours, exact, tolerance):
    for name, a, b in zip(NAMES, ours, exact, strict=True):
        a = a.to(b.dtype)
        assert float((a - b).norm()) <= tolerance * float(b.norm()), name


def compare(inputs, remember="auto"):
    """In double precision to its last digits, in single against the recurrence of what it saw."""
    inputs = [t.to(DEVICE) for t in inputs]
    exact = outcome(recurrence, inputs)
    ours = outcome(triton_scan.run, inputs, remember)
    assert_near(ours, exact, 1e-13)
    rounded = single(*inputs)
    exact = outcome(recurrence, [t.to(d.dtype) for t, d in zip(rounded, inputs, strict=True)])
    assert_near(outcome(triton_scan.run, rounded, remember), exact, 2e-5)
    return ours


@pytest.mark.parametrize(("length", "n", "h", "batch", "radius"), SHAPES)
def test_agrees_with_the_recurrence(length, n, h, batch, radius):
    compare(system(n, h, radius, length, batch))


@pytest.mark.parametrize(("length", "batch"), [(70, 2), (10, 7)], ids=["in time", "in sequences"])
def test_pieces_hand_on_their_state(length, batch, monkeypatch):
    """Cut into pieces of two chunks, or of three sequences; rebuilt states have the same bits."""
    inputs = system(3, 2, 0.99, length, batch)
    monkeypatch.setattr(triton_launch, "PIECE_ROWS", 32)
    kept = compare(inputs, "states")
    rebuilt = outcome(triton_scan.run, [t.to(DEVICE) for t in inputs], "boundaries")
    assert all(map(torch.equal, kept, rebuilt))


def test_gradients_against_finite_differences(monkeypatch):
    monkeypatch.setattr(triton_launch, "SHORTEST_CHUNK", 2)
    monkeypatch.setattr(triton_launch, "LONGEST_CHUNK", 2)
    inputs = [t.to(DEVICE).requires_grad_() for t in system(2, 1, 0.9, 5, batch=1)]
    assert torch.autograd.gradcheck(lambda *a: triton_scan.run(*a, "boundaries"), inputs)


def test_equal_inputs_give_equal_bits():
    inputs = [t.to(DEVICE) for t in single(*system(5, 3, 0.99, 40, batch=3))]
    first, second = (outcome(triton_scan.run, inputs, "states") for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_no_gradient_is_asked_for():
    inputs = [t.to(DEVICE) for t in single(*system(5, 3, 0.99, 20))]
    with torch.inference_mode():
        y = triton_scan.run(*inputs)
    assert relative_error(y.cpu(), recurrence(*(t.cpu() for t in inputs)).double()) < 1e-5


def test_recurrence_stays_in_float32_under_autocast(monkeypatch):
    """A 1 and then steps of 2^-10, each lost beside 1 in bfloat16: their sum must arrive."""
    monkeypatch.setattr(triton_launch, "SHORTEST_CHUNK", 128)  # all in one chunk
    one = torch.ones(1, 1, dtype=torch.complex64, device=DEVICE)
    u = torch.full((1, 100, 1), 2.0**-10, device=DEVICE)
    u[0, 0] = 1.0
    slow = torch.full((1,), 1e-9, device=DEVICE)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        y = triton_scan.run(slow, torch.zeros(1, device=DEVICE), one, one, u)
    assert y.dtype == torch.float32
    assert float(y[0, -1, 0]) == pytest.approx(1 + 99 * 2**-10, rel=2**-8)


def test_bfloat16_products_are_near():
    inputs = [t.to(DEVICE) for t in single(*system(13, 5, 0.9, 40, batch=2))]
    exact = outcome(recurrence, inputs)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        ours = outcome(triton_scan.run, inputs)
    assert_near(ours, exact, 2e-2)
    assert relative_error(ours[0], exact[0].double()) > 1e-5, "the products were not in bfloat16"


def test_half_precision_by_itself_is_refused():
    nu, theta, B, C, u = (t.to(DEVICE) for t in single(*system(2, 2, 0.9, 3)))
    with pytest.raises(ValueError, match="float32 or float64"):
        triton_scan.run(nu, theta, B, C, u.bfloat16())


@pytest.mark.parametrize("length", [1, 16, 17, 1024, 16384, 2**17])
def test_chunks_are_few_and_short(length):
    T = triton_launch.chunk_steps(length)
    assert T in (16, 32, 64, 128)
    assert triton_launch.PIECE_ROWS % T == 0
    assert T == 128 or math.sqrt(length) <= T
