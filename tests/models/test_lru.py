"""The LRU layer: the equation, its parameters, and how it takes over another system."""

import math

import pytest
import torch

from harness.models import LRU

EPS = torch.finfo(torch.float32).eps


def layer(width=3, state_dim=5, seed=0, **fields):
    torch.manual_seed(seed)
    return LRU(width, state_dim, **fields)


def test_forward_is_the_equation():
    """Step by step in double precision, gamma and D included."""
    ssm = layer().double()
    lam = torch.exp(-torch.exp(ssm.nu_log) + 1j * torch.exp(ssm.theta_log))
    B = torch.exp(ssm.gamma_log)[:, None] * (ssm.B_re + 1j * ssm.B_im)
    C = ssm.C_re + 1j * ssm.C_im
    u = torch.randn(2, 20, 3, dtype=torch.float64)
    for example in range(2):
        h = torch.zeros(5, dtype=torch.complex128)
        for k in range(20):
            h = lam * h + B @ u[example, k].to(torch.complex128)
            y = (C @ h).real + ssm.D * u[example, k]
            torch.testing.assert_close(ssm(u)[example, k], y, rtol=0, atol=1e-12)


def test_system_is_what_forward_uses():
    """The impulse response of `system()` is that of the layer, less D."""
    ssm = layer().double()
    lam, B, C = ssm.system()
    assert (lam.dtype, lam.shape, B.shape, C.shape) == (torch.complex128, (5,), (5, 3), (3, 5))
    impulse = torch.zeros(3, 12, 3, dtype=torch.float64)
    impulse[range(3), 0, range(3)] = 1.0
    response = ssm(impulse).detach()
    for k in range(12):
        expected = ((C * lam**k) @ B).real + (torch.diag(ssm.D.detach()) if k == 0 else 0.0)
        torch.testing.assert_close(response[:, k].mT, expected, rtol=0, atol=1e-12)


def test_initial_eigenvalues_fill_the_ring_and_gamma_fits_them():
    ssm = layer(state_dim=4000, r_min=0.5, r_max=0.8)
    lam, *_ = ssm.system()
    magnitude = lam.abs()
    # To float32: a relative error of nu_log moves |lambda| by less than as much.
    assert 0.5 - 1e-6 < float(magnitude.min()) < 0.51
    assert 0.79 < float(magnitude.max()) < 0.8 + 1e-6
    # Uniform over the area of the ring: half of it lies within sqrt((r_min^2 + r_max^2) / 2).
    half = (magnitude < math.sqrt((0.5**2 + 0.8**2) / 2)).double().mean()
    assert abs(float(half) - 0.5) < 0.04  # five standard deviations
    gamma = torch.exp(ssm.gamma_log.double())
    torch.testing.assert_close(gamma, torch.sqrt(1 - magnitude**2), rtol=1e-5, atol=0)


def test_assign_takes_over_a_system_of_another_size():
    ssm = layer()
    D = ssm.D
    target = layer(state_dim=3, seed=1).system()
    ssm.assign(*target)
    assert ssm.state_dim == 3
    assert ssm.D is D
    assert list(dict(ssm.named_parameters())) == list(dict(layer().named_parameters()))
    assert all(p.dtype == torch.float32 and p.is_leaf for p in ssm.parameters())
    for ours, theirs in zip(ssm.system(), target, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=20 * EPS, atol=0)
    magnitude = target[0].abs()
    gamma = torch.exp(ssm.gamma_log.double())
    torch.testing.assert_close(gamma, torch.sqrt(1 - magnitude**2), rtol=20 * EPS, atol=0)


@pytest.mark.parametrize(
    "eigenvalue", [0.9, -0.9, 0.9j, -0.9j, 0.5 - 1e-9j, 0.0, 1e-300, 1 - 1e-9], ids=str
)
def test_assign_takes_every_stable_eigenvalue(eigenvalue):
    ssm = layer(state_dim=1)
    exact = torch.tensor([eigenvalue], dtype=torch.complex128)
    _, B, C = ssm.system()
    ssm.assign(exact, B, C)
    assert all(bool(torch.isfinite(p).all()) for p in ssm.parameters())
    ours = ssm.system()[0]
    assert float((ours - exact).abs()) < 20 * EPS
    assert float(ours.abs()) < 1.0
    # Close to the circle it is the distance from it that counts.
    distance, wanted = 1 - float(ours.abs()), 1 - abs(eigenvalue)
    assert distance == pytest.approx(wanted, rel=1e-5)
    out = ssm(torch.randn(2, 40, 3))
    out.sum().backward()
    assert bool(torch.isfinite(out).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in ssm.parameters())


@pytest.mark.parametrize("change", ["assign", "resize"])
def test_a_frozen_parameter_stays_frozen(change):
    ssm = layer()
    ssm.theta_log.requires_grad_(False)
    if change == "assign":
        ssm.assign(*layer(state_dim=2).system())
    else:
        ssm.resize(2)
    frozen = [name for name, p in ssm.named_parameters() if not p.requires_grad]
    assert frozen == ["theta_log"]


def test_resize_keeps_names_types_and_the_other_axis():
    ssm = layer().double()
    ssm.resize(2)
    shapes = {name: tuple(p.shape) for name, p in ssm.named_parameters()}
    assert shapes == {name: tuple(p.shape) for name, p in layer(state_dim=2).named_parameters()}
    assert {p.dtype for p in ssm.parameters()} == {torch.float64}
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ssm.resize(0)
