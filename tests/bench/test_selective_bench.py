"""What truncations of selective layers lose and cost: the arithmetic, and the whole at toy size."""

import json

import pytest

from harness.bench import selective_bench as bench
from harness.bench.selective_bench import Loss
from harness.cli.app import execute


def test_medians_and_ranges_are_over_blocks_and_seeds():
    errors = {0: (0.1, 0.5), 1: (0.3, 0.9)}
    losses = [
        Loss("digits", "mamba", 2, "own", how, seed, scale * error)
        for how, scale in (("mean_modes", 1.0), ("random", 2.0))
        for seed, both in errors.items()
        for error in both
    ]
    one, other = bench.summarise(losses)
    assert one["how"] == "mean_modes"
    assert one["models"] == other["models"] == 2
    assert one["output_error"] == pytest.approx(0.4)
    assert other["output_error"] == pytest.approx(0.8)
    assert (one["lowest"], one["highest"]) == (0.1, 0.9)


def test_at_toy_size_a_free_basis_loses_least(capsys, monkeypatch):
    monkeypatch.setattr(bench, "SIZES", (2,))
    monkeypatch.setattr(bench, "EXAMPLES", 32)
    assert execute(["bench", "selective", "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["kind"], row["basis"], row["how"]): row for row in found["losses"]}
    assert ("mamba", "free", "mean_lti") in rows
    assert ("mamba2", "free", "mean_lti") not in rows
    for kind in ("mamba", "mamba2"):
        free = rows[kind, "free", "second_moment"]["output_error"]
        assert 0.0 <= free < rows[kind, "own", "second_moment"]["output_error"]
        assert free < rows[kind, "own", "random"]["output_error"]
    assert [row["how"] for row in found["costs"]] == ["mean_modes", "second_moment", "mean_lti"]
    assert all(row["steps"]["median"] > 0 for row in found["costs"])


def test_what_cannot_be_measured_is_refused(capsys):
    assert execute(["bench", "selective", "--batches", "0"]) == 2
    assert "batches must be at least 1, not 0" in capsys.readouterr().err
