"""Our own claims, against results/signal as published and against records that refute them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import execute
from harness.records import schemas
from harness.records.suite_records import SuiteRecords
from harness.report import presentation as show
from harness.report.claims.read import OWN, SHIPPED, all_claims, read_claims
from harness.report.claims.verdicts import verdicts_on

SIGNAL = Path(__file__).parents[3] / "results" / "signal"
# What intervals that include 0 leave open; all others are reproduced.
OPEN = {
    "vowels_task_target", "listops_task_target", "listops_tuned_over_white",
    "listops_in_training_signal_over_white", "vowels_in_training_target",
    "digits_in_training_over_small", "listops_in_training_over_small",
    "digits_small_at_flops_of_signal", "vowels_small_at_flops_of_signal",
    "pylib_small_at_flops_of_signal", "listops_small_at_flops_of_signal",
    "listops_small_at_flops_of_task",
}  # fmt: skip


def judged(folder: Path) -> dict:
    found = verdicts_on(read_claims(OWN), SuiteRecords(folder, "signal"), "signal")
    return {one.claim.id: one for one in found}


@pytest.fixture(scope="module")
def published() -> dict:
    return judged(SIGNAL)


def test_each_has_its_verdict_over_all_seeds(published):
    assert {name: one.verdict for name, one in published.items()} == {
        name: "underpowered" if name in OPEN else "reproduced" for name in published
    }
    assert len(published) == len(read_claims(OWN).claims) == 35
    assert set(published) > OPEN
    assert {finding.seeds for one in published.values() for finding in one.findings} == {8}


def test_the_numbers_they_give_are_those_of_the_records(published):
    given = {name: one for name, one in published.items() if one.claim.value}
    assert len(given) == 24
    for one in given.values():
        finding, claim = one.findings[0], one.claim
        decimals = len(claim.value.partition(".")[2])
        numbers = (finding.value, finding.high - finding.value)
        assert [show.plain(n, decimals).replace("−", "-") for n in numbers] == [
            claim.value, claim.plus_minus,
        ]  # fmt: skip


def test_small_at_equal_flops_is_the_largest_that_costs_no_more():
    comparison = pd.read_parquet(SIGNAL / "comparison.parquet")
    cost = comparison.set_index(["task", "label"]).method_flops_mean
    for claim in read_claims(OWN).claims:
        if "small_at_flops" not in claim.id:
            continue
        (difference, _) = claim.tests[0].parts
        cheap = [
            n for n in (4, 6, 12, 20, 32)
            if cost[claim.dataset, f"small {n}"] <= cost[claim.dataset, difference.minus]
        ]  # fmt: skip
        assert difference.row == f"small {max(cheap)}"


def test_other_records_refute_them(tmp_path):
    """With the metrics of two rows exchanged, what was better is worse."""
    table = schemas.read_table(SIGNAL / "trials.parquet", "trials")
    trials = table.to_pandas()
    metric = trials.set_index(["task", "label", "seed"]).test_metric
    pairs = [("post_hoc task 12", "post_hoc white 12"), ("in_training task 6", "small 32")]
    swapped = dict(pairs) | {theirs: ours for ours, theirs in pairs}
    values = [
        metric[row.task, swapped.get(row.label, row.label), row.seed] for row in trials.itertuples()
    ]
    place = table.column_names.index("test_metric")
    schemas.write_table(
        tmp_path / "trials.parquet",
        table.set_column(place, table.schema.field(place), [values]),
    )
    found = judged(tmp_path)
    for task in ("digits", "vowels", "listops", "pylib"):
        assert found[f"{task}_task_over_white"].verdict == "not reproduced"
    assert found["digits_task_target"].verdict == "not reproduced"
    assert found["vowels_small_at_flops_of_task"].verdict == "not reproduced"
    assert found["digits_tuned_over_white"].verdict == "reproduced"  # untouched


def test_the_papers_claims_and_ours_are_read_together():
    papers, own, both = read_claims(SHIPPED), read_claims(OWN), all_claims()
    assert both.claims == (*papers.claims, *own.claims)
    shared = papers.tolerances.keys() & own.tolerances.keys()
    assert all(papers.tolerances[name].points == own.tolerances[name].points for name in shared)
    assert all(claim.source.startswith("this repository") for claim in own.claims)


def test_the_command_judges_a_published_folder(capsys, tmp_path):
    assert execute(["claims", "signal", "--records", str(SIGNAL), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verdicts"]
    assert {one["source"] for one in found} == {"this repository, results/signal"}
    refused = {
        ("claims", "--records", str(SIGNAL)): "needs a SUITE",
        ("claims", "signal", "--records", str(SIGNAL), "--store", "x"): "takes the place of",
        ("claims", "signal", "--records", str(tmp_path)): "has no table of trials",
        ("claims", "nothing", "--records", str(SIGNAL)): "no claim is tested by a suite 'nothing'",
    }
    for words, said in refused.items():
        assert execute(list(words)) == 2
        assert said in capsys.readouterr().err
