"""The backbone: shapes, causality, linearity, normalisation, dropout, names."""

import pytest
import torch
from torch import nn

from harness.models import build
from harness.models.blocks import Block
from harness.models.gated import gated
from harness.models.norm import EPSILON, BatchNorm, EmaBatchNorm
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

LENGTH = 21  # more than a block of the scan
INFOS = {
    "classification": TaskInfo("classification", outputs=4, length=LENGTH, inputs=2),
    "tokens": TaskInfo("classification", outputs=4, length=LENGTH, vocabulary=9),
    "next_token": TaskInfo("next_token", outputs=9, length=LENGTH, vocabulary=9),
    "regression": TaskInfo("regression", outputs=3, length=LENGTH, inputs=2),
    "paired": TaskInfo("classification", outputs=2, length=LENGTH, vocabulary=9, paired=True),
    "paired channels": TaskInfo("classification", outputs=2, length=LENGTH, inputs=2, paired=True),
}


def model_of(kind, seed=0, **fields):
    torch.manual_seed(seed)
    spec = ModelSpec(**{"blocks": 2, "width": 6, "state_dim": [5, 3], **fields})
    return build(spec, INFOS[kind])


def inputs_of(kind, batch=3, seed=0):
    torch.manual_seed(seed)
    info = INFOS[kind]
    shape = (batch, 2, LENGTH) if info.paired else (batch, LENGTH)
    if info.vocabulary is not None:
        return torch.randint(info.vocabulary, shape)
    return torch.randn(*shape, info.inputs)


@pytest.mark.parametrize("mixer", ["glu", "linear"])
@pytest.mark.parametrize("norm", ["batch", "ema_batch", "none"])
@pytest.mark.parametrize("kind", INFOS)
def test_shapes(kind, norm, mixer):
    model, info = model_of(kind, norm=norm, mixer=mixer), INFOS[kind]
    each_step = kind in ("next_token", "regression")
    shape = (3, LENGTH, info.outputs) if each_step else (3, info.outputs)
    for mode in (True, False):
        logits = model.train(mode)(inputs_of(kind))
        assert tuple(logits.shape) == shape
        assert bool(torch.isfinite(logits).all())
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# Batch statistics of a training batch see all its steps, so only their absence is causal there.
@pytest.mark.parametrize(("norm", "training"), [("batch", False), ("none", True)])
@pytest.mark.parametrize("cut", [1, 16, LENGTH - 1])
def test_next_token_is_causal(norm, training, cut):
    model = model_of("next_token", norm=norm).double()
    x = inputs_of("next_token")
    model(x)  # running statistics that are not the initial ones
    changed = x.clone()
    changed[:, cut:] = (x[:, cut:] + 1) % 9
    model.train(training)
    before, after = model(x), model(changed)
    torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=0, atol=1e-12)
    assert ((after - before)[:, cut:].abs().amax((-1, -2)) > 1e-3).all()


def test_a_past_token_reaches_the_last_logits():
    model = model_of("next_token").double().eval()
    x = inputs_of("next_token")
    changed = x.clone()
    changed[:, 0] = (x[:, 0] + 1) % 9
    assert (model(changed) - model(x))[:, -1].abs().max() > 1e-4


def test_classification_is_the_mean_over_all_steps():
    model = model_of("classification").double().eval()
    x = inputs_of("classification").double()
    seen = {}
    model.blocks[-1].register_forward_hook(lambda _, __, out: seen.update(features=out))
    logits = model(x)
    torch.testing.assert_close(logits, model.head(seen["features"].sum(1) / LENGTH))


def test_the_documents_of_a_pair_are_read_alike_and_kept_apart():
    model = model_of("paired").double().eval()
    x = inputs_of("paired")
    features = {}
    model.dual.register_forward_hook(lambda _, given, __: features.update(pair=given[0]))
    model(x)
    one = features["pair"]
    model(x.flip(1))
    torch.testing.assert_close(features["pair"], one.roll(6, dims=1), rtol=0, atol=1e-12)
    assert not torch.allclose(one[:, :6], one[:, 6:])
    changed = x.clone()
    changed[:, 1] = (x[:, 1] + 1) % 9
    model(changed)
    torch.testing.assert_close(features["pair"][:, :6], one[:, :6], rtol=0, atol=1e-12)
    assert not torch.allclose(features["pair"][:, 6:], one[:, 6:])


def block_of(model, i):
    """A block as a function of (batch, length, H)."""
    return lambda x: model.blocks[i](x).detach()


