"""What memory a trial cannot do without, and what there is."""

import itertools

import pytest
import torch

from harness.models import build
from harness.suite import LRUSpec, TaskSpec, TrainingSpec, TrialSpec
from harness.training.host import memory
from harness.training.host.memory import check_memory, least_memory, parameters

DIGITS = TaskSpec(name="digits")


def trial(arm=None, task=DIGITS, **fields):
    return TrialSpec(task=task, arm=arm or {"kind": "full"}, **fields)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("mixer", ["glu", "linear"])
@pytest.mark.parametrize(
    "task", [DIGITS, TaskSpec(name="pylib", window=16), TaskSpec(name="aan", length=16)]
)
def test_parameters_are_those_of_the_model(norm, mixer, task):
    spec = LRUSpec(blocks=2, width=6, state_dim=(3, 5), norm=norm, mixer=mixer)
    model = build(spec, task.info)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert parameters(spec, task.info, spec.state_dims) == counted


def saved_bytes(spec, batch):
    """What autograd keeps of a forward pass, each storage once."""
    model = build(spec, DIGITS.info).train()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    alive = []  # so that no address comes twice
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: alive.append(keep(t)) or t, lambda t: t
    ):
        model(torch.randn(batch, DIGITS.info.length, 1)).sum()
    return sum(kept.values())


@pytest.mark.parametrize(
    ("norm", "mixer", "remember", "precision"),
    list(
        itertools.product(
            ["batch", "none"], ["glu", "linear"], ["states", "boundaries"], ["fp32", "bf16"]
        )
    ),
)
def test_activations_are_no_more_than_autograd_keeps(norm, mixer, remember, precision):
    spec = LRUSpec(
        blocks=3, width=8, state_dim=1, norm=norm, mixer=mixer, remember=remember,
        precision=precision,
    )  # fmt: skip
    wanted = least_memory(trial(model=spec, training=TrainingSpec(batch_size=20)))
    assert 0 < wanted.activations <= saved_bytes(spec, 20)


@pytest.mark.parametrize(
    ("arm", "blocks_of"),
    [
        ({"kind": "full"}, 64),
        ({"kind": "in_training"}, 64),
        ({"kind": "small", "state_dims": [3]}, 3),
        ({"kind": "small", "match": "mean", "to": {"kind": "in_training"}}, 1),
        ({"kind": "distill", "state_dims": [3]}, 3),
        ({"kind": "hankel_regularized", "state_dims": [3]}, 64),
    ],
)
def test_a_model_counts_at_the_size_that_it_trains_at(arm, blocks_of):
    one = trial(arm=arm, model=LRUSpec(blocks=2, width=4, state_dim=64))
    assert least_memory(one).model == 16 * parameters(one.model, DIGITS.info, [blocks_of] * 2)


def test_a_reduction_needs_the_full_models_weights_only():
    one = trial(arm={"kind": "post_hoc", "state_dims": [3], "finetune_steps": 5})
    need = least_memory(one)
    assert need.model == 4 * parameters(one.model, DIGITS.info, one.model.state_dims)
    assert need.activations == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"model": LRUSpec(blocks=1000, width=65_536)},
            "at least 126 TiB of memory (125 TiB for model",
        ),
        ({"task": TaskSpec(name="vowels", train=10_000_000, length=160_000)}, "TiB for data"),
        (
            {"model": LRUSpec(blocks=1000, width=4096), "training": TrainingSpec(batch_size=1000)},
            "977 GiB for activations",
        ),
    ],
)
def test_what_cannot_fit_is_refused_in_words(fields, says, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**34)
    with pytest.raises(
        ValueError, match=r"\Aa full trial of [^\n]+; there are 16 GiB here\Z"
    ) as no:
        check_memory(trial(**fields))
    assert says in str(no.value)


def test_the_article_is_that_of_the_arm(monkeypatch):
    monkeypatch.setattr("harness.training.host.memory.machine_memory", lambda: 2**10)
    with pytest.raises(ValueError, match="an in_training trial of "):
        check_memory(trial({"kind": "in_training"}))


def test_what_fits_exactly_passes(monkeypatch):
    need = least_memory(trial())
    total = need.model + need.activations + need.data
    monkeypatch.setattr(memory, "machine_memory", lambda: total)
    check_memory(trial())
    monkeypatch.setattr(memory, "machine_memory", lambda: total - 1)
    with pytest.raises(ValueError, match="needs at least"):
        check_memory(trial())


def test_on_a_gpu_the_data_stay_outside_and_the_model_in_it(monkeypatch):
    need = least_memory(trial())
    monkeypatch.setattr(memory, "machine_memory", lambda: need.data)
    check_memory(trial(), gpu_bytes=need.model + need.activations)
    with pytest.raises(ValueError, match="the GPU has "):
        check_memory(trial(), gpu_bytes=need.model + need.activations - 1)
