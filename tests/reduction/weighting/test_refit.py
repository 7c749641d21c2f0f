"""B, C and static gains fitted to outputs, against brute-force least squares in float64."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models import LRU
from harness.reduction import Calibration, Refit, decompositions, layers, truncate
from harness.reduction.balanced import reduce
from harness.reduction.weighting import refit as module
from harness.reduction.weighting import refitted
from harness.reduction.weighting.least_squares import Sums
from tests.models.channel_layer import ChannelLayer

WIDTH, STATES, LENGTH, RANK = 3, 8, 25, 3


class Model(nn.Module):
    """One layer in double precision, and logits that look at its later steps."""

    def __init__(self, layer=LRU, **fields):
        super().__init__()
        torch.manual_seed(0)
        self.ssm = layer(WIDTH, STATES, **fields)
        self.head = nn.Linear(WIDTH, 3)
        self.double()

    def forward(self, x):
        steps = torch.linspace(0.0, 1.0, LENGTH, dtype=torch.float64)[:, None]
        return self.head((steps * torch.tanh(self.ssm(x))).sum(1))


def batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, LENGTH, WIDTH, generator=generator, dtype=torch.float64).cumsum(1),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for size in (5, 4)
    ]


def states(lam, B, u):
    """(batch, length, N), one step at a time."""
    x, found = torch.zeros(len(u), len(lam), dtype=torch.complex128), []
    for k in range(u.shape[1]):
        x = lam * x + u[:, k].to(B.dtype) @ B.mT
        found.append(x)
    return torch.stack(found, 1)


def flat(lam, B, given):
    return torch.cat([states(lam, B, u).flatten(0, 1) for u, _ in given])


def heard(given):
    return torch.cat([u.flatten(0, 1) for u, _ in given])


def real(x):
    """Regressors of the real and the imaginary part of coefficients of x in Re(c x)."""
    return torch.cat([x.real, -x.imag], -1)


def weights(model, given):
    found = []
    for x, y in given:
        out = {}
        hook = model.ssm.register_forward_hook(lambda _m, _i, o, out=out: out.update(y=o))
        loss = cross_entropy(model(x), y, reduction="sum")
        hook.remove()
        found.append(torch.autograd.grad(loss, out["y"])[0].square().flatten(0, 1))
    return torch.cat(found)


def calibration(given):
    return Calibration(given, given, cross_entropy)


def cut(model, given, fits, **how):
    found = truncate(model, state_dims=RANK, refit=fits, calibration=calibration(given), **how)
    return found[0]


def wanted(full, done, given, weight=None):
    """The full output minus nothing, the reduced states, and the roots of the weights."""
    y = (flat(full[0], full[1], given) @ full[2].mT).real
    root = torch.ones(len(y), dtype=torch.float64) if weight is None else weight.sqrt()
    return y, flat(done.eigenvalues, done.B, given), root[:, None]


@pytest.mark.parametrize("weight", ["uniform", "task"])
@pytest.mark.parametrize("fits", ["gain", "C", "C+gain"])
def test_it_is_the_least_squares_solution(fits, weight):
    given = batches()
    full = Model().ssm.system()
    plain = cut(Model(), given, "none")
    done = cut(Model(), given, Refit(fits, weight))
    weighs = weights(Model(), given).sum(-1) if weight == "task" else None
    y, x, root = wanted(full, plain, given, weighs)
    if fits == "gain":
        found = torch.linalg.lstsq(root * heard(given), root * (y - (x @ plain.C.mT).real))
        torch.testing.assert_close(done.gain.real, found.solution.mT, rtol=1e-6, atol=1e-9)
        assert torch.equal(done.C, plain.C)
        return
    regressors = real(x) if fits == "C" else torch.cat([real(x), heard(given)], -1)
    found = torch.linalg.lstsq(root * regressors, root * y).solution.mT
    C = torch.complex(found[:, :RANK], found[:, RANK : 2 * RANK])
    torch.testing.assert_close(done.C, C, rtol=1e-5, atol=1e-7)
    if fits == "C+gain":
        torch.testing.assert_close(done.gain.real, found[:, 2 * RANK :], rtol=1e-5, atol=1e-7)
    assert torch.equal(done.B, plain.B)
    assert torch.equal(done.eigenvalues, plain.eigenvalues)


def test_normalised_every_sequence_counts_alike():
    given = batches()
    given[0] = (50.0 * given[0][0], given[0][1])  # whose gradients are others in size
    plain = cut(Model(), given, "none")
    weighs = weights(Model(), given).sum(-1).view(-1, LENGTH)
    assert float(weighs.sum(1).max() / weighs.sum(1).min()) > 3.0
    y, x, root = wanted(
        Model().ssm.system(), plain, given, (weighs / weighs.sum(1, keepdim=True)).flatten()
    )
    found = torch.linalg.lstsq(root * real(x), root * y).solution.mT
    done = cut(Model(), given, Refit("C", "task", normalise=True))
    C = torch.complex(found[:, :RANK], found[:, RANK:])
    torch.testing.assert_close(done.C, C, rtol=1e-4, atol=1e-6)
    other = cut(Model(), given, Refit("C", "task"))
    assert float((other.C - C).abs().max()) > 1e-3 * float(C.abs().max())


def test_c_does_not_depend_on_how_outputs_are_weighed():
    """tr(G E e e^T) has the gradient 2 G (...): where G is definite its zero is the same."""
    given = batches()
    plain = cut(Model(), given, "none")
    y, x, _ = wanted(Model().ssm.system(), plain, given)
    root = torch.randn(WIDTH, WIDTH, dtype=torch.float64)
    whole = torch.einsum("op,kr->kopr", root, real(x)).flatten(0, 1).flatten(1)
    found = torch.linalg.lstsq(whole, (y @ root.mT).flatten()[:, None]).solution.view(WIDTH, -1)
    done = cut(Model(), given, "C")
    C = torch.complex(found[:, :RANK], found[:, RANK:])
    torch.testing.assert_close(done.C, C, rtol=1e-5, atol=1e-7)


def sums(f, e):
    f = f.to(torch.complex128)
    Y = e.mT.to(torch.complex128) @ f
    return Sums(f.mT @ f.conj(), f.mT @ f, Y, float(e.square().sum()))


def test_b_is_the_least_squares_solution_and_the_error_is_followed():
    torch.manual_seed(1)
    f, e = torch.randn(200, 6, dtype=torch.complex128), torch.randn(200, 4, dtype=torch.float64)
    c = torch.randn(4, 6, dtype=torch.complex128)
    some = sums(f, e)
    b = some.best_into(c)
    each = real(c[None] * f[:, None]).flatten(0, 1)
    found = torch.linalg.lstsq(each, e.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(b, torch.complex(found[:6], found[6:]), rtol=1e-6, atol=1e-9)
    some.take(c * b)
    left = e - (f @ (c * b).mT).real
    assert some.squares == pytest.approx(float(left.square().sum()), rel=1e-12)
    torch.testing.assert_close(some.Y, left.mT.to(f.dtype) @ f, rtol=1e-9, atol=1e-9)


def squared(full, done, given):
    y, x, _ = wanted(full, done, given)
    left = y - (x @ done.C.mT).real
    if done.gain is not None:
        left = left - heard(given) @ done.gain.real.mT
    return float(left.square().sum())


@pytest.mark.parametrize("fits", ["BC", "BC+gain"])
def test_b_and_c_in_turn_end_where_neither_helps_any_more(fits, monkeypatch):
    monkeypatch.setattr(module, "ENOUGH", 1e-9)
    monkeypatch.setattr(module, "SWEEPS", 2000)
    given, full = batches(), Model().ssm.system()
    done = cut(Model(), given, fits)
    least = squared(full, done, given)
    assert least < 0.999 * squared(full, cut(Model(), given, fits.replace("B", "")), given)
    y, x, _ = wanted(full, done, given)
    still = 0.0 if done.gain is None else heard(given) @ done.gain.real.mT
    regressors = real(x) if done.gain is None else torch.cat([real(x), heard(given)], -1)
    c = torch.linalg.lstsq(regressors, y).solution
    assert float((y - regressors @ c).square().sum()) == pytest.approx(least, rel=1e-4)
    one = torch.eye(WIDTH, dtype=torch.complex128)
    f = torch.stack([flat(pole.expand(WIDTH), one, given) for pole in done.eigenvalues], 1)
    each = real(torch.einsum("or,kri->kori", done.C, f).flatten(2)).flatten(0, 1)
    rest = (y - still).flatten()[:, None]
    b = torch.linalg.lstsq(each, rest).solution
    assert float((rest - each @ b).square().sum()) == pytest.approx(least, rel=1e-4)


METHODS = ("balanced", "singular_perturbation", "last", "aire", "modal", "random")


@pytest.mark.parametrize("fits", ["gain", "C", "C+gain", "BC", "BC+gain"])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_has_a_larger_error_after_it(method, fits):
    import numpy as np

    given, full = batches(), Model().ssm.system()
    how = {"method": method, "generator": np.random.default_rng(0)}
    plain = cut(Model(), given, "none", **how)
    model = Model()
    done = cut(model, given, fits, **{**how, "generator": np.random.default_rng(0)})
    assert squared(full, done, given) <= squared(full, plain, given) * (1 + 1e-12)
    whole = float((flat(*full[:2], given) @ full[2].mT).real.square().sum())
    assert done.output_error == pytest.approx((squared(full, done, given) / whole) ** 0.5, rel=1e-9)
    assert (done.refit, done.error_bound, done.modes) == (fits, None, None)
    assert torch.equal(done.T, plain.T)
    assert torch.equal(done.W, plain.W)
    for found, meant in zip(model.ssm.system(), (done.eigenvalues, done.B, done.C), strict=True):
        torch.testing.assert_close(found, meant, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fits", ["C", "BC", "C+gain"])
def test_at_full_order_c_and_b_are_what_they_were(fits):
    given, model = batches(), Model()
    before = dict(enumerate(decompositions(model)))
    after = {0: reduce(before[0], STATES)}
    found = dict(enumerate(layers(model)))
    one = refitted(model, found, before, after, Refit(fits), calibration(given))[0]
    torch.testing.assert_close(one.C, after[0].C, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(one.B, after[0].B, rtol=1e-7, atol=1e-7)
    if fits == "C+gain":
        assert float(one.gain.abs().max()) < 1e-7


@pytest.mark.parametrize("fits", ["gain", "C+gain", "BC+gain"])
def test_what_is_static_becomes_the_gain(fits):
    model = Model()
    with torch.no_grad():
        model.ssm.nu_log[RANK:] = 6.0  # exp(-exp(6)): these states are the input itself
    _, B, C = model.ssm.system()
    static = (C[:, RANK:] @ B[RANK:]).real
    done = cut(model, batches(), fits, method="modal")
    torch.testing.assert_close(done.gain.real, static, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.ssm.gain, static, rtol=1e-6, atol=1e-7)
    assert done.output_error < 1e-6


def ragged():
    model = Model(ChannelLayer)
    truncate(model, state_dims=[(8, 3, 6)])
    return model


@pytest.mark.parametrize("gramians", ["white", "signal"])
@pytest.mark.parametrize("fits", ["C", "BC"])
def test_every_system_of_a_stack_is_fitted_by_itself(fits, gramians):
    given, full = batches(), ragged().ssm.system()
    how = {"calibration": calibration(given), "gramians": gramians}
    plain, done = (
        truncate(ragged(), state_dims=[(4, 3, 2)], refit=one, **how)[0] for one in ("none", fits)
    )
    assert done.refit == fits
    assert done.error_bound is None
    for s, (one, was) in enumerate(zip(done.systems, plain.systems, strict=True)):
        own = [(u[..., s : s + 1], y) for u, y in given]
        system = full[0][s], full[1][s], full[2][s]
        y, x, _ = wanted(system, was, own)
        if s == 1:  # it stays
            assert torch.equal(one.C, was.C)
            assert torch.equal(one.B, was.B)
            continue
        c = torch.linalg.lstsq(real(x), y).solution
        least = float((y - real(x) @ c).square().sum())
        # With one input a state's B and C are one number: what B adds is nothing.
        assert squared(system, one, own) == pytest.approx(least, rel=1e-5)
        assert least < 0.99 * squared(system, was, own)


def test_a_system_of_a_stack_is_weighed_by_the_gradients_of_its_own_outputs():
    given, full = batches(), ragged().ssm.system()
    how = {"state_dims": [(4, 3, 2)], "calibration": calibration(given)}
    (plain,) = truncate(ragged(), **how)
    (done,) = truncate(ragged(), refit=Refit("C", "task"), **how)
    weighs = weights(ragged(), given)
    for s in (0, 2):
        own = [(u[..., s : s + 1], y) for u, y in given]
        system = full[0][s], full[1][s], full[2][s]
        y, x, root = wanted(system, plain.systems[s], own, weighs[:, s])
        c = torch.linalg.lstsq(root * real(x), root * y).solution
        r = done.systems[s].order
        meant = torch.complex(c[:r], c[r:]).mT
        torch.testing.assert_close(done.systems[s].C, meant, rtol=1e-4, atol=1e-6)


def test_moments_follow_the_projection_whatever_was_fitted():
    found = []
    for fits in ("none", "C"):
        model = Model()
        optimizer = torch.optim.AdamW(model.parameters())
        x, y = batches()[0]
        cross_entropy(model(x), y).backward()
        optimizer.step()
        cut(model, batches(), fits, optimizer=optimizer)
        found.append({name: optimizer.state[p].get("exp_avg")
                      for name, p in model.named_parameters()})  # fmt: skip
    for name in ("ssm.B_re", "ssm.C_im"):
        assert torch.equal(found[0][name], found[1][name])


def test_a_bound_on_the_loss_is_one_after_the_fit():
    sizes = []
    for fits in ("none", "C"):
        model, given = Model(), batches()
        held = Calibration(given, given, cross_entropy)
        with torch.no_grad():
            before = sum(float(cross_entropy(model(x), y)) * len(x) for x, y in given) / 9
            truncate(model, max_loss=0.01, calibration=held, refit=fits)
            after = sum(float(cross_entropy(model(x), y)) * len(x) for x, y in given) / 9
        assert after <= before + 0.01 + 1e-9
        sizes.append(model.ssm.state_dim)
    assert sizes[1] < sizes[0]


class Perfect(Model):
    def forward(self, x):
        return super().forward(x) * 0.0


silence = [(torch.zeros(2, LENGTH, WIDTH, dtype=torch.float64), torch.zeros(2, dtype=torch.long))]
BAD = {
    "no such refit": (Model, {"refit": "D"}, "refit must be one of none, gain, C"),
    "no data": (Model, {"refit": "C", "calibration": None}, "give `calibration` batches"),
    "empty": (Model, {"refit": "C", "calibration": []}, "the calibration set is empty"),
    "silent": (
        Model,
        {"refit": "C", "calibration": Calibration(silence[:1])},
        "is constant: its 2 examples are all the same",
    ),
    "nothing drives it": (
        Model,
        {"refit": "C", "calibration": [x[:1] * 0 for x, _ in silence]},
        "block 0: the calibration sequences drive no state at all",
    ),
    "no numbers": (
        Model,
        {"refit": "C", "calibration": [x[:1] * torch.nan for x, _ in silence]},
        "block 0: the calibration sequences give states that are no numbers",
    ),
    "no gradient": (
        Perfect,
        {"refit": Refit("C", "task")},
        "block 0: all gradients of target 'loss' are zero.*choose target 'logits'",
    ),
    "no gain": (
        lambda: Model(ChannelLayer),
        {"refit": "C+gain"},
        r"block 0: refit 'C\+gain' needs a static gain, and ChannelLayer has no add_gain",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name):
    make, arguments, message = BAD[name]
    model = make()
    given = {"calibration": calibration(batches()), **arguments}
    with pytest.raises(ValueError, match=message) as caught:
        truncate(model, state_dims=3, **given)
    assert "\n" not in str(caught.value)
    assert model.ssm.state_dim == STATES


def test_too_many_unknowns_of_b_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNKNOWNS", 17)
    model = Model()
    with pytest.raises(ValueError, match=r"block 0: a refit of B would have 18 real unknowns"):
        cut(model, batches(), "BC")
    assert model.ssm.state_dim == STATES
    cut(model, batches(), "C")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"weight": "loud"}, "refit weight must be one of"), ({"target": "x"}, "target must be one")],
)
def test_a_refit_is_one_that_exists(fields, message):
    with pytest.raises(ValueError, match=message):
        Refit("C", **fields)
