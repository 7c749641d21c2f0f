"""The blocks of S5's and S4D's authors around their layers, against their formulas."""

import pytest
import torch
from torch.nn.functional import gelu
from torch.utils.flop_counter import FlopCounterMode

from harness.models import build
from harness.models.blocks import TiedDropout
from harness.models.specs import S4DSpec, S5Spec
from harness.reduction import truncate
from harness.suite import ModelSpec, TrialSpec
from harness.tasks import TaskInfo
from harness.training.costs.flops import forward_flops
from harness.training.host.memory import parameters

LENGTH = 19
INFO = TaskInfo("classification", outputs=4, length=LENGTH, inputs=2)
BLOCKS = {
    "half_glu1": {"kind": "s5", "hippo_blocks": 1},
    "half_glu2": {"kind": "s5", "activation": "half_glu2"},
    "full_glu": {"kind": "s5", "activation": "full_glu"},
    "s4d": {"kind": "s4d"},
}


def model_of(name, info=INFO, **fields):
    """A model whose norms have seen other data, and have weights that are not those they begin
    with."""
    torch.manual_seed(0)
    fields = {"width": 6, "state_dim": 4, "block": "authors", **BLOCKS[name], **fields}
    model = build(ModelSpec(**fields), info).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.train()(torch.randn(5, LENGTH, 2, dtype=torch.float64))
    return model.eval()


def normal(norm, x):
    """With running statistics, in evaluation mode."""
    scaled = (x - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5)
    return scaled * norm.weight + norm.bias


@pytest.mark.parametrize("name", BLOCKS)
def test_a_stack_is_what_its_authors_wrote(name):
    model, x = model_of(name), torch.randn(3, LENGTH, 2, dtype=torch.float64)
    h = model.encoder(x)
    for block in model.blocks:
        y = block.ssm(normal(block.norm, h))
        g = gelu(y, approximate="tanh")
        if name == "half_glu1":
            out = g * torch.sigmoid(g @ block.gate.weight.T + block.gate.bias)
        elif name == "half_glu2":
            out = y * torch.sigmoid(g @ block.gate.weight.T + block.gate.bias)
        else:  # one projection to 2 H, whose second half is the gate
            weight = torch.cat([block.glu.w1.weight, block.glu.w2.weight])
            bias = torch.cat([block.glu.w1.bias, block.glu.w2.bias])
            out = torch.nn.functional.glu(g @ weight.T + bias)
        h = h + out
    if name == "s4d":
        h = normal(model.last_norm, h)
    torch.testing.assert_close(model(x), model.head(h.mean(1)))


@pytest.mark.parametrize("name", BLOCKS)
def test_steps_are_the_parallel_form_before_and_after_a_truncation(name):
    info = TaskInfo("regression", outputs=3, length=LENGTH, inputs=2)
    model, x = model_of(name, info), torch.randn(3, LENGTH, 2, dtype=torch.float64)
    for dims in (None, 2):
        if dims:
            truncate(model, state_dims=dims)
        state, steps = model.initial_state(3), []
        for u in x.unbind(1):
            logits, state = model.step(u, state)
            steps.append(logits)
        torch.testing.assert_close(torch.stack(steps, 1), model(x), rtol=1e-10, atol=1e-10)


def test_tied_dropout_drops_channels_for_all_steps():
    torch.manual_seed(0)
    x = torch.ones(50, 7, 40)
    dropped = TiedDropout(0.25)(x)
    assert torch.equal(dropped, dropped[:, :1].expand_as(x))
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert not torch.equal(dropped[0], dropped[1])
    assert float((dropped == 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert TiedDropout(0.25).eval()(x) is x
    model = build(ModelSpec(width=4, dropout=0.1, dropout_mask="tied"), INFO)
    assert type(model.blocks[0].dropout) is TiedDropout


@pytest.mark.parametrize("name", BLOCKS)
def test_parameters_and_flops_are_those_of_the_model(name):
    model = model_of(name)
    spec = model.spec
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert parameters(spec, INFO, spec.state_dims) == counted
    with FlopCounterMode(display=False) as counter:  # the real products: what is around a layer
        model(torch.randn(1, LENGTH, 2, dtype=torch.float64))
    layers = sum(
        sum(counts.values())
        for module, counts in counter.get_flop_counts().items()
        if module.endswith(".ssm")
    )
    around = counter.get_total_flops() - layers
    wanted = forward_flops(spec, INFO, spec.state_dims)
    assert around == wanted - LENGTH * sum(spec.layer_flops(n) for n in spec.state_dims)


@pytest.mark.parametrize("spec", [S5Spec, S4DSpec])
def test_specs_that_say_nothing_are_stored_as_they_were(spec):
    plain, said = spec(), spec(block="backbone")
    assert plain == said
    for stored in (plain.model_dump(mode="json"), plain.model_dump(), said.model_dump()):
        assert not {"block", "activation"} & stored.keys()
    theirs = spec(block="authors")
    assert theirs.model_dump()["block"] == "authors"
    assert spec.model_validate_json(theirs.model_dump_json()) == theirs


def test_ids_stay_and_other_blocks_have_others():
    def trial(**model):
        return TrialSpec(task={"name": "digits"}, model=model, arm={"kind": "full"}).trial_id

    assert trial(kind="s5") == "8572f044794329f8"
    assert trial(kind="s4d") == "e60354a1e003849f"
    others = {
        trial(kind="s5", block="authors"),
        trial(kind="s5", block="authors", activation="half_glu2"),
        trial(kind="s4d", block="authors"),
        trial(kind="s5"),
        trial(kind="s4d"),
    }
    assert len(others) == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "s5", "norm": "none"}, "norm none belongs to block backbone"),
        ({"kind": "s4d", "mixer": "linear"}, "mixer linear belongs to block backbone"),
        (
            {"kind": "s5", "block": "backbone", "activation": "half_glu2"},
            "activation half_glu2 belongs to block authors",
        ),
        ({"kind": "s4d", "activation": "half_glu1"}, "activation"),
        ({"kind": "s4d", "block": "mine"}, "'backbone' or 'authors'"),
    ],
)
def test_what_does_not_belong_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(**{"block": "authors", **fields})
