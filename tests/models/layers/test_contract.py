"""What every layer is, checked for all of them alike: `harness.models.layers.base`."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.models import Layer, build
from harness.models.description import describe, rebuild
from harness.models.layers.capabilities import Capability, capabilities
from harness.models.specs import MODELS
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.costs.flops import forward_flops
from harness.training.host.memory import parameters
from harness.training.step.optimizer import make_optimizer

H, N, BATCH, LENGTH = 6, 5, 3, 17
KINDS = [spec.model_fields["kind"].default for spec in MODELS]
INFO = TaskInfo("next_token", outputs=4, length=LENGTH, inputs=2)
# What a counter of matrix products makes of a token's FLOPs, (H, n) -> number, where that is not
# what `layer_flops` says. The B and C of an LRU and of S5 are complex, which it counts like real;
# their recurrence, and what a GRU's gates do to the state, are elementwise and not counted.
COUNTED = {
    "lru": lambda h, n: 4 * n * h,
    "gru": lambda h, n: 6 * n * (h + n) + 2 * n * h,
    "s5": lambda h, n: 4 * n * h,
    "s4d": lambda h, n: 0,  # of the recurrence, which is elementwise
    "mamba": lambda h, n: 12 * h * h + 4 * h * (1 + 2 * n) + 4 * h,  # two channels an input, rank 1
    "mamba2": lambda h, n: 2 * h * (4 * h + 2 * n + 1) + 4 * h * h,  # the same, in one head
}
ELEMENTWISE = {
    "lru": lambda h, n: 8 * n,
    "gru": lambda h, n: 7 * n,
    "s5": lambda h, n: 8 * n,
    "s4d": lambda h, n: 14 * n * h,
    "mamba": lambda h, n: 12 * n * h + 24 * h,
    "mamba2": lambda h, n: 10 * n * h + 8 * (2 * h + 2 * n) + 16 * h + 1,
}
COMPLEX = {"lru", "s5"}  # kinds whose matrix products are complex
COUNTABLE = {
    kind: {"backend": "reference"} for kind in (*COMPLEX, "s4d", "mamba2")
}  # others do not multiply matrices


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def spec_of(kind, **fields):
    return ModelSpec(**{"kind": kind, "width": H, "state_dim": N, **fields})


def layer_of(kind, state_dim=N, dtype=torch.float64):
    spec = spec_of(kind)
    torch.manual_seed(0)
    return spec.layer_class().of(spec, state_dim).to(dtype)


def inputs(length=LENGTH, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(BATCH, length, H, dtype=dtype)


def test_it_is_a_layer_of_the_size_asked_for(kind):
    layer = layer_of(kind)
    assert isinstance(layer, Layer)
    assert layer.state_dim == N
    assert layer(inputs()).shape == (BATCH, LENGTH, H)


def test_it_draws_from_the_global_generator_alone(kind):
    one, two = layer_of(kind).state_dict(), layer_of(kind).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_does_not_look_ahead(kind):
    layer, u = layer_of(kind), inputs()
    torch.testing.assert_close(layer(u)[:, :9], layer(u[:, :9]), rtol=0, atol=1e-12)
    changed = u.clone()
    changed[:, 9] += 1.0
    assert not torch.allclose(layer(changed)[:, 9:], layer(u)[:, 9:])


@torch.no_grad()
def test_its_steps_are_its_forward(kind):
    layer, u = layer_of(kind).eval(), inputs()
    state, outputs = layer.initial_state(BATCH), []
    for step in u.unbind(1):
        before = [tensor.clone() for tensor in state.tensors]
        y, after = layer.step(step, state)
        assert all(map(torch.equal, before, state.tensors))
        outputs.append(y)
        state = after
    torch.testing.assert_close(torch.stack(outputs, 1), layer(u), rtol=0, atol=1e-12)


def test_a_state_is_of_its_sequences_and_keeps_the_weights(kind):
    layer = layer_of(kind).eval()
    state = layer.initial_state(BATCH)
    assert {len(tensor) for tensor in state.tensors} == {BATCH}
    assert state.bytes * 2 == layer.initial_state(2 * BATCH).bytes > 0
    u = inputs()[:, 0]
    with torch.no_grad():
        before, _ = layer.step(u, layer.initial_state(BATCH))
        begun = layer.initial_state(BATCH)
        assert torch.equal(layer.step(u, begun)[0], before)


def test_resizing_keeps_names_and_what_is_frozen_and_draws_nothing(kind):
    layer, other = layer_of(kind), layer_of(kind, 3)
    first = next(iter(dict(layer.named_parameters())))
    layer.get_parameter(first).requires_grad_(False)
    drawn = torch.get_rng_state()
    layer.resize(3)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert layer.state_dim == 3
    shapes = {name: (p.shape, p.dtype) for name, p in layer.named_parameters()}
    assert shapes == {name: (p.shape, p.dtype) for name, p in other.named_parameters()}
    frozen = [name for name, p in layer.named_parameters() if not p.requires_grad]
    assert frozen == [first]
    layer.load_state_dict(other.state_dict())
    layer.requires_grad_(True)  # torch multiplies by what is frozen in another order
    assert torch.equal(layer(inputs()), other(inputs()))
    with pytest.raises(ValueError, match="at least 1, not 0"):
        layer.resize(0)


def test_a_model_of_it_comes_back_bit_by_bit(kind):
    torch.manual_seed(0)
    model = build(spec_of(kind, state_dim=[N, 3]), INFO).eval()
    description = json.loads(json.dumps(describe(model)))
    assert description["model"]["kind"] == kind
    again = rebuild(description, model.state_dict())
    x = torch.randn(BATCH, LENGTH, 2)
    assert again.state_dims == [N, 3]
    assert torch.equal(again(x), model(x))


def test_a_size_that_the_weights_have_not_is_refused(kind):
    model = build(spec_of(kind), INFO)
    with pytest.raises(ValueError, match="the weights do not fit the description"):
        rebuild({**describe(model), "state_dims": [N, N + 1]}, model.state_dict())


@pytest.mark.parametrize("state_dim", [1, 5, 8])
def test_its_flops_against_the_counter(kind, state_dim):
    spec = spec_of(kind, state_dim=state_dim, **COUNTABLE.get(kind, {}))
    layer = spec.layer_class().of(spec, state_dim)
    with FlopCounterMode(display=False) as counter:
        layer(inputs(dtype=torch.float32))
    tokens = BATCH * LENGTH
    products = spec.layer_flops(state_dim) - ELEMENTWISE[kind](H, state_dim)
    assert counter.get_total_flops() == tokens * COUNTED[kind](H, state_dim)
    complex_products = 2 if kind in COMPLEX else 1
    assert products == complex_products * COUNTED[kind](H, state_dim)


def test_a_model_counts_the_flops_of_its_layers(kind):
    spec = spec_of(kind, state_dim=[N, 3])
    mixers = 0 if spec.surroundings[1] == "none" else 2 * 4 * H * H
    mixers_and_ends = forward_flops(spec, INFO, []) + LENGTH * mixers
    layers = sum(spec.layer_flops(n) for n in (N, 3))
    assert forward_flops(spec, INFO, [N, 3]) == LENGTH * layers + mixers_and_ends


def test_its_spec_knows_how_many_numbers_it_has(kind):
    spec = spec_of(kind, state_dim=[N, 3])
    assert spec.layer_parameters(N) == sum(p.numel() for p in layer_of(kind).parameters())
    model = build(spec, INFO)
    assert parameters(spec, INFO, [N, 3]) == sum(p.numel() for p in model.parameters())


def test_every_parameter_trains_in_one_group_as_the_layer_says(kind):
    model = build(spec_of(kind), INFO)
    training = TrainingSpec(lr=0.01, ssm_lr_factor=0.25, weight_decay=0.05)
    how = {}
    for group in make_optimizer(model, training).param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in how
            how[id(parameter)] = (group["factor"], group["weight_decay"])
    layer = model.blocks[0].ssm
    assert not set(layer.ssm_parameters) & set(layer.undecayed_parameters)
    for name, parameter in layer.named_parameters():
        if name in layer.ssm_parameters:
            assert how.pop(id(parameter)) == (0.25, 0.0)
        elif name in layer.undecayed_parameters:
            assert how.pop(id(parameter)) == (1.0, 0.0)
        else:
            assert how.pop(id(parameter)) == (1.0, 0.05)
    assert how.pop(id(model.head.weight)) == (1.0, 0.05)


def test_its_backend_has_a_name_and_a_reason(kind):
    model = build(spec_of(kind), INFO)
    for choice in model.backends(BATCH, "cpu"):
        assert choice.name
        assert choice.reason
    spec_of(kind).check_device("cpu")


def test_its_spec_says_what_it_can_do(kind):
    spec = spec_of(kind)
    assert spec.capabilities == capabilities(spec.layer_class())
    layer = layer_of(kind)
    assert all(hasattr(layer, name) for one in spec.capabilities for name in one.members)


def test_a_layer_that_lacks_a_part_cannot_be_made():
    class Halfway(Layer):
        def forward(self, u):
            return u

    with pytest.raises(TypeError, match="initial_state"):
        Halfway()


@pytest.mark.parametrize(
    ("members", "capability"),
    [
        ({"system", "assign"}, Capability.SYSTEM),
        ({"trainable_system"}, Capability.GRADIENT),
        ({"rates", "selection"}, Capability.SURROGATE),
        ({"transports", "restarts"}, Capability.MOMENTS),
        ({"add_gain"}, Capability.GAIN),
        ({"keep_modes"}, Capability.MODES),
    ],
)
def test_a_capability_is_what_a_class_has(members, capability):
    whole = type("Own", (), dict.fromkeys(members))
    assert capabilities(whole) == {capability}
    for name in members:
        assert capabilities(type("Own", (), dict.fromkeys(members - {name}))) == set()
