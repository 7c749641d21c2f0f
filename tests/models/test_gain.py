"""The static gain of a layer: absent until needed, the same in both forms, and stored with it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from harness.models import LRU, build, load
from harness.models.description import describe, rebuild
from harness.reduction import hankel_singular_values, spectra, truncate
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

INFO = TaskInfo("next_token", outputs=4, length=23, inputs=3)


def model_of(dtype=torch.float64, **fields):
    """Two blocks, a gain in the second alone."""
    torch.manual_seed(0)
    model = build(ModelSpec(width=6, state_dim=[5, 4], **fields), INFO).to(dtype)
    model.train()(torch.randn(8, 23, 3, dtype=dtype))
    truncate(model, state_dims=[5, 2], method="singular_perturbation")
    return model.eval()


def test_there_is_none_at_first():
    layer = LRU(4, 3)
    assert layer.gain is None
    assert "gain" not in layer.state_dict()
    assert "gain" not in dict(layer.named_parameters())
    assert "gains" not in describe(build(ModelSpec(width=6, state_dim=5), INFO))


def test_it_adds_its_product_with_the_input_and_sums_up():
    torch.manual_seed(0)
    layer, u = LRU(4, 3).double(), torch.randn(2, 7, 4, dtype=torch.float64)
    first, second = torch.randn(2, 4, 4, dtype=torch.complex128)
    before = layer(u)
    layer.add_gain(first)
    wanted = before + torch.einsum("ij,btj->bti", first.real, u)
    torch.testing.assert_close(layer(u), wanted)
    layer.add_gain(second)
    wanted = before + torch.einsum("ij,btj->bti", (first + second).real, u)
    torch.testing.assert_close(layer(u), wanted)
    assert layer.gain.dtype == torch.float64
    layer(u).sum().backward()
    torch.testing.assert_close(layer.gain.grad, u.sum((0, 1)).expand(4, 4))


def test_the_system_and_its_spectrum_know_nothing_of_it():
    layer = LRU(4, 3)
    before = [hankel_singular_values(*layer.system()), *layer.system()]
    layer.add_gain(torch.randn(4, 4))
    after = [spectra(layer)[0][0], *layer.system()]
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mixer", ["glu", "linear"])
def test_steps_are_the_parallel_form(mixer):
    model = model_of(mixer=mixer)
    x = torch.randn(5, 23, 3, dtype=torch.float64)
    state, logits = model.initial_state(5), []
    for x_t in x.unbind(1):
        now, state = model.step(x_t, state)
        logits.append(now)
    with torch.no_grad():
        whole = model(x)
        torch.testing.assert_close(torch.stack(logits, 1), whole, rtol=0, atol=1e-10)
        model.blocks[1].ssm.gain.zero_()
        assert not torch.allclose(model(x), whole, atol=1e-4)


def test_under_bfloat16_products_it_is_one_of_them():
    model = model_of(torch.float32, precision="bf16")
    x = torch.randn(5, 23, 3)
    with torch.no_grad():
        ours, exact = model(x), model_of(torch.float32)(x)
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, exact)
    torch.testing.assert_close(ours, exact, rtol=0, atol=0.05 * float(exact.abs().max()))


def store(model, folder):
    (folder / "model.json").write_text(json.dumps(describe(model)))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def test_a_stored_model_comes_back_bit_by_bit(tmp_path):
    model = model_of(torch.float32)
    assert describe(model)["gains"] == [1]
    again = load(store(model, tmp_path))
    assert again.blocks[0].ssm.gain is None
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    x = torch.randn(5, 23, 3)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ([], r"blocks.1.ssm.gain is \(6, 6\) float32, and should be absent"),
        ([0, 1], r"blocks.0.ssm.gain is missing, and should be \(6, 6\) float32"),
        ([2], "gains must name blocks from 0 to 1, not 2"),
        ([-1], "gains must name blocks from 0 to 1, not -1"),
        ([True], "gains must name blocks from 0 to 1, not True"),
        (1, "the description is wrong"),
        (["1"], "gains must name blocks from 0 to 1, not '1'"),
    ],
)
def test_a_description_with_other_gains_is_refused(gains, message):
    model = model_of(torch.float32)
    with pytest.raises(ValueError, match=message):
        rebuild({**describe(model), "gains": gains}, model.state_dict())


def test_keeping_modes_keeps_their_bits():
    layer = LRU(4, 6)
    layer.B_re.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.keep_modes(torch.tensor([1, 4]))
    assert layer.state_dim == 2
    for name, p in layer.named_parameters():
        axis = LRU.state_axis(name)
        kept = (
            before[name] if name == "D" else before[name].index_select(axis, torch.tensor([1, 4]))
        )
        assert torch.equal(p, kept)
        assert p.is_contiguous()
        assert p.requires_grad == (name != "B_re")
