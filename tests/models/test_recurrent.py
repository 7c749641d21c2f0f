"""One step at a time gives what the parallel form gives, for every kind of task and of block."""

import pytest
import torch

from harness.models import build
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

LENGTH, OUTPUTS, CHANNELS, VOCABULARY = 23, 4, 3, 7
KINDS = ("classification", "next_token", "regression")


def info_of(kind, tokens, paired):
    read = {"vocabulary": VOCABULARY} if tokens else {"inputs": CHANNELS}
    return TaskInfo(kind, OUTPUTS, LENGTH, paired=paired, **read)


def model_of(info, dtype=torch.float64, **fields):
    """A model whose norms have seen other data than they will see here."""
    torch.manual_seed(0)
    model = build(ModelSpec(width=6, state_dim=[5, 3], dropout=0.3, **fields), info).to(dtype)
    for _ in range(3):
        model.train()(inputs_of(info, dtype))
    return model.eval()


def inputs_of(info, dtype, batch=5):
    shape = (batch, 2, LENGTH) if info.paired else (batch, LENGTH)
    if info.vocabulary is not None:
        return torch.randint(VOCABULARY, shape)
    return torch.randn(*shape, CHANNELS, dtype=dtype)


def stepwise(model, x):
    """Logits of every step, (length, batch, outputs), and the last state."""
    axis = 2 if model.info.paired else 1
    state, logits = model.initial_state(len(x)), []
    for x_t in x.unbind(axis):
        now, state = model.step(x_t, state)
        logits.append(now)
    return torch.stack(logits), state


def parallel(model, x):
    """The same from the parallel form: a classification's of every beginning of the sequences."""
    with torch.no_grad():
        if model.info.kind != "classification":
            return model(x).transpose(0, 1)
        axis = 2 if model.info.paired else 1
        return torch.stack([model(x.narrow(axis, 0, k + 1)) for k in range(LENGTH)])


@pytest.mark.parametrize("norm", ["batch", "ema_batch", "none"])
@pytest.mark.parametrize("mixer", ["glu", "linear"])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(
    ("kind", "paired"), [*((kind, False) for kind in KINDS), ("classification", True)]
)
def test_steps_are_the_parallel_form(kind, paired, tokens, mixer, norm):
    model = model_of(info_of(kind, tokens, paired), norm=norm, mixer=mixer)
    x = inputs_of(model.info, torch.float64)
    torch.testing.assert_close(stepwise(model, x)[0], parallel(model, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_too_over_a_long_sequence(kind):
    length = 1000
    info = TaskInfo(kind, OUTPUTS, length, inputs=CHANNELS)
    torch.manual_seed(0)
    model = build(ModelSpec(width=16, state_dim=32), info).eval()
    x = torch.randn(2, length, CHANNELS)
    ours, _ = stepwise(model, x)
    with torch.no_grad():
        theirs = model(x) if kind == "classification" else model(x).transpose(0, 1)
    ours = ours[-1] if kind == "classification" else ours
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_with_products_in_bfloat16_as_well_as_those_are():
    model = model_of(info_of("next_token", True, False), torch.float32, precision="bf16")
    x = inputs_of(model.info, torch.float32)
    ours, theirs = stepwise(model, x)[0], parallel(model, x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * float(theirs.abs().max()))


@pytest.mark.parametrize("dims", [[3, 2], [1, 1]])
def test_after_a_truncation_too(dims):
    from harness.reduction import truncate

    model = model_of(info_of("next_token", True, False), torch.float32)
    truncate(model, state_dims=dims)
    x = inputs_of(model.info, torch.float32)
    logits, state = stepwise(model, x)
    torch.testing.assert_close(logits, parallel(model, x), rtol=1e-4, atol=1e-5)
    assert [one.tensors[0].shape[1] for one in state.layers] == dims


@pytest.mark.parametrize(
    ("kind", "paired", "expected"),
    [
        ("next_token", False, 8 * (5 + 3)),  # complex64 of two blocks
        ("classification", False, 8 * (5 + 3) + 4 * 6),  # and the pool
        ("classification", True, 2 * (8 * (5 + 3) + 4 * 6)),
    ],
)
def test_the_memory_of_a_state(kind, paired, expected):
    model = model_of(info_of(kind, True, paired), torch.float32)
    assert model.initial_state(1).bytes == expected
    assert model.initial_state(10).bytes == 10 * expected
    _, state = stepwise(model, inputs_of(model.info, torch.float32, batch=1))
    assert state.bytes == expected
    assert state.steps == LENGTH


def test_a_state_can_be_gone_on_from_twice():
    model = model_of(info_of("classification", True, False))
    x = inputs_of(model.info, torch.float64)
    _, middle = stepwise(model, x[:, :11])
    one, _ = model.step(x[:, 11], middle)
    model.step(x[:, 12], middle)
    two, _ = model.step(x[:, 11], middle)
    assert torch.equal(one, two)


def test_wrong_calls_are_refused():
    tokens = model_of(info_of("classification", True, False))
    with pytest.raises(ValueError, match="at least 1, not 0"):
        tokens.initial_state(0)
    state = tokens.initial_state(2)
    with pytest.raises(ValueError, match=r"x of shape \(2,\), not \(2, 1\)"):
        tokens.step(torch.zeros(2, 1, dtype=torch.int64), state)
    with pytest.raises(ValueError, match=r"x of shape \(2,\), not \(3,\)"):
        tokens.step(torch.zeros(3, dtype=torch.int64), state)
    pairs = model_of(info_of("classification", False, True))
    with pytest.raises(ValueError, match=r"x of shape \(1, 2, 3\), not \(2, 3\)"):
        pairs.step(torch.zeros(2, 3).double(), pairs.initial_state(1))
    tokens.train()
    with pytest.raises(ValueError, match=r"call model\.eval"):
        tokens.step(torch.zeros(2, dtype=torch.int64), state)
