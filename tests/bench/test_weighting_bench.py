"""The cost of weighted decompositions: right from made-up timings, and whole from a toy run."""

import json

import pytest
import torch

from harness.bench import weighting_bench as weighting
from harness.bench.interleaved import Rounds
from harness.bench.shapes import Shape
from harness.bench.step_memory import Case, peaks
from harness.bench.timed_work import TrainingStep
from harness.bench.weighted_work import Calibrated
from harness.bench.weighting_bench import Setup
from harness.cli.app import execute

TOY = Setup(Shape("toy", "Toy", 4, 16, 2, (8,), vocabulary=5, outputs=3, blocks=2), 3)
SECONDS = {
    "step": [1.0, 1.0, 2.0],
    "passes": [4.0, 2.0, 4.0],
    "forward": [1.0, 1.0, 1.0],
    "both ways": [3.0, 2.0, 2.0],
    "horizon": [0.4, 0.4, 0.4],
    "signal": [3.0, 2.0, 3.0],
    "task": [6.0, 6.0, 4.0],
}
PEAKS = {"step": 2**21, "horizon": 2**20, "signal": None, "task": 3 * 2**20}


def test_factors_are_paired_by_round_and_leave_out_the_passes_of_each(machine):
    found = weighting.summarise(TOY, Rounds(SECONDS, {}), PEAKS)
    rows = {row["gramians"]: row for row in found["rows"]}
    assert rows["task"]["over_passes"] == {"median": 1.5, "low": 1.0, "high": 3.0}
    assert rows["task"]["beyond"] == {"median": 0.75, "low": 0.5, "high": 2.0}
    assert rows["signal"]["beyond"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert rows["horizon"]["beyond"] == pytest.approx({"median": 0.1, "low": 0.1, "high": 0.2})
    assert rows["task"]["steps"] == {"median": 6.0, "low": 2.0, "high": 6.0}
    assert rows["task"]["peak_over_step"] == 1.5
    assert rows["signal"]["peak_over_step"] is None
    lines = weighting.lines({"machine": machine, "rounds": 3, "setups": [found]})
    assert max(map(len, lines)) <= 120
    (cells,) = (line.split() for line in lines if line.startswith("Toy") and " task " in line)
    assert cells[4:] == [
        *("3", "x", "2", "8", "task", "6.00", "1.50", "0.750", "0.500..2.00", "6.00", "3.00"),
        "1.50",
    ]


def test_the_passes_train_nothing_and_give_all_gradients():
    step = TrainingStep(TOY.shape.model(8), TOY.shape.info, 2, torch.device("cpu"))
    before = [p.clone() for p in step.model.parameters()]
    calibrated = Calibrated(step, 3)
    inputs = [x for x, _ in calibrated.batches]
    assert not torch.equal(inputs[0], inputs[1])
    for call in calibrated.cases().values():
        call()
        assert step.model.training
    assert all(p.grad is not None for p in step.model.parameters())
    assert all(map(torch.equal, before, step.model.parameters()))


def test_a_spectrum_that_is_not_finite_enters_no_table(monkeypatch):
    step = TrainingStep(TOY.shape.model(8), TOY.shape.info, 2, torch.device("cpu"))
    calibrated = Calibrated(step, 1)
    broken = {0: calibrated.white[0]}
    object.__setattr__(broken[0], "hsv", torch.full((8,), torch.nan))
    monkeypatch.setattr("harness.bench.weighted_work.weighted_decompositions", lambda *_: broken)
    with pytest.raises(RuntimeError, match="task, block 0: the spectrum is not finite"):
        calibrated.decompose("task")


def test_the_peak_of_a_decomposition_is_of_all_its_batches_not_of_their_number():
    shape = Shape("m", "", 64, 1024, 8, (64,), inputs=1, blocks=2)
    cases = [Case(shape, 64, "scan", gramians="task", batches=k) for k in (1, 6)]
    step, one, many = peaks([Case(shape, 64, "scan"), *cases], "cpu", 1)
    features = 4 * 8 * 1024 * 64  # bytes of one (batch, length, H)
    assert one > 4 * features  # two layers' outputs, and what is kept between them
    assert many < 1.5 * one
    assert one < 1.5 * step


def test_a_run_at_toy_size(monkeypatch, capsys):
    monkeypatch.setattr(weighting, "QUICK_SETUPS", (TOY,))
    arguments = ["bench", "weighting", "--quick", "--rounds", "2", "--batches", "2"]
    assert execute([*arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["setups"]
    assert found["batches"] == 2
    assert [row["gramians"] for row in found["rows"]] == ["horizon", "signal", "task"]
    assert all(row["over_passes"]["low"] > 0 for row in found["rows"])
    assert all(row["peak_bytes"] is not None for row in found["rows"])
    assert execute(["bench", "weighting", "--batches", "0"]) == 2
    assert "batches must be from 1 to 10000, not 0" in capsys.readouterr().err
