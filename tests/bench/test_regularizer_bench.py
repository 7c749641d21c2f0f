"""The overhead of the norm: right from made-up timings, and whole from a run at toy size."""

import json

import pytest
import torch

from harness.bench import regularizer_bench as regularizer
from harness.bench.interleaved import Rounds
from harness.bench.regularizer_bench import RegularizedStep, penalties, published
from harness.bench.shapes import Shape
from harness.bench.timed_work import TrainingStep
from harness.cli.app import execute
from harness.reduction.regularizer import hankel_nuclear_norm, regularizer_flops

TWO = Shape("two", "Two", 4, 16, 2, (8,), inputs=1, outputs=3, blocks=2)
SECONDS = {
    "plain": [1.0, 2.0, 4.0],
    "eigvals": [16.0, 16.0, 16.0],
    "exact": [3.0, 3.0, 8.0],
    "adjoint": [1.5, 4.0, 4.0],
    "modal": [1.1, 2.0, 4.0],
}


def test_factors_are_paired_by_round(machine):
    found = regularizer.summarise(TWO, 8, Rounds(SECONDS, {}))
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["eigvals"]["over_plain"] == {"median": 8.0, "low": 4.0, "high": 16.0}
    assert rows["exact"]["over_plain"] == {"median": 2.0, "low": 1.5, "high": 3.0}
    assert rows["eigvals"]["over_plain_by_flops"] is None
    expected = 1 + 2 * regularizer_flops(8, 4, "exact") / TWO.flops(8)
    assert rows["exact"]["over_plain_by_flops"] == pytest.approx(expected)
    lines = regularizer.lines({"machine": machine, "rounds": 3, "sizes": [found]})
    assert max(map(len, lines)) <= 120
    (cells,) = (line.split() for line in lines if " exact " in line and line.startswith("Two"))
    assert cells[5:10] == ["8", "exact", "3000", "2.00", "1.50..3.00"]


def test_the_published_form_has_the_same_value():
    step = TrainingStep(TWO.model(8), TWO.info, 2, torch.device("cpu"))
    exact = hankel_nuclear_norm(step.model, "exact")
    torch.testing.assert_close(published(step.model), exact, rtol=1e-6, atol=0)


def test_the_norm_is_in_the_loss_and_moves_the_parameters():
    device = torch.device("cpu")
    plain = TrainingStep(TWO.model(8), TWO.info, 2, device)
    plain()
    for penalty in penalties().values():
        step = RegularizedStep(TWO.model(8), TWO.info, 2, device, penalty)
        norm = float(penalty(step.model).detach())
        step()
        added = float(step.loss) - float(plain.loss)
        assert added == pytest.approx(regularizer.WEIGHT * norm, rel=1e-3)
        pairs = zip(step.model.parameters(), plain.model.parameters(), strict=True)
        assert any(not torch.equal(one, other) for one, other in pairs)


def test_a_run_at_toy_size(monkeypatch, capsys):
    monkeypatch.setattr(regularizer, "QUICK_SHAPES", (TWO,))
    assert execute(["bench", "regularizer", "--quick", "--rounds", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["sizes"]
    assert [row["method"] for row in found["rows"]] == ["eigvals", "exact", "adjoint", "modal"]
    assert all(row["over_plain"]["low"] > 0 for row in found["rows"])
    assert execute(["bench", "regularizer", "--rounds", "0"]) == 2
    assert "rounds must be at least 1" in capsys.readouterr().err
