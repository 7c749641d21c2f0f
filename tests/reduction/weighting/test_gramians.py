"""Weighted Gramians against their sums, their limits and autograd."""

import numpy as np
import pytest
import torch

from harness.reduction import gramians
from harness.reduction.hankel import decompose
from harness.reduction.weighting import horizon_gramians
from harness.reduction.weighting.horizon import mean_of_sums
from harness.reduction.weighting.states import SecondMoment, driven

from ..systems import HARD, random_system


def tensors(system):
    return tuple(torch.as_tensor(part, dtype=torch.complex128) for part in system)


def summed(lam, b, c, length):
    """The mean over k of the Gramians of the first k steps, term by term."""
    P = torch.zeros(len(lam), len(lam), dtype=torch.complex128)
    Q = P.clone()
    for j in range(length):
        into, out = lam[:, None] ** j * b, c * lam**j
        P += (1 - j / length) * into @ into.mH
        Q += (1 - j / length) * out.mH @ out
    return P, Q


@pytest.mark.parametrize("length", [1, 2, 3, 64])
@pytest.mark.parametrize("name", HARD)
def test_the_horizon_is_the_sum_over_its_steps(name, length):
    system = tensors(HARD[name])
    for found, wanted in zip(horizon_gramians(*system, length), summed(*system, length),
                             strict=True):  # fmt: skip
        assert float((found - wanted).abs().max()) <= 1e-12 * float(wanted.abs().max())


@pytest.mark.parametrize("gap", [0.0, 1e-16, 1e-9, 1e-3])
def test_the_horizon_cancels_nothing_near_the_unit_circle(gap):
    length = 1000
    found = mean_of_sums(torch.tensor([1.0 - gap], dtype=torch.complex128), length)
    exact = sum((1 - j / length) * (1.0 - gap) ** j for j in range(length))
    assert complex(found) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("length", [1, 7, 64, 1000, 1023])
def test_the_horizon_at_one_is_half_the_length(length):
    found = mean_of_sums(torch.ones(1, dtype=torch.complex128), length)
    assert float(found.real) == pytest.approx((length + 1) / 2, rel=1e-14)


def test_the_horizon_goes_to_white():
    system = tensors(random_system(12, 3, r_max=0.95))
    for found, white in zip(horizon_gramians(*system, 10**7), gramians(*system), strict=True):
        assert float((found - white).abs().max()) <= 1e-5 * float(white.abs().max())


@pytest.mark.parametrize("length", [0, -3, 1.5, True])
def test_a_horizon_is_a_length(length):
    with pytest.raises(ValueError, match="must be a whole number from 1 on"):
        horizon_gramians(*tensors(random_system(4, 2)), length)


def measured(system, v):
    lam, b, _ = system
    moment = SecondMoment(lam[None], b[None])
    moment.add(v)
    return moment.mean[0]


def test_white_noise_gives_the_horizon_at_the_rate_of_its_samples():
    system = tensors(random_system(6, 2, r_max=0.9))
    wanted, _ = horizon_gramians(*system, 50)
    generator = torch.Generator().manual_seed(1)
    errors = []
    for sequences in (40, 640, 10240):
        v = torch.randn(sequences, 50, 2, generator=generator, dtype=torch.float64)
        errors.append(float((measured(system, v) - wanted).norm() / wanted.norm()))
    assert errors[2] < 0.02
    assert errors[0] / errors[1] > 1.8  # 16 times the samples: a quarter, up to chance
    assert errors[1] / errors[2] > 1.8


@pytest.mark.parametrize("systems", [1, 3])
@pytest.mark.parametrize("states", [5, 130])
def test_blocks_of_steps_give_what_one_pass_over_all_gives(systems, states, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    many = [tensors(random_system(states, 2, seed=s)) for s in range(systems)]
    lam, b, _ = (torch.stack(parts) for parts in zip(*many, strict=True))
    v = torch.randn(4, 33, 2 * systems, generator=generator)
    found = []
    for at_once in (1, 10**9):
        monkeypatch.setattr("harness.reduction.weighting.states.BYTES_AT_ONCE", at_once)
        moment = SecondMoment(lam, b)
        moment.add(v[:3])
        moment.add(v[3:])
        found.append(moment.mean)
    x = torch.zeros(4, systems, states, dtype=torch.complex128)
    wanted = torch.zeros_like(found[0])
    for k in range(33):
        part = v[:, k].double().reshape(4, systems, 2).to(torch.complex128)
        x = lam * x + torch.einsum("sni,bsi->bsn", b, part)
        wanted += torch.einsum("bsn,bsm->snm", x, x.conj())
    for one in found:
        torch.testing.assert_close(one, wanted / (4 * 33), rtol=1e-12, atol=1e-12)


def test_adjoint_states_are_the_gradients_with_respect_to_injected_states():
    lam, b, c = tensors(random_system(5, 3))
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    injected = torch.zeros(9, 2, 5, dtype=torch.complex128, requires_grad=True)
    h, outputs = torch.zeros(2, 5, dtype=torch.complex128), []
    for k in range(9):
        h = lam * h + u[:, k].to(b.dtype) @ b.mT + injected[k]
        outputs.append((h @ c.mT).real)
    y = torch.stack(outputs, 1).requires_grad_()
    loss = y.tanh().pow(2).sum()
    (g,) = torch.autograd.grad(loss, y, retain_graph=True)
    (wanted,) = torch.autograd.grad(loss, injected)
    parts = list(driven(lam.conj().resolve_conj()[None], c.mH.resolve_conj()[None], g.flip(1)))
    found = torch.cat(parts)[:, :, 0].flip(0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_weighted_singular_values_do_not_depend_on_the_basis():
    lam, b, c = tensors(random_system(8, 3))
    scale = torch.as_tensor(np.random.default_rng(0).lognormal(0, 3, 8) + 0j)
    v = torch.randn(20, 30, 3, dtype=torch.float64)
    g = torch.randn(20, 30, 3, dtype=torch.float64) * torch.linspace(0, 1, 30)[:, None]
    spectra = []
    for into, out in ((b, c), (b * scale[:, None], c / scale)):
        P = measured((lam, into, None), v)
        Q = measured((lam.conj().resolve_conj(), out.mH.resolve_conj(), None), g.flip(1))
        spectra.append(torch.linalg.eigvals(P @ Q).real.clamp_min(0).sqrt().sort().values)
    torch.testing.assert_close(spectra[0], spectra[1], rtol=1e-6, atol=1e-9)
    assert float(decompose(lam, b, c).hsv[0]) > 0
