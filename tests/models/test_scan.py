"""The block forms of the scan against the recurrence, and the recurrence against the equation."""

import math

import pytest
import torch

from harness.models.scans import associative, loops, scan, toeplitz
from harness.models.scans.reference import run as recurrence

FORMS = {"toeplitz": toeplitz.run, "scan": scan.run, "associative": associative.run}
BLOCKS = {"toeplitz": 16, "scan": 32}
# One step, one prime, around one block of either form, primes over several blocks.
LENGTHS = sorted({1, 2, 7, *(b + d for b in BLOCKS.values() for d in (-1, 0, 1)), 64, 97, 131})


def system(n, h, radius, length, batch=3, seed=0):
    """(nu, theta, B, C, u) in double precision, phases over the whole circle, |Lambda| = radius."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    nu = torch.full((n,), -math.log(radius), dtype=torch.float64)
    theta = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=g)
    B = math.sqrt(1 - radius**2) * torch.complex(normal(n, h), normal(n, h))
    C = torch.complex(normal(h, n), normal(h, n)) / math.sqrt(n)
    return nu, theta, B, C, normal(batch, length, h)


def single(*tensors):
    return [t.to(torch.complex64 if t.is_complex() else torch.float32) for t in tensors]


def double(*tensors):
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in tensors]


def relative_error(ours, exact):
    assert ours.shape == exact.shape
    return float((ours.double() - exact).norm() / exact.norm())


def test_recurrence_by_hand():
    """An impulse gives Re(C Lambda^k B): Lambda = i / 2, B = 1, C = 2 give 2, 0, -1/2, 0, 1/8."""
    nu = torch.tensor([math.log(2.0)], dtype=torch.float64)
    theta = torch.tensor([math.pi / 2], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.complex128)
    u = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)[None, :, None]
    y = recurrence(nu, theta, one, 2 * one, u)
    hand = torch.tensor([2.0, 0.0, -0.5, 0.0, 0.125], dtype=torch.float64)
    torch.testing.assert_close(y[0, :, 0], hand, rtol=0, atol=1e-15)


def test_recurrence_is_the_convolution():
    """y_k = sum over j <= k of Re(C Lambda^(k-j) B) u_j, with the powers taken outright."""
    nu, theta, B, C, u = system(5, 3, 0.95, length=23)
    lam = torch.polar(torch.exp(-nu), theta)
    y = torch.zeros_like(u)
    for k in range(23):
        for j in range(k + 1):
            y[:, k] += u[:, j] @ ((C * lam ** (k - j)) @ B).real.mT
    assert relative_error(recurrence(nu, theta, B, C, u), y) < 1e-13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("n", "h"), [(1, 1), (1, 5), (6, 1), (7, 3)])
def test_lengths_and_sizes(form, length, n, h):
    inputs = system(n, h, 0.97, length, seed=length)
    exact = recurrence(*inputs)
    assert relative_error(FORMS[form](*inputs), exact) < 1e-12
    ours = FORMS[form](*single(*inputs))
    assert ours.dtype == torch.float32
    assert relative_error(ours, recurrence(*double(*single(*inputs)))) < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("radius", [0.01, 0.5, 0.99, 0.999, 0.9999])
def test_long_sequences(form, radius):
    """A memory of ten thousand steps costs the block form no digit; step by step loses one."""
    inputs = system(32, 8, radius, length=2048, batch=1)
    assert relative_error(FORMS[form](*inputs), recurrence(*inputs)) < 1e-11
    rounded = single(*inputs)
    exact = recurrence(*double(*rounded))
    assert relative_error(FORMS[form](*rounded), exact) < (1e-5 if form == "toeplitz" else 1e-4)
    assert relative_error(recurrence(*rounded), exact) < 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", ["one step", "part of a block", "two blocks and a step"])
def test_gradients_against_finite_differences(form, length, monkeypatch):
    # Short blocks, so that few finite differences see carries over several of them.
    monkeypatch.setattr(toeplitz, "SHORTEST", 1)
    monkeypatch.setattr(toeplitz, "LONGEST", 3)
    monkeypatch.setattr(scan, "SLAB_ROWS", (3, 3))
    steps = {"one step": 1, "part of a block": 2, "two blocks and a step": 7}[length]
    inputs = system(2, 2, 0.9, steps, batch=2)
    assert torch.autograd.gradcheck(FORMS[form], [t.requires_grad_() for t in inputs])


@pytest.mark.parametrize("nu", [1.0, 10.0, 18.4, 50.0, 95.0, 300.0])
@pytest.mark.parametrize("form", [*FORMS, "reference"])
def test_gradients_of_powers_that_underflow(form, nu):
    """In float32, where Lambda^k passes through the numbers below the normal ones: no NaN."""
    run = FORMS.get(form, recurrence)
    inputs = [t.requires_grad_() for t in single(*system(2, 2, math.exp(-nu), length=40))]
    exact = [t.detach().requires_grad_() for t in double(*inputs)]
    ours = torch.autograd.grad(run(*inputs).sum(), inputs)
    theirs = torch.autograd.grad(recurrence(*exact).sum(), exact)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.to(other.dtype), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_long_memory(form):
    inputs = system(6, 3, 0.9999, length=300)
    weight = system(1, 3, 0.5, length=300, seed=1)[-1]

    def gradients(function):
        leaves = [t.clone().requires_grad_() for t in inputs]
        return torch.autograd.grad((weight * function(*leaves)).sum(), leaves)

    for ours, exact in zip(gradients(FORMS[form]), gradients(recurrence), strict=True):
        assert float((ours - exact).norm() / exact.norm()) < 1e-10


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("remember", ["states", "boundaries"])
@pytest.mark.parametrize("form", ["toeplitz", "scan"])
def test_the_gradient_of_the_input_alone_has_the_same_bits(form, remember, compiled, monkeypatch):
    """As when a truncation looks at data: frozen weights, and no state kept for them."""
    if not compiled:
        monkeypatch.setattr(loops, "compiled", None)
    monkeypatch.setattr(scan, "SLAB_ROWS", (32, 32))
    inputs = single(*system(6, 3, 0.99, length=97))
    weight = single(system(1, 3, 0.5, length=97, seed=1)[-1])[0]

    def backward(leaves):
        y = FORMS[form](*leaves, remember=remember)
        saved = sum(one.numel() for one in _function_of(y).saved_tensors if one is not None)
        wanted = [one for one in leaves if one.requires_grad]
        return torch.autograd.grad((weight * y).sum(), wanted)[-1], saved

    trained, more = backward([one.clone().requires_grad_() for one in inputs])
    frozen, less = backward([*inputs[:-1], inputs[-1].clone().requires_grad_()])
    assert torch.equal(trained, frozen)
    assert less < more or (form, remember) == ("scan", "boundaries")  # which keeps none at all


def _function_of(y):
    """The backward pass written by hand in the graph of y."""
    node = y.grad_fn
    while not hasattr(node, "saved_tensors"):
        node = node.next_functions[0][0]
    return node
