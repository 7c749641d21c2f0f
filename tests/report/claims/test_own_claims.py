"""Our own claims, against the results as published and against records that refute them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import execute
from harness.records import schemas
from harness.records.suite_records import SuiteRecords
from harness.report import presentation as show
from harness.report.claims.read import OWN, RIVALS, SHIPPED, all_claims, read_claims
from harness.report.claims.verdicts import verdicts_on

RESULTS = Path(__file__).parents[3] / "results"
SIGNAL = RESULTS / "signal"
# What intervals that include 0 leave open; all others are reproduced.
OPEN = {
    "signal": {
        "vowels_task_target", "listops_task_target", "listops_tuned_over_white",
        "listops_in_training_signal_over_white", "vowels_in_training_target",
        "digits_in_training_over_small", "listops_in_training_over_small",
        "digits_small_at_flops_of_signal", "vowels_small_at_flops_of_signal",
        "pylib_small_at_flops_of_signal", "listops_small_at_flops_of_signal",
        "listops_small_at_flops_of_task",
    },
    "signal.refit": {
        "listops_white_gains_by_C", "listops_task_gains_by_C", "vowels_rivals_gain_by_C",
        "digits_white_refitted_over_aire", "listops_white_refitted_over_aire",
        "digits_weighted_over_white_refitted", "listops_weighted_over_white_refitted",
        "listops_task_refitted_over_small", "vowels_task_refitted_below_full",
    },
    "signal.inputs": {
        "listops_real_over_complex", "listops_task_real_over_task", "digits_task_real_gains_by_C",
        "vowels_task_real_gains_by_C", "listops_task_real_gains_by_C",
        "listops_small_over_task_real_at_6", "digits_in_training_real_over_complex",
        "vowels_in_training_real_over_complex", "pylib_in_training_real_over_complex",
        "listops_in_training_real_over_complex", "digits_input_over_white",
        "listops_input_over_white",
    },
    "scaling": {
        "mqar_s5_signal_equal_over_gramians", "mqar_s5_signal_equal_over_published",
        "mqar_s5_task_equal_over_gramians", "mqar_s5_task_equal_over_published",
        "mqar_s5_task_equal_over_small", "mqar_s4d_signal_equal_over_published",
        "digits_lru_signal_equal_over_gramians", "digits_lru_signal_equal_over_small",
        "digits_lru_task_equal_over_small", "vowels_lru_signal_equal_over_gramians",
        "vowels_lru_task_equal_over_gramians", "listops_lru_signal_equal_over_gramians",
        "listops_lru_signal_equal_over_small", "pylib_lru_signal_equal_over_gramians",
        "pylib_lru_task_equal_over_gramians",
    },
    "signal.fashion": {
        "fashion_horizon_over_white", "fashion_signal_over_small", "fashion_task_below_full",
        "fashion_in_training_white_over_small",
    },
}  # fmt: skip
CLAIMS = {
    "signal": 35, "signal.refit": 36, "signal.inputs": 28, "scaling": 48, "signal.fashion": 14,
}  # fmt: skip
WITH_VALUE = {
    "signal": 24, "signal.refit": 24, "signal.inputs": 28, "scaling": 48, "signal.fashion": 10,
}  # fmt: skip


def judged(folder: Path, suite: str = "signal") -> dict:
    found = verdicts_on(read_claims(OWN), SuiteRecords(folder, suite), suite)
    return {one.claim.id: one for one in found}


@pytest.fixture(scope="module", params=list(OPEN))
def published(request) -> tuple[str, dict]:
    return request.param, judged(RESULTS / request.param, request.param)


def test_each_has_its_verdict_over_all_seeds(published):
    suite, found = published
    assert {name: one.verdict for name, one in found.items()} == {
        name: "underpowered" if name in OPEN[suite] else "reproduced" for name in found
    }
    assert len(found) == CLAIMS[suite]
    assert set(found) > OPEN[suite]
    assert {finding.seeds for one in found.values() for finding in one.findings} == {8}


def test_every_claim_belongs_to_a_published_suite():
    assert len(read_claims(OWN).claims) == sum(CLAIMS.values())


def test_the_stored_verdicts_are_those_of_the_records(published):
    suite, found = published
    stored = (RESULTS / suite / "claims.txt").read_text().splitlines()
    counts = Counter(one.verdict for one in found.values())
    said = ", ".join(f"{counts[v]} {v}" for v in ("reproduced", "underpowered"))
    assert stored[0] == f"{len(found)} verdicts: {said}"
    found_in = (re.match(r"  (not reproduced|\w+) +(\w+):", line) for line in stored)
    heads = {match[2]: match[1] for match in found_in if match}
    assert heads == {name: one.verdict for name, one in found.items()}


def test_the_numbers_they_give_are_those_of_the_records(published):
    suite, found = published
    given = {name: one for name, one in found.items() if one.claim.value}
    assert len(given) == WITH_VALUE[suite]
    for one in given.values():
        finding, claim = one.findings[0], one.claim
        decimals = len(claim.value.partition(".")[2])
        numbers = (finding.value, finding.high - finding.value)
        assert [show.plain(n, decimals).replace("−", "-") for n in numbers] == [
            claim.value, claim.plus_minus,
        ]  # fmt: skip
        assert claim.source == f"this repository, results/{suite}"


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
    files, together = [read_claims(path) for path in (SHIPPED, RIVALS, OWN)], all_claims()
    assert together.claims == tuple(claim for file in files for claim in file.claims)
    own = files[-1]
    for file in files:  # of one name, so that none replaces another of another meaning
        for name, one in file.tolerances.items():
            kept = together.tolerances[name]
            assert (kept.points, kept.relative) == (one.points, one.relative)
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