def superposition_gap(block):
    x, y = torch.randn(2, 3, LENGTH, 6, dtype=torch.float64)
    return float((block(2.0 * x - 3.0 * y) - 2.0 * block(x) + 3.0 * block(y)).abs().max())


@pytest.mark.parametrize("i", [0, 1])
def test_with_a_linear_mixer_a_block_is_a_linear_time_invariant_system(i):
    model = model_of("classification", norm="none", mixer="linear").double()
    block = block_of(model, i)
    assert superposition_gap(block) < 1e-12
    x = torch.randn(3, LENGTH, 6, dtype=torch.float64)
    late = torch.cat([torch.zeros_like(x), x], dim=1)
    torch.testing.assert_close(block(late)[:, LENGTH:], block(x), rtol=0, atol=1e-12)
    assert not block(late)[:, :LENGTH].any()


def test_the_system_of_a_linear_block():
    """Impulse response: I + M (C B + D) at once, M Re(C Lambda^k B) k steps later."""
    block = model_of("classification", norm="none", mixer="linear").double().blocks[0]
    lam, B, C = block.ssm.system()
    M, D = block.mixer.weight.detach(), torch.diag(block.ssm.D.detach())
    impulse = torch.zeros(6, LENGTH, 6, dtype=torch.float64)
    impulse[range(6), 0, range(6)] = 1.0
    response = block(impulse).detach().permute(1, 2, 0)  # (length, output, input)
    for k in range(LENGTH):
        expected = M @ ((C * lam**k) @ B).real
        if k == 0:
            expected = expected + M @ D + torch.eye(6, dtype=torch.float64)
        torch.testing.assert_close(response[k], expected, rtol=0, atol=1e-12)


def test_with_a_gated_mixer_it_is_not_linear():
    model = model_of("classification", norm="none", mixer="glu").double()
    assert superposition_gap(block_of(model, 0)) > 0.1


def test_a_gated_block_by_its_formula():
    block = model_of("classification").double().eval().blocks[0]
    x = torch.randn(3, LENGTH, 6, dtype=torch.float64)
    y = block.ssm(x / (1 + EPSILON) ** 0.5)  # the running statistics are 0 and 1
    y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
    g = block.glu
    expected = x + g.w1(y) / (1 + torch.exp(-g.w2(y)))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_batch_norm_is_that_of_torch_over_batch_and_time():
    ours = BatchNorm(5)
    theirs = nn.BatchNorm1d(5, affine=False, eps=EPSILON)
    for seed in range(4):
        torch.manual_seed(seed)
        x = (3.0 * torch.randn(3, 8, 5) + torch.arange(5.0)).requires_grad_()
        weight = torch.randn(3, 8, 5)
        z = x.detach().mT.clone().requires_grad_()  # torch has channels before time
        y, expected = ours(x), theirs(z)
        torch.testing.assert_close(y, expected.mT, rtol=1e-5, atol=1e-5)
        (weight * y).sum().backward()
        (weight.mT * expected).sum().backward()
        torch.testing.assert_close(x.grad, z.grad.mT, rtol=1e-4, atol=1e-5)
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(z).mT, rtol=1e-5, atol=1e-5)
    assert not list(ours.parameters())


def test_ema_batch_norm_by_hand():
    """Two channels' worth of one number: means 1 then 3, variances 1 then 4."""
    norm = EmaBatchNorm(1)
    first = torch.tensor([0.0, 2.0]).reshape(1, 2, 1)
    second = torch.tensor([1.0, 5.0]).reshape(1, 2, 1)
    torch.testing.assert_close(norm(first).flatten(), torch.tensor([-1.0, 1.0]), atol=1e-5, rtol=0)
    y = norm(second)
    mean, var = 0.99 * 1 + 0.01 * 3, 0.99 * 1 + 0.01 * 4
    expected = (second - mean) / (var + EPSILON) ** 0.5
    torch.testing.assert_close(y, expected)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    torch.testing.assert_close(norm.eval()(first), (first - mean) / (var + EPSILON) ** 0.5)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


class Through(nn.Module):
    """A layer that changes nothing, so that only the mixer and the masks are left."""

    def forward(self, x):
        return x


def dropped(mixer, batch=8, length=500, width=6, p=0.25):
    """What a block in training adds to an input of ones, over what it adds in evaluation."""
    torch.manual_seed(0)
    block = Block(Through(), width, "none", mixer, p)
    x = torch.ones(batch, length, width)
    return ((block.train()(x) - x) / (block.eval()(x) - x)).detach()


