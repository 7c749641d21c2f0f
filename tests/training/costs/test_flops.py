"""Analytic FLOPs against hand numbers and against PyTorch's counter on the plain recurrence.

The counter knows matrix products only (2 M N K each, elementwise work nothing) and counts a
complex product like a real one. In the recurrence the input is real and only the real part of
the output is used, so each of its complex products stands for two real ones: B u = B_re u +
i B_im u, Re(C h) = C_re h_re - C_im h_im. Hence 2 x the counter's number there, 1 x elsewhere.
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.models import build
from harness.models.scans.reference import run as recurrence
from harness.suite import ModelSpec
from harness.tasks import TaskInfo
from harness.training.costs.flops import forward_flops, spectrum_flops, step_flops, truncation_flops

COMPLEX_PRODUCTS = 2  # real products that a complex one stands for, see above
SPEC = ModelSpec(blocks=2, width=6, state_dim=[5, 3], backend="reference")
LENGTH = 7
INFOS = {
    "classification": TaskInfo("classification", outputs=10, length=LENGTH, inputs=2),
    "next_token": TaskInfo("next_token", outputs=11, length=LENGTH, vocabulary=11),
    "embedding": TaskInfo("classification", outputs=4, length=LENGTH, vocabulary=9),
    "paired": TaskInfo("classification", outputs=2, length=LENGTH, vocabulary=9, paired=True),
    "regression": TaskInfo("regression", outputs=3, length=LENGTH, inputs=2),
}


def inputs(info, batch):
    shape = (batch, 2, LENGTH) if info.paired else (batch, LENGTH)
    if info.vocabulary is not None:
        return torch.randint(info.vocabulary, shape)
    return torch.randn(*shape, info.inputs)


def counted(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_hand_numbers():
    # H = 2, N = (3, 1), 4 steps, 1 channel, 5 classes. Per token: block one 8*3*2 + 8*3 + 4*4 =
    # 88, block two 8*1*2 + 8*1 + 4*4 = 40, encoder 2*2*1 = 4. Head 2*2*5 = 20.
    model = ModelSpec(blocks=2, width=2, state_dim=[3, 1])
    info = TaskInfo("classification", outputs=5, length=4, inputs=1)
    assert forward_flops(model, info, [3, 1]) == 4 * (88 + 40 + 4) + 20 == 548
    assert step_flops(model, info, [3, 1], batch=10) == 3 * 10 * 548
    # Truncated to one state each, only the first block shrinks, by 2 states of 8*2 + 8.
    assert forward_flops(model, info, [1, 1]) == 548 - 4 * 2 * (8 * 2 + 8)
    # A linear mixer is one matrix instead of two.
    linear = ModelSpec(blocks=2, width=2, state_dim=[3, 1], mixer="linear")
    assert forward_flops(linear, info, [3, 1]) == 548 - 4 * 2 * (2 * 2 * 2)
    # A head at every step, and an embedding instead of a product.
    tokens = TaskInfo("next_token", outputs=5, length=4, vocabulary=5)
    assert forward_flops(model, tokens, [3, 1]) == 4 * (88 + 40) + 4 * 20
    # Two documents through the blocks, then 4 -> 2 -> 1 -> 5.
    paired = TaskInfo("classification", outputs=5, length=4, vocabulary=5, paired=True)
    assert forward_flops(model, paired, [3, 1]) == 2 * 4 * (88 + 40) + 2 * (4 * 2 + 2 * 1 + 1 * 5)


def test_the_plain_recurrence_against_the_counter():
    batch, length, H, N = 3, LENGTH, 6, 5
    nu, theta = torch.rand(N), torch.rand(N)
    B = torch.randn(N, H, dtype=torch.complex64)
    C = torch.randn(H, N, dtype=torch.complex64)
    u = torch.randn(batch, length, H)
    real_products = COMPLEX_PRODUCTS * counted(lambda: recurrence(nu, theta, B, C, u))
    assert real_products == batch * length * 8 * N * H


def test_that_two_real_products_do_give_the_plain_recurrence():
    """The convention above, executed: real products alone, counted as they stand."""
    batch, H, N = 3, 6, 5
    nu, theta = torch.rand(N).double(), torch.rand(N).double()
    B = torch.randn(N, H, dtype=torch.complex128)
    C = torch.randn(H, N, dtype=torch.complex128)
    u = torch.randn(batch, LENGTH, H).double()
    lam = torch.polar(torch.exp(-nu), theta)

    def real_recurrence():
        re = im = torch.zeros(batch, N).double()
        outputs = []
        for step in u.unbind(1):
            # 8 N real operations a token: 6 for the complex product, 2 for the sum.
            re, im = lam.real * re - lam.imag * im, lam.real * im + lam.imag * re
            re, im = re + step @ B.real.mT, im + step @ B.imag.mT
            outputs.append(re @ C.real.mT - im @ C.imag.mT)
        return torch.stack(outputs, 1)

    torch.testing.assert_close(real_recurrence(), recurrence(nu, theta, B, C, u))
    assert counted(real_recurrence) == batch * LENGTH * 8 * N * H


@pytest.mark.parametrize("mixer", ["glu", "linear"])
@pytest.mark.parametrize("kind", INFOS)
def test_a_whole_model_against_the_counter(kind, mixer):
    info, batch = INFOS[kind], 3
    spec = SPEC.model_copy(update={"mixer": mixer})
    model = build(spec, info)
    x = inputs(info, batch)
    sequences = batch * (2 if info.paired else 1)
    dims = model.state_dims
    in_complex = sequences * LENGTH * sum(4 * n * spec.width for n in dims)
    elementwise = sequences * LENGTH * sum(8 * n for n in dims)
    products = counted(lambda: model(x)) + (COMPLEX_PRODUCTS - 1) * in_complex
    assert products + elementwise == batch * forward_flops(spec, info, dims)


def test_a_training_step_is_three_forward_passes():
    """Backward: one product for each input and one for each weight, but for the first layer's
    input, which needs no gradient."""
    info, batch = INFOS["classification"], 3
    model = build(SPEC, info)
    x = inputs(info, batch)
    forward = counted(lambda: model(x))
    both = counted(lambda: model(x).sum().backward())
    encoder = batch * LENGTH * 2 * SPEC.width * info.inputs
    assert both == 3 * forward - encoder
    assert step_flops(SPEC, info, [5, 3], batch) == 3 * batch * forward_flops(SPEC, info, [5, 3])


def test_truncating_costs_less_where_less_stays():
    assert 0 < truncation_flops(64, 8, 8) < truncation_flops(64, 32, 8)
    assert truncation_flops(64, 8, 8) < spectrum_flops(64, 8)
    # To leading order cubic in N: doubling multiplies by 8 where H is small.
    assert spectrum_flops(2048, 1) / spectrum_flops(1024, 1) == pytest.approx(8, rel=1e-3)
