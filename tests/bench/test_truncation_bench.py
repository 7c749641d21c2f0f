"""The cost of a truncation: right from made-up timings, and whole from a run at toy size."""

import json
from dataclasses import replace

import pytest
import torch

from harness.bench import truncation_bench as truncation
from harness.bench import truncation_table
from harness.bench.interleaved import Rounds
from harness.bench.timed_work import TrainingStep
from harness.bench.truncation_bench import Copies, Setup
from harness.cli.app import execute

TOY = Setup(2, 4, 8, 16, (3,))
SECONDS = {"step": [1.0, 2.0, 4.0], "spectra": [0.1, 0.2, 0.3], "to 3": [0.5, 0.5, 0.5]}

AFTER = {"first": [0.3, 0.2, 0.4], "second": [0.1, 0.1, 0.2], "steady": [0.1, 0.2, 0.2]}


def summary(batch):
    return truncation.summarise(TOY, batch, Rounds(SECONDS, {}), {3: Rounds(AFTER, {})})


def test_cost_in_steps_and_the_steps_after():
    found = summary(50)
    assert found["step_seconds"] == {"median": 2.0, "low": 1.0, "high": 4.0}
    (row,) = found["rows"]
    assert row["seconds"]["median"] == 0.5
    assert row["steps"] == {"median": 0.25, "low": 0.125, "high": 0.5}
    assert row["steady_step_seconds"] == {"median": 0.2, "low": 0.1, "high": 0.2}
    assert row["first_over_steady"] == pytest.approx({"median": 2.0, "low": 1.0, "high": 3.0})
    assert row["second_over_steady"] == pytest.approx({"median": 1.0, "low": 0.5, "high": 1.0})


def test_a_step_at_another_batch_is_scaled_and_marked(machine):
    found = summary(25)
    assert found["step_seconds"]["median"] == 4.0
    assert found["rows"][0]["steps"]["median"] == 0.125
    result = {"machine": machine, "rounds": 3, "batch": 50, "steady_batch": 4}
    lines = truncation_table.lines({**result, "setups": [summary(50), found]})
    assert max(map(len, lines)) <= 120
    measured, estimated = (line.split() for line in lines if line.startswith("     2"))
    assert (measured[8], measured[9]) == ("2000", "0.250")
    assert (estimated[8], estimated[9]) == ("~4000", "~0.125")
    assert any("estimated, 50/25 times the step measured at batch 25" in line for line in lines)


def test_the_batch_is_what_memory_allows():
    need = TOY.bytes_of_step(50) / truncation.ROOM
    assert truncation.batch_that_fits(TOY, 1.01 * need) == 50
    assert truncation.batch_that_fits(TOY, 0.99 * need) == 25
    assert truncation.batch_that_fits(TOY, 0.0) == 8
    assert truncation.batch_that_fits(replace(TOY, length=32), 1.01 * need) == 25


def test_each_call_truncates_a_fresh_copy_with_its_moments():
    step = TrainingStep(TOY.model, TOY.info, 2, torch.device("cpu"))
    step()
    copies = Copies(step, 3)
    copies.prepare(2)
    kept = list(copies.waiting)
    copies()
    copies()
    assert step.model.state_dims == [8, 8]
    for model, optimizer in kept:
        assert model.state_dims == [3, 3]
        moments = optimizer.state[model.blocks[0].ssm.B_re]["exp_avg"]
        assert moments.shape == (3, 4)
        assert moments.abs().sum() > 0
    assert kept[0][0] is not kept[1][0]


def test_a_run_at_toy_size(monkeypatch, capsys):
    monkeypatch.setattr(truncation, "QUICK_SETUPS", (TOY,))
    assert execute(["bench", "truncation", "--quick", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (found,) = result["setups"]
    assert found["step_measured_at_batch"] == 50
    assert found["rows"][0]["rank"] == 3
    assert found["rows"][0]["seconds"]["low"] > 0
    assert found["rows"][0]["first_over_steady"]["low"] > 0
    assert truncation_table.lines(result)
