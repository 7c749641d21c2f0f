"""The rivals that choose states of selective layers by gradients, and by pivots."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn.functional import cross_entropy

from harness.models import build
from harness.reduction import Calibration, UnusableSystem, selective_decompositions, truncate
from harness.reduction.selective import pivoting
from harness.reduction.selective.pivoting import exchanges, strong_rrqr
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

from .test_selective import batches, heard

N, G, LENGTH = 5, 2, 24
MOST = 1.5  # by how much an exchange may still let the volume grow
INFO = TaskInfo("classification", outputs=3, length=LENGTH, inputs=2)
KINDS = {
    "mamba": {"kind": "mamba", "width": 6, "state_dim": N},
    "mamba2": {"kind": "mamba2", "width": 6, "state_dim": N, "head_dim": 3, "groups": G},
}
ROWS = {
    "mamba": ("B_proj", "C_proj"),
    "mamba2": ("B_proj", "C_proj", "B_conv", "C_conv", "B_conv_bias", "C_conv_bias"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def model_of(kind, **fields):
    torch.manual_seed(0)
    model = build(ModelSpec(**{**KINDS[kind], **fields}), INFO).double().eval()
    with torch.no_grad():
        for block in model.blocks:  # steps that count
            block.ssm.dt_bias.add_(2.0)
    return model


def layers_of(model):
    return dict(enumerate(block.ssm for block in model.blocks))


def calibration(given, **more):
    return Calibration(given, **{"loss": cross_entropy, **more})


def decomposed(model, how, given):
    return selective_decompositions(model, layers_of(model), how, given)


@each_kind
def test_saliencies_by_gradients_of_whole_models_one_example_at_a_time(kind):
    model, given = model_of(kind), batches(count=3)
    found = decomposed(model, "taylor", calibration(given))
    for i, layer in layers_of(model).items():
        weights = [layer.get_parameter(name) for name in ROWS[kind]]
        sums = [torch.zeros_like(w) for w in weights]
        squares = [torch.zeros_like(w) for w in weights]
        for x, y in given:
            for e in range(len(x)):
                loss = cross_entropy(model(x[e : e + 1]), y[e : e + 1])
                for one, a, b in zip(
                    torch.autograd.grad(loss, weights), sums, squares, strict=True
                ):
                    a.add_(one / 15)
                    b.add_(one.square() / 15)
        wanted = 0.0
        for w, g, fisher in zip(weights, sums, squares, strict=True):
            loss = (-g * w + w**2 * fisher / 2).abs().detach()
            shape = (G, N, -1) if kind == "mamba2" else (N, -1)
            wanted = wanted + loss.reshape(shape).sum(-1)
        torch.testing.assert_close(found[i].mode_shares, wanted, rtol=1e-9, atol=0)
        assert found[i].mode_shares.shape == ((N,) if kind == "mamba" else (G, N))
        assert (found[i].channels, found[i].solved) == (12, 0)


@each_kind
def test_looking_back_touches_nothing(kind):
    wanted = decomposed(model_of(kind), "taylor", calibration(batches()))
    model, given = model_of(kind, dropout=0.5).train(), calibration(batches())
    frozen = model.blocks[0].ssm.B_proj.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    bits = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    found = decomposed(model, "taylor", given)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(bits[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert [p for p in model.parameters() if not p.requires_grad] == [frozen]
    assert all(p.grad is None if p is frozen else bool((p.grad == 1).all())
               for p in model.parameters())  # fmt: skip
    for i, one in found.items():  # dropout off
        torch.testing.assert_close(one.mode_shares, wanted[i].mode_shares, rtol=1e-9, atol=0)


@each_kind
@pytest.mark.parametrize("how", ["taylor", "drrqr"])
def test_a_truncation_leaves_the_states_chosen(kind, how):
    model, given = model_of(kind), calibration(batches()[:4], held_out=batches()[4:])
    found = decomposed(model, how, given)
    before = {i: layer.B_proj.detach().clone() for i, layer in layers_of(model).items()}
    done = truncate(model, state_dims=2, calibration=given, selective=how)
    for i, one in enumerate(done):
        wanted = found[i].kept(2, "balanced").modes
        assert torch.equal(one.modes, wanted)
        if how == "taylor":
            best = found[i].mode_shares.argsort(-1, descending=True)[..., :2].sort(-1).values
            assert torch.equal(wanted, best)
        at = wanted if kind == "mamba" else wanted[..., None].expand(-1, -1, 6)
        rows = before[i][at] if kind == "mamba" else before[i].gather(1, at)
        assert torch.equal(layers_of(model)[i].B_proj, rows)
        assert 0.0 < one.output_error < 2.0
    by_tau = model_of(kind)
    truncate(by_tau, tau=0.3, calibration=given, selective=how)
    assert by_tau.state_dims == [one.energy_rank(0.3) for one in found.values()]


def by_hand(layer, u, kind):
    """The activations of every group, B over C, (G, 2 steps, N)."""
    _, _, B, C = (one.detach().flatten(0, 1) for one in layer.selection(u))
    if kind == "mamba":
        B, C = B[:, None], C[:, None]
    both = [(B[:, g] / B[:, g].norm(), C[:, g] / C[:, g].norm()) for g in range(B.shape[1])]
    return torch.stack([torch.cat(one) for one in both]).numpy()


@each_kind
def test_pivots_are_those_of_inputs_over_outputs(kind):
    model, given = model_of(kind), batches()
    found = decomposed(model, "drrqr", Calibration(given))
    for i, u in enumerate(heard(model, given)):
        of_groups = by_hand(layers_of(model)[i], u, kind)
        shares = found[i].mode_shares.view(-1, N).numpy()
        for g, activations in enumerate(of_groups):
            R, pivots = scipy.linalg.qr(activations, mode="economic", pivoting=True)[1:]
            np.testing.assert_allclose(shares[g][pivots], np.diag(R) ** 2, rtol=1e-9)
            assert (-shares[g]).argsort().tolist() == pivots.tolist()
            for order in range(1, N):
                kept = found[i].kept(order, "balanced").modes.view(-1, order)[g].numpy()
                assert kept.tolist() == strong_rrqr(activations, order).tolist()
                assert growth(activations, kept).max() <= MOST + 1e-9
        assert found[i].solved == 0
    worst = found[0].kept(2, "smallest").modes
    assert torch.equal(worst, found[0].mode_shares.argsort(-1)[..., :2].sort(-1).values)


def growth(activations, kept):
    """By how much the volume of the columns kept grows with every exchange, by brute force."""
    others = [j for j in range(activations.shape[1]) if j not in kept]

    def volume(columns):
        return np.prod(np.linalg.svd(activations[:, columns], compute_uv=False))

    def swapped(i, j):
        return [j if one == kept[i] else one for one in kept]

    return np.array([[volume(swapped(i, j)) for j in others] for i in range(len(kept))]) / volume(
        list(kept)
    )


def kahan(n=24, c=0.285):
    """Kahan's matrix, whose pivoted QR makes no exchange and reveals no rank; its columns grow a
    little, so that rounding does not pivot."""
    s = np.sqrt(1 - c**2)
    upper = np.eye(n) - c * np.triu(np.ones((n, n)), 1)
    return np.diag(s ** np.arange(n)) @ upper @ np.diag(1 - 1e-10 * np.arange(n))


def test_exchanges_are_ratios_of_volumes():
    A = np.random.default_rng(0).normal(size=(40, 6))
    R = np.linalg.qr(A, mode="r")
    np.testing.assert_allclose(exchanges(R, 4), growth(A, [0, 1, 2, 3]), rtol=1e-9)


@pytest.mark.parametrize(("size", "gain"), [(6, 1.39), (7, 1.67)])
def test_a_swap_must_gain_more_than_half(size, gain):
    A = kahan(size)
    first = np.arange(size - 1)
    assert growth(A, first).max() == pytest.approx(gain, abs=0.005)
    assert (strong_rrqr(A, size - 1).tolist() == first.tolist()) == (gain < MOST)


def test_swaps_go_on_until_none_gains_more_than_that(monkeypatch):
    A = kahan()
    order = len(A) - 1
    assert growth(A, np.arange(order)).max() > MOST  # where pivoting alone stops
    kept = strong_rrqr(A, order)
    assert kept.tolist() != list(range(order))
    assert growth(A, kept).max() <= MOST
    monkeypatch.setattr(pivoting, "SWAPS", 0)
    assert strong_rrqr(A, order).tolist() == list(range(order))


def test_columns_beyond_the_rank_are_not_swapped():
    a, b = np.random.default_rng(1).normal(size=(2, 30, 1))
    A = np.hstack([a, 2 * b, b, a, a + b])
    for order in range(1, 6):
        kept = strong_rrqr(A, order)
        assert len(set(kept.tolist())) == order
        if order >= 2:
            assert np.linalg.matrix_rank(A[:, kept]) == 2
    assert strong_rrqr(np.zeros((4, 4)), 2).tolist() == [0, 1]


def test_steps_are_drawn_by_the_seed_from_all(monkeypatch):
    model, given = model_of("mamba"), batches()
    layer = model.blocks[0].ssm
    (u, _) = heard(model, given)
    B = layer.selection(u).B.detach().flatten(0, 1)
    monkeypatch.setattr(pivoting, "STEPS", 40)
    rows = {}
    for seed, again in itertools.product((3, 4), range(2)):
        sums = pivoting.Pivots(layer, seed)
        for part in u.split(7):
            sums.add(part)
        rows[seed, again] = sums.rows[:, 0, 0]
        where = (B[:, None] == rows[seed, again]).all(-1).nonzero()[:, 0]
        assert len(where) == 40
        assert where.tolist() == sorted(set(where.tolist()))
        assert where.min() < 0.2 * len(B) < 0.8 * len(B) < where.max()
    assert torch.equal(rows[3, 0], rows[3, 1])
    assert not torch.equal(rows[3, 0], rows[4, 0])


def test_fewer_rows_than_states():
    model = model_of("mamba", state_dim=20)
    with torch.no_grad():
        sums = pivoting.Pivots(model.blocks[0].ssm, 0)
        sums.add(torch.randn(1, 3, 6, dtype=torch.float64))
    assert sums.factors.shape == (1, 20, 20)
    assert int((sums.shares("drrqr") > 1e-20).sum()) == 6


def loss_of_nothing(logits, y):
    return 0.0 * logits.sum(-1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Calibration(batches()), r"selective 'taylor' needs `loss`, and calibration batches"),
        (calibration([x for x, _ in batches()]), r"needs `loss` and calibration batches \(x, y\)"),
        (calibration(batches(), loss=loss_of_nothing), "block 0: the loss has no gradients by B"),
        (calibration([]), "the calibration set is empty"),
    ],
)
def test_what_gradients_cannot_be_is_refused_in_one_line(given, message):
    model = model_of("mamba")
    bits = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as refused:
        truncate(model, state_dims=2, calibration=given, selective="taylor")
    assert "\n" not in str(refused.value)
    assert all(torch.equal(bits[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_layer_must_say_which_rows_make_its_b_and_c():
    model = model_of("mamba")
    model.blocks[1].ssm.removed_rows = ()
    with pytest.raises(ValueError, match="block 1: selective 'taylor' needs the `removed_rows` of"):
        truncate(model, state_dims=2, calibration=calibration(batches()), selective="taylor")


@pytest.mark.parametrize("how", ["taylor", "drrqr"])
def test_numbers_that_are_not_finite_are_refused(how):
    model = model_of("mamba")
    with torch.no_grad():
        model.blocks[1].ssm.C_proj[0] = float("nan")
    with pytest.raises(UnusableSystem, match=r"block \d: .* must be finite"):
        decomposed(model, how, calibration(batches()))
