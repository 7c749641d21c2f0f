"""Truncation of whole models by weighted Gramians."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models import LRU
from harness.reduction import (
    Decomposition,
    TruncationError,
    Weighting,
    decompositions,
    layers,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.hankel import decompose
from harness.reduction.weighting import (
    Calibration,
    WeightedDecomposition,
    calibration_of,
    reduce_weighted,
)
from harness.reduction.weighting import reduce as reducing
from harness.reduction.weighting.stability import stabilised

from ..networks import Nested
from ..systems import random_system

WIDTH, LENGTH = 4, 30


class Classifier(nn.Module):
    """Two LRUs with norm and dropout between them, pooled to three classes."""

    def __init__(self, states=10):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (LRU(WIDTH, states, r_min=0.5, r_max=0.95) for _ in range(2))
        self.norm, self.dropout = nn.BatchNorm1d(WIDTH), nn.Dropout(0.5)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        h = self.dropout(self.norm(h.flatten(0, 1)).view_as(h))
        return self.head(torch.tanh(self.second(h)).mean(1))


def batches(count=10, size=8, seed=0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, LENGTH, width, generator=generator).cumsum(1) / 5,
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("gramians", ["horizon", "input", "signal", "task"])
def test_a_users_model_in_one_call(gramians):
    model = Classifier()
    done = truncate(
        model,
        state_dims=4,
        gramians=gramians,
        calibration=batches(),
        loss=cross_entropy,
        length=LENGTH,
    )
    assert [layer.state_dim for layer in layers(model)] == [4, 4]
    for one in done:
        assert one.error_bound is None
        assert 0.0 < one.output_error < 1.0
        torch.testing.assert_close(one.W @ one.T, torch.eye(4, dtype=torch.complex128))
        assert float(one.eigenvalues.abs().max()) < 1.0


def test_looking_disturbs_nothing():
    model = Classifier().train()
    model.dropout.eval()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    model.first.nu_log.requires_grad_(False)
    truncate(model, tau=0.0, gramians="task", calibration=batches(), loss=cross_entropy)
    found = dict(enumerate(layers(model)))
    white = dict(enumerate(decompositions(model)))
    calibration = Calibration(batches(), loss=cross_entropy)
    weighted_decompositions(model, found, white, weighting_of("task"), calibration)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(bool((p.grad == 1).all()) for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.norm.training
    assert not model.dropout.training
    assert not any(module._forward_hooks for module in model.modules())


class Deaf(nn.Module):
    """One layer; its input has nothing in the last channel, its loss nothing of the last output."""

    def __init__(self, deaf=False, unseen=False):
        super().__init__()
        torch.manual_seed(1)
        self.ssm = LRU(2, 8, r_min=0.5, r_max=0.95)
        with torch.no_grad():
            if deaf:  # the last four states hear the second channel alone
                self.ssm.B_re[4:, 0], self.ssm.B_im[4:, 0] = 0.0, 0.0
                self.ssm.B_re[:4, 1], self.ssm.B_im[:4, 1] = 0.0, 0.0
            if unseen:  # the last four states show in the second output alone
                self.ssm.C_re[0, 4:], self.ssm.C_im[0, 4:] = 0.0, 0.0
                self.ssm.C_re[1, :4], self.ssm.C_im[1, :4] = 0.0, 0.0
            self.ssm.B_re[4:] *= 30.0  # what white noise would keep
            self.ssm.B_im[4:] *= 30.0

    def forward(self, x):
        return self.ssm(x)


@pytest.mark.parametrize(("gramians", "kind"), [("signal", "deaf"), ("task", "unseen")])
def test_states_that_are_never_driven_or_never_seen_go_first(gramians, kind):
    model = Deaf(**{kind: True})
    kept = model.ssm.system()[0][:4]
    white = truncate(Deaf(**{kind: True}), state_dims=4)[0]
    found = batches(width=2)
    for x, _ in found:
        x[..., 1] *= kind == "unseen"
    (done,) = truncate(
        model,
        state_dims=4,
        gramians=gramians,
        calibration=found,
        loss=lambda y, _: y[..., 0].square().mean(1),
    )
    assert float(done.hsv[4]) <= 1e-4 * float(done.hsv[3])
    near = (done.eigenvalues[:, None] - kept).abs().min(1).values
    assert float(near.max()) < 1e-6
    assert float((white.eigenvalues[:, None] - kept).abs().min(1).values.max()) > 1e-2


def weighted(seed, n=12, h=3, task=True):
    """A decomposition under random second moments, which solve no Lyapunov equation."""
    system = tuple(torch.as_tensor(part) for part in random_system(n, h, seed, 0.9, 0.9999))
    white = decompose(*system)
    generator = torch.Generator().manual_seed(seed)
    R, L = (torch.randn(n, n, generator=generator, dtype=torch.complex128) for _ in range(2))
    L = L if task else white.L
    U, S, Vh = torch.linalg.svd(L.mH @ R)
    weighting = Weighting("signal", "task" if task else "white")
    return WeightedDecomposition(*system, R, L, U, S, Vh, white, weighting)


def radius(system: Decomposition, r):
    from harness.reduction.balanced import project

    (A, _, _), _, _ = project(system, slice(0, r))
    return float(torch.linalg.eigvals(A).abs().max())


@pytest.mark.parametrize("seed", range(20))
def test_one_sided_weighting_is_stable_whatever_the_other_gramian(seed):
    assert all(radius(weighted(seed, task=False), r) < 1.0 for r in range(1, 12))


def test_two_sided_weighting_is_not_and_the_record_says_what_was_done():
    unstable = [seed for seed in range(20) if radius(weighted(seed), 6) >= 1.0]
    assert unstable
    for seed in unstable:
        system = weighted(seed)
        done = reduce_weighted(system, 6)
        assert done.stabilised == "one_sided"
        assert float(done.eigenvalues.abs().max()) < 1.0
        assert torch.equal(done.hsv, system.hsv)
        assert radius(stabilised(system), 6) < 1.0
    stable = next(seed for seed in range(20) if radius(weighted(seed), 6) < 0.9999)
    assert reduce_weighted(weighted(stable), 6).stabilised is None


def test_stabilised_observability_solves_a_lyapunov_equation_and_is_no_smaller():
    system = weighted(3)
    Q, was = (one.L @ one.L.mH for one in (stabilised(system), system))
    lam = system.eigenvalues
    made = Q - lam.conj()[:, None] * Q * lam
    assert float(torch.linalg.eigvalsh((made + made.mH) / 2).min()) >= -1e-9 * float(made.norm())
    assert float(torch.linalg.eigvalsh(Q - was).min()) >= -1e-9 * float(Q.norm())


def test_where_nothing_has_a_diagonal_form_the_block_is_named(monkeypatch):
    def never(*_):
        raise TruncationError("no diagonal form")

    monkeypatch.setattr(reducing, "_kept", never)
    model = Classifier()
    before = [layer.state_dim for layer in layers(model)]
    with pytest.raises(TruncationError, match=r"block 0: no diagonal form"):
        truncate(model, state_dims=3, gramians="signal", calibration=batches())
    assert [layer.state_dim for layer in layers(model)] == before


def test_moments_follow_by_t_and_w_alone():
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = batches(1)[0]
    cross_entropy(model(x), y).backward()
    optimizer.step()
    old = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    scale = model.first.input_scale()
    done = truncate(
        model, state_dims=4, gramians="task", optimizer=optimizer, calibration=batches(),
        loss=cross_entropy,
    )[0]  # fmt: skip
    B = torch.complex(old["first.B_re"], old["first.B_im"]).to(torch.complex128)
    C = torch.complex(old["first.C_re"], old["first.C_im"]).to(torch.complex128)
    new = {name: optimizer.state[p]["exp_avg"] for name, p in model.named_parameters()
           if "exp_avg" in optimizer.state[p]}  # fmt: skip
    wanted = model.first.input_scale()[:, None] * (done.T.mH @ (B / scale[:, None]))
    torch.testing.assert_close(
        torch.complex(new["first.B_re"], new["first.B_im"]).to(torch.complex128), wanted,
        rtol=1e-4, atol=1e-8,
    )  # fmt: skip
    torch.testing.assert_close(
        torch.complex(new["first.C_re"], new["first.C_im"]).to(torch.complex128), C @ done.W.mH,
        rtol=1e-4, atol=1e-8,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["loss", "label", "logits", "fisher"])
def test_every_target_truncates(target):
    model = Classifier()
    weighting = weighting_of("task", target=target, normalise=True)
    truncate(model, state_dims=3, gramians=weighting, calibration=batches(), loss=cross_entropy)
    assert [layer.state_dim for layer in layers(model)] == [3, 3]


class Perfect(Classifier):
    def forward(self, x):
        return super().forward(x) * 0.0


class Bypassed(Classifier):
    def forward(self, x):
        self.second(x)
        return self.head(torch.tanh(self.first(x)).mean(1))


class Uncalled(Classifier):
    def forward(self, x):
        return self.head(torch.tanh(self.first(x)).mean(1))


constant = [(torch.ones(4, LENGTH, WIDTH), torch.zeros(4, dtype=torch.long))] * 2
BAD = {
    "no such gramians": ({"gramians": "loud"}, "gramians must be one of white, horizon"),
    "no such side": ({"controllability": "task"}, "controllability must be one of white"),
    "no calibration": ({"gramians": "signal"}, "are measured: give `calibration` batches"),
    "no length": ({"gramians": "horizon"}, "need the `length` of the sequences"),
    "empty": ({"gramians": "signal", "calibration": []}, "the calibration set is empty"),
    "constant": (
        {"gramians": "signal", "calibration": constant},
        "is constant: its 8 examples are all the same",
    ),
    "once": (
        {"gramians": "signal", "calibration": iter(batches())},
        "can be iterated only once: give a list or a DataLoader",
    ),
    "no loss": ({"gramians": "task", "calibration": batches()}, "target 'loss' needs `loss`"),
    "loss of nothing": (
        {"gramians": "task", "calibration": batches(), "loss": lambda a, b: torch.zeros(())},
        "the loss does not depend on the layer's output",
    ),
    "another method": (
        {"gramians": "signal", "calibration": batches(), "method": "singular_perturbation"},
        "gramians other than white go with methods balanced, last, aire",
    ),
    "no numbers": (
        {"gramians": "signal", "calibration": [torch.full((1, LENGTH, WIDTH), torch.nan)]},
        "block 0: the calibration sequences give states that are no numbers",
    ),
    "silent": (
        {"gramians": "signal", "calibration": [torch.zeros(1, LENGTH, WIDTH)]},
        "block 0: the calibration sequences drive no state at all",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name):
    arguments, message = BAD[name]
    model = Classifier()
    with pytest.raises(ValueError, match=message) as caught:
        truncate(model, state_dims=3, **arguments)
    assert "\n" not in str(caught.value)
    assert [layer.state_dim for layer in layers(model)] == [10, 10]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Perfect, "block 0: all gradients of target 'loss' are zero.*choose target 'logits'"),
        (Bypassed, "block 1: the loss does not depend on the layer's output"),
        (Uncalled, "block 1: the model does not call this layer"),
    ],
)
def test_a_model_whose_loss_does_not_reach_a_block_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        truncate(model(), state_dims=3, gramians="task", calibration=batches(), loss=cross_entropy)


def test_a_layer_without_sequences_is_refused():
    model = Nested()
    flat = [torch.randn(8, 5, 2) for _ in range(2)]
    truncate(model, state_dims=3, gramians="signal", calibration=flat)

    model = Nested()
    model.last.forward = lambda u: u[:, 0]
    with pytest.raises(ValueError, match=r"block 2: gramians from data need a layer with a real"):
        truncate(model, state_dims=3, gramians="signal", calibration=flat)


@pytest.mark.parametrize("gramians", ["white", "task"])
@pytest.mark.parametrize("max_loss", [0.0, 0.001, 0.01, 1e6])
def test_max_loss_is_kept_on_held_out_batches_by_the_smallest_sizes(gramians, max_loss):
    model, found = Classifier(), batches()

    def held_out(one):
        one.eval()
        with torch.no_grad():
            return sum(float(cross_entropy(one(x), y)) for x, y in (found[4], found[9])) / 2

    whole = held_out(model)
    asked = {"gramians": gramians, "calibration": found, "loss": cross_entropy}
    truncate(model, max_loss=max_loss, **asked)
    sizes = [layer.state_dim for layer in layers(model)]
    assert held_out(model) <= whole + max_loss + 1e-6
    if max_loss == 1e6:
        assert sizes == [1, 1]
    # At a slightly larger tau, where one state fewer stays, it would not have held.
    previous = None
    for tau in torch.linspace(0.0, 0.99, 50).tolist():
        other = Classifier()
        truncate(other, tau=tau, **asked)
        dims = [layer.state_dim for layer in layers(other)]
        if previous == sizes and dims != sizes:
            assert held_out(other) > whole + max_loss
            break
        previous = dims


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_loss": -0.1}, "max_loss must be a number from 0 on, not -0.1"),
        ({"max_loss": float("nan")}, "max_loss must be a number from 0 on, not nan"),
        ({"max_loss": 0.1, "tau": 0.1}, "exactly one of tau and state_dims, or max_loss"),
        ({"max_loss": 0.1, "loss": None}, "max_loss needs `loss`"),
        ({"max_loss": 0.1, "calibration": batches(3)}, "max_loss needs held-out examples"),
        ({"max_loss": 0.1, "method": "last"}, "max_loss goes with method 'balanced'"),
    ],
)
def test_a_bound_that_cannot_be_measured_is_refused(arguments, message):
    given = {"calibration": batches(), "loss": cross_entropy, **arguments}
    with pytest.raises(ValueError, match=message):
        truncate(Classifier(), **given)


def test_decompositions_under_other_gramians_are_refused():
    model = Classifier()
    white = decompositions(model)
    calibration = Calibration(batches(), loss=cross_entropy)
    found = dict(enumerate(layers(model)))
    weighed = weighted_decompositions(
        model, found, dict(enumerate(white)), weighting_of("signal"), calibration
    )
    given = list(weighed.values())
    for decomposed, gramians in ((white, "signal"), (given, "white"), (given, "task")):
        with pytest.raises(ValueError, match="are under other gramians than those asked for"):
            truncate(
                model,
                state_dims=3,
                decomposed=decomposed,
                gramians=gramians,
                calibration=calibration,
            )
    assert [layer.state_dim for layer in layers(model)] == [10, 10]
    truncate(model, state_dims=3, decomposed=given, gramians="signal", calibration=calibration)
    assert [layer.state_dim for layer in layers(model)] == [3, 3]


class Shuffled:
    """A loader whose order is another on every pass."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        found = batches(25)
        return iter(found[self.passes :] + found[: self.passes])


def test_losses_are_compared_on_the_same_examples_though_the_loader_shuffles():
    loader = Shuffled()
    heard = calibration_of(loader, cross_entropy, None)
    first, second = list(heard.held_out), list(heard.held_out)
    assert len(first) == 4
    for (x, y), (again, labels) in zip(first, second, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)
    assert len(list(heard.batches)) == 21