def test_dropout_behind_a_linear_mixer_draws_every_entry_for_itself():
    p, ratio = 0.25, dropped("linear")
    values = ratio.round(decimals=4).unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - p)]), rtol=0, atol=1e-4)
    kept = ratio > 0.5
    # Neither examples, nor steps, nor channels share a mask (the published code's examples do).
    for axis in range(3):
        share = kept.double().mean(axis)
        assert 0.0 < float(share.std()) < 0.25, axis
        assert abs(float(share.mean()) - (1 - p)) < 0.02


def test_frozen_gates_send_back_the_same_bits():
    g = torch.Generator().manual_seed(0)
    x, y, weight, slope = (torch.randn(*size, generator=g)
                           for size in ((2, 9, 4), (2, 9, 4), (8, 4), (2, 9, 4)))  # fmt: skip
    bias = torch.randn(8, generator=g)
    found = []
    for wanted in (True, False):
        leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        gate = [one.clone().requires_grad_(wanted) for one in (weight, bias)]
        out = gated(*leaves, *gate)
        assert (out.grad_fn.saved_tensors[2] is not None) == wanted
        found.append(torch.autograd.grad((slope * out).sum(), leaves))
    for trained, frozen in zip(*found, strict=True):
        assert torch.equal(trained, frozen)


def test_a_gated_block_has_dropout_before_and_behind_the_gate():
    p, ratio = 0.25, dropped("glu")
    behind = ratio == 0.0
    assert abs(float(behind.double().mean()) - p) < 0.02
    # Before the gate it changes what is left, too: more values than on and off.
    assert ratio.round(decimals=3).unique().numel() > 20


def test_dropout_is_off_in_evaluation_and_draws_nothing_at_zero():
    x = inputs_of("classification")
    model = model_of("classification", dropout=0.5).eval()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    without = model_of("classification", dropout=0.0).train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    without(x)
    assert torch.equal(torch.get_rng_state(), before)


SSM = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im", "D")
GLU = ("w1.weight", "w1.bias", "w2.weight", "w2.bias")
DUAL = [f"dual.layer{i}.{name}" for i in (1, 2, 3) for name in ("weight", "bias")]


def names(blocks, ends, norm=True, mixer=tuple(f"glu.{name}" for name in GLU)):
    each = [*(f"ssm.{name}" for name in SSM), *mixer]
    each += ["norm.running_mean", "norm.running_var"] if norm else []
    return {f"blocks.{i}.{name}" for i in range(blocks) for name in each} | set(ends)


HEAD = ("head.weight", "head.bias")
LINEAR = ("encoder.weight", "encoder.bias")


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("classification", {}, names(2, (*LINEAR, *HEAD))),
        ("next_token", {}, names(2, ("encoder.weight", *HEAD))),
        ("paired", {}, names(2, ("encoder.weight", *DUAL))),
        ("classification", {"norm": "ema_batch"}, names(2, (*LINEAR, *HEAD))),
        ("classification", {"norm": "none"}, names(2, (*LINEAR, *HEAD), norm=False)),
        (
            "classification",
            {"mixer": "linear", "blocks": 1, "state_dim": 3},
            names(1, (*LINEAR, *HEAD), mixer=("mixer.weight",)),
        ),
    ],
)
def test_names_in_the_state_dict(kind, fields, expected):
    assert set(model_of(kind, **fields).state_dict()) == expected


def test_shapes_in_the_state_dict():
    shapes = {k: tuple(v.shape) for k, v in model_of("paired").state_dict().items()}
    ssm = {name.rsplit(".", 1)[-1]: shapes[name] for name in shapes if "blocks.1.ssm" in name}
    assert ssm == {
        **dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (3,)),
        **dict.fromkeys(("B_re", "B_im"), (3, 6)),
        **dict.fromkeys(("C_re", "C_im"), (6, 3)),
        "D": (6,),
    }
    assert shapes["encoder.weight"] == (9, 6)
    assert shapes["blocks.0.glu.w1.weight"] == (6, 6)
    assert shapes["blocks.0.norm.running_var"] == (6,)
    layers = [shapes[f"dual.layer{i}.weight"] for i in (1, 2, 3)]
    assert layers == [(6, 12), (3, 6), (2, 3)]
    assert shapes["blocks.0.ssm.nu_log"] == (5,)


@pytest.mark.parametrize(("state_dim", "dims"), [([5, 3], [5, 3]), (4, [4, 4]), ([3, 3], [3, 3])])
def test_state_dimensions_block_by_block(state_dim, dims):
    model = model_of("classification", state_dim=state_dim)
    assert model.state_dims == dims
    model.resize([2, 1])
    assert model.state_dims == [2, 1]
    with pytest.raises(ValueError, match="shorter"):
        model.resize([2])
