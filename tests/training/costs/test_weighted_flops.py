"""FLOPs of looking at data against PyTorch's counter on the work itself.

The counter knows matrix products and counts a complex one like a real one, which is 4 times more.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.reduction.weighting.error import _outputs
from harness.reduction.weighting.states import (
    PANELS,
    InputCovariance,
    SecondMoment,
    outer,
    outer_flops,
)
from harness.training.costs.flops import covariance_flops, output_error_flops, second_moment_flops

TOKENS = 4 * 33


def counted(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def system(systems, n, inputs):
    shapes = (systems, n), (systems, n, inputs), (systems, inputs, n)
    return tuple(torch.randn(shape, dtype=torch.complex128) / 10 for shape in shapes)


@pytest.mark.parametrize("n", [5, 127, 128, 132])
def test_second_moments_of_a_system(n):
    width = 6
    lam, b, _ = system(1, n, width)
    found = counted(lambda: SecondMoment(lam, b).add(torch.randn(4, 33, width)))
    drive = TOKENS * 4 * n * width
    products = 4 * (found - drive)
    assert products == TOKENS * outer_flops(n)
    assert drive + products + TOKENS * 8 * n == TOKENS * second_moment_flops(n, width)


def test_symmetry_saves_three_eighths_of_a_large_gramian():
    assert outer_flops(64) == 8 * 64 * 64
    assert outer_flops(128) == 5 * 128 * 128
    assert PANELS == 4
    x = torch.randn(3, 2, 1, 130, dtype=torch.complex128)
    torch.testing.assert_close(outer(x)[0], torch.einsum("kbsn,kbsm->nm", x, x.conj()))


def test_second_moments_of_a_stack():
    lam, b, _ = system(3, 5, 1)
    found = counted(lambda: SecondMoment(lam, b).add(torch.randn(4, 33, 3)))
    assert 4 * found + TOKENS * 3 * (4 + 8) * 5 == TOKENS * second_moment_flops((5, 5, 5), 3)


@pytest.mark.parametrize(("systems", "inputs", "order"), [(1, 6, 5), (3, 1, (5, 5, 5))])
def test_covariance_of_the_inputs(systems, inputs, order):
    lam, b, _ = system(systems, 5, inputs)
    width = systems * inputs
    found = counted(lambda: InputCovariance(lam, b).add(torch.randn(4, 33, width)))
    assert found == TOKENS * covariance_flops(order, width)


@pytest.mark.parametrize(("systems", "inputs"), [(1, 6), (3, 1)])
def test_the_error_of_the_outputs(systems, inputs):
    n, r = 7, 4
    full, small = system(systems, n, inputs), system(systems, r, inputs)
    before = SimpleNamespace(
        systems=[SimpleNamespace(state_dim=n, B=full[1][0], C=full[2][0])] * systems
    )
    done = SimpleNamespace(systems=[SimpleNamespace(order=r)] * systems)
    found = counted(lambda: list(_outputs(full, small, torch.randn(4, 33, systems * inputs))))
    states = systems * (n + r)
    found += TOKENS * 8 * states
    found += TOKENS * 4 * states if inputs == 1 else 0  # driven without a matrix product
    assert found == TOKENS * output_error_flops(before, done)
