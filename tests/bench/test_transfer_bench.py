"""The price of looking at one input: right from made-up losses, and whole at toy size."""

from __future__ import annotations

import json

import pytest
import torch

import harness
from harness.bench import transfer_bench as transfer
from harness.bench.transfer_bench import INPUTS, Loss
from harness.cli.app import execute
from harness.suite import Comparison, FullSpec, LRUSpec, SmallSpec, Suite, TaskSpec, TrainingSpec

SUITE = Suite(
    name="toy",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=2, width=4, state_dim=6),
            training=TrainingSpec(steps=4, batch_size=20, evaluate_every=4),
            arms={"full": FullSpec(), "small": SmallSpec(state_dims=(2,))},
            seeds=(0, 1),
        ),
    ),
)


def made(name, x):
    return INPUTS[name](x, torch.Generator().manual_seed(0))


def test_what_inputs_keep_of_the_examples():
    x = torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(1)) * 3 + 1
    assert torch.equal(made("as calibrated", x), x)
    mixed = made("shuffled steps", x)
    assert not torch.equal(mixed, x)
    for one, other in zip(mixed, x, strict=True):  # whole steps change places
        assert sorted(map(tuple, one.tolist())) == sorted(map(tuple, other.tolist()))
    long = made("4 in a row", x)
    assert long.shape == (2, 20, 2)
    assert torch.equal(long[1, 5:10], x[5])


def test_noise_has_each_channels_mean_and_deviation_and_no_spectrum():
    scale, middle = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 4.0])
    x = torch.ones(200, 50, 2).cumsum(1) / 50 * scale + middle
    noise = made("white noise", x)
    torch.testing.assert_close(noise.mean((0, 1)), x.mean((0, 1)), atol=0.05, rtol=0)
    torch.testing.assert_close(noise.std((0, 1)), x.std((0, 1)), atol=0.02, rtol=0)
    centred = noise - noise.mean((0, 1))
    lagged = (centred[:, 1:] * centred[:, :-1]).mean((0, 1)) / noise.var((0, 1))
    assert lagged.abs().max() < 0.05
    tokens = torch.tensor([[3, 7, 7, 7]]).repeat(100, 1)
    drawn = made("white noise", tokens)
    assert drawn.dtype == tokens.dtype
    assert set(drawn.unique().tolist()) == {3, 7}
    assert (drawn == 3).double().mean() == pytest.approx(0.5, abs=0.1)


def test_agreement_is_compared_by_model():
    losses = [
        Loss("digits", "white noise", gramians, seed, 0.5 + seed, agreement)
        for gramians, agreements in (("white", (0.2, 0.8)), ("task", (0.3, 0.9)))
        for seed, agreement in enumerate(agreements)
    ]
    white, task = transfer.summarise(losses)
    assert white["over_white"] is None
    assert white["output_error"]["mean"] == pytest.approx(1.0)
    assert task["over_white"]["mean"] == pytest.approx(10.0)
    assert task["over_white"]["high"] == pytest.approx(10.0)  # though the models differ by 60
    text = "\n".join(transfer.lines({"suite": "toy", "order": 3, "rows": [white, task]}))
    assert "+10.0 ± 0.0" in text


def test_a_run_at_toy_size(tmp_path, capsys):
    for arm in SUITE.comparisons[0].arms.values():
        for seed in SUITE.comparisons[0].seeds:
            like = SUITE.comparisons[0]
            spec = harness.suite.TrialSpec(
                task=like.task, model=like.model, training=like.training, arm=arm, seed=seed
            )
            harness.run_trial(spec, tmp_path)
    whole = transfer.measure(SUITE, tmp_path, order=6)
    assert {row["models"] for row in whole["rows"]} == {2}
    assert len(whole["rows"]) == len(INPUTS) * len(transfer.GRAMIANS)
    cut = transfer.measure(SUITE, tmp_path, order=1)
    for row, of_whole in zip(cut["rows"], whole["rows"], strict=True):
        assert of_whole["output_error"]["mean"] == 0.0  # nothing was removed
        assert of_whole["agreement"]["mean"] == 100.0
        assert 0.0 < row["output_error"]["mean"] < 1.5
    json.dumps(cut)


def test_what_it_cannot_do(tmp_path, capsys):
    assert execute(["bench", "transfer", "signal", "--store", str(tmp_path / "none")]) == 2
    assert "there is no store" in capsys.readouterr().err
    like = SUITE.comparisons[0]
    spec = harness.suite.TrialSpec(
        task=like.task, model=like.model, training=like.training,
        arm=SmallSpec(state_dims=(2,)), seed=0,
    )  # fmt: skip
    harness.run_trial(spec, tmp_path)
    with pytest.raises(ValueError, match="no completed model of arm 'full' of suite toy"):
        transfer.measure(SUITE, tmp_path)
