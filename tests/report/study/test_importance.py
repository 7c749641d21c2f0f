import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.report.study.answer import summarise
from harness.report.study.importance import TOGETHER, importance
from tests.report.study.study_cases import pairs


def study(size=30, **columns):
    """Candidates with random knobs; each column is a function of them."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(size):
        start, length = rng.uniform(0, 0.5), rng.uniform(0.05, 0.4)
        row = {
            "start": start,
            "end": start + length,
            "count": int(rng.integers(1, 9)),
            "tau": float(np.exp(rng.uniform(np.log(1e-3), np.log(0.3)))),
            "options": json.dumps({"moments": ["reset", "transport"][rng.integers(2)]}),
        }
        rows.append(row | {name: function(row) for name, function in columns.items()})
    return summarise(pairs(*rows, seeds=1))


def shares(summary, target="metric", **arguments):
    found = importance(summary, **{"resamples": 4, **arguments})
    assert found.reason is None
    return found.table[found.table.target == target].set_index("knob")


def test_the_knob_that_decides_has_the_share():
    summary = study(difference=lambda r: -np.log(r["tau"]), cost=lambda r: r["start"])
    metric, cost = shares(summary), shares(summary, "cost")
    assert list(metric.index) == ["start", "length", "count", "tau", "moments", TOGETHER]
    assert metric.value["tau"] > 0.8
    assert cost.value["start"] > 0.8
    assert (metric.value.drop("tau") < 0.1).all()
    assert metric.value.sum() == pytest.approx(1)
    assert (metric.low <= metric.high).all()


def test_an_option_can_decide():
    summary = study(difference=lambda r: float("reset" in r["options"]), cost=lambda r: r["start"])
    assert shares(summary).value["moments"] > 0.8


def test_knobs_that_act_only_in_concert_are_shown_as_such():
    def both(row):
        return 1.0 if (row["start"] > 0.25) == (row["count"] > 4) else 0.0

    found = shares(study(60, difference=both, cost=lambda r: r["start"]))
    assert found.value[TOGETHER] > 0.5


def test_a_logarithmic_tau_is_seen_by_its_logarithm():
    # Tau below 0.005 is 28 % of its decades, and 2 % of its range.
    def both(row):
        return float(row["tau"] < 0.005) + 0.7 * (row["start"] > 0.25)

    summary = study(60, difference=both, cost=lambda r: r["start"])
    assert shares(summary, log_tau=True).value["tau"] > 0.5
    assert shares(summary, log_tau=False).value["tau"] < 0.3


def test_more_noise_means_wider_whiskers():
    rng = np.random.default_rng(1)
    quiet = study(difference=lambda r: r["start"], cost=lambda r: r["start"])
    noisy = study(difference=lambda r: r["start"] + rng.normal(0, 0.3), cost=lambda r: r["start"])
    widths = [one.high["start"] - one.low["start"] for one in map(shares, (quiet, noisy))]
    assert widths[1] > 2 * widths[0]


def test_the_same_candidates_give_the_same_numbers():
    summary = study(12, difference=lambda r: r["start"], cost=lambda r: r["tau"])
    one, two = (importance(summary, resamples=3).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    other = importance(summary, resamples=3, seed=1).table
    assert not np.allclose(one.value, other.value)


def test_stopped_candidates_and_repeated_settings_do_not_count():
    summary = study(9, difference=lambda r: r["start"], cost=lambda r: r["tau"])
    summary.loc[0, "state"] = "stopped"
    repeated = pd.concat([summary, summary.iloc[1:].assign(number=99)], ignore_index=True)
    assert importance(repeated, resamples=2).candidates == 8
    summary.loc[1, "state"] = "failed"
    found = importance(summary)
    assert found.table is None
    assert found.reason == "7 complete candidates are too few; 8 are needed"


def test_what_never_varied_has_no_share():
    summary = study(10, difference=lambda r: 0.0, cost=lambda r: r["start"], count=lambda r: 4)
    assert shares(summary).value.isna().all()
    assert "count" not in shares(summary).index
    assert shares(summary, "cost").value["start"] > 0.5
    same = summarise(pairs(*[{"difference": 0.0}] * 9, seeds=1)).assign(start=0.1, length=0.2)
    assert importance(same.assign(end=range(9))).reason.startswith("no knob varied")


def test_it_says_nothing_on_standard_error_and_needs_no_torch():
    code = (
        "import sys; from tests.report.study.test_importance import *;"
        "shares(study(9, difference=lambda r: r['start'], cost=lambda r: r['tau']), resamples=1);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
