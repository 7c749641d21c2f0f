"""What is stored is what comes back, bit by bit, and nothing else does."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.models import build, load
from harness.models.description import describe, rebuild
from harness.reduction import truncate
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

INFOS = {
    "classification": TaskInfo("classification", outputs=4, length=9, inputs=2),
    "next_token": TaskInfo("next_token", outputs=7, length=9, vocabulary=7),
    "paired": TaskInfo("classification", outputs=2, length=9, vocabulary=7, paired=True),
}


def trained(kind="classification", **fields):
    """A model that has been used and truncated, with running statistics of its own."""
    torch.manual_seed(0)
    model = build(ModelSpec(blocks=2, width=6, state_dim=[8, 5], **fields), INFOS[kind])
    model.train()(inputs_of(kind))
    truncate(model, state_dims=[6, 2])
    return model


def inputs_of(kind):
    torch.manual_seed(1)
    info = INFOS[kind]
    if info.vocabulary is None:
        return torch.randn(3, info.length, info.inputs)
    return torch.randint(info.vocabulary, (3, 2, info.length) if info.paired else (3, info.length))


def store(model, folder):
    (folder / "model.json").write_text(json.dumps(describe(model)))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("classification", {}),
        ("classification", {"norm": "ema_batch", "mixer": "linear", "dropout": 0.3}),
        ("next_token", {"norm": "none"}),
        ("paired", {}),
    ],
)
def test_a_stored_model_comes_back_bit_by_bit(kind, fields, tmp_path):
    model = trained(kind, **fields)
    again = load(store(model, tmp_path))
    assert not again.training
    assert again.state_dims == [6, 2]
    assert (again.spec, again.info) == (model.spec, model.info)
    state, stored = model.state_dict(), again.state_dict()
    assert list(state) == list(stored)
    assert all(torch.equal(state[name], stored[name]) for name in state)
    x = inputs_of(kind)
    assert torch.equal(again(x), model.eval()(x))
    assert all(p.requires_grad for p in again.parameters())
    assert describe(again) == describe(model)


def test_the_description_is_plain_json():
    description = describe(trained())
    assert json.loads(json.dumps(description)) == description
    assert description["state_dims"] == [6, 2]
    assert TaskInfo(**description["task_info"]) == INFOS["classification"]
    assert description["task_info"] == INFOS["classification"].described()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    store(trained(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"holds no model: {name} is missing"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("length", [0, 0.5])
def test_a_torn_file_is_refused(name, length, tmp_path):
    path = store(trained(), tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(length * len(content))])
    with pytest.raises(ValueError, match=f"{tmp_path.name} holds no whole model"):
        load(tmp_path)


def without(name):
    return lambda weights: weights.pop(name)


def changed(name, change):
    return lambda weights: weights.update({name: change(weights[name])})


TAMPERED = {
    "missing": (
        without("blocks.1.ssm.B_im"),
        r"blocks\.1\.ssm\.B_im is missing, and should be \(2, 6\) float32",
    ),
    "unknown": (
        lambda weights: weights.update({"blocks.2.ssm.D": torch.zeros(6)}),
        r"blocks\.2\.ssm\.D is \(6,\) float32, and should be absent",
    ),
    "another shape": (
        changed("blocks.0.ssm.nu_log", lambda w: w[:-1]),
        r"blocks\.0\.ssm\.nu_log is \(5,\) float32, and should be \(6,\)",
    ),
    "another type": (
        changed("head.bias", lambda w: w.double()),
        r"head\.bias is \(4,\) float64, and should be \(4,\) float32",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_weights_that_do_not_fit_are_refused_by_name(how, tmp_path):
    tamper, message = TAMPERED[how]
    store(trained(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    tamper(weights)
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"{tmp_path.name} holds no whole model: .*{message}"):
        load(tmp_path)


WRONG = {
    "no format": (lambda d: d.pop("format"), "format is None; this version reads 1"),
    "a later format": (lambda d: d.update(format=2), "format is 2"),
    "no model": (lambda d: d.pop("model"), "lacks 'model'"),
    "no task": (lambda d: d.pop("task_info"), "lacks 'task_info'"),
    "no sizes": (lambda d: d.pop("state_dims"), "lacks 'state_dims'"),
    "a field too much": (lambda d: d["task_info"].update(surprise=1), "surprise"),
    "a field too few": (lambda d: d["task_info"].pop("outputs"), "outputs"),
    "a bad value": (lambda d: d["model"].update(width=0), "width"),
    "a size too few": (lambda d: d.update(state_dims=[6]), "shorter"),
    "an empty block": (lambda d: d.update(state_dims=[6, 0]), "at least 1, not 0"),
    "sizes that are no numbers": (lambda d: d.update(state_dims=["6", "2"]), "wrong"),
    "other sizes": (lambda d: d.update(state_dims=[6, 3]), r"blocks\.1\.ssm\.B_im is \(2, 6\)"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_description_is_refused(how):
    tamper, message = WRONG[how]
    model = trained()
    description = json.loads(json.dumps(describe(model)))
    tamper(description)
    with pytest.raises(ValueError, match=message):
        rebuild(description, model.state_dict())


@pytest.mark.parametrize("description", [[], None, "model"])
def test_a_description_that_is_none_is_refused(description):
    with pytest.raises(ValueError, match="format is None"):
        rebuild(description, trained().state_dict())
