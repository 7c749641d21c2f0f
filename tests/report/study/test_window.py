import numpy as np
import pandas as pd
import pytest

from harness.report.study.answer import recommend
from harness.report.study.window import setting
from tests.report.study.study_cases import confirmation, ways

PAPER, LATE = (0.0, 0.1, 4, 0.05), (0.2, 0.5, 4, 0.05)


def windows_of(settings, labels, margin=0.02, gains=None):
    """The window tests; `gains` sets a label's test metric to full's plus it, by seed."""
    trials = confirmation(ways(settings), seeds=4)
    full = trials[trials.label == "full"].test_metric.to_numpy()
    for label, gain in (gains or {}).items():
        trials.loc[trials.label == label, "test_metric"] = full + gain
    goal = "pareto" if margin is None else "constrained"
    return recommend(trials, goal, margin, labels)["window"]


def test_the_papers_setting_meets_the_recommended_one():
    jitter = np.array([0.001, 0.0, -0.001, 0.0])
    gains = {"paper": np.zeros(4), "c1": 0.05 + jitter}
    (found,) = windows_of({"paper": PAPER, "c1": LATE}, ["paper", "c1"], 0.9, gains)
    assert (found["paper"], found["other"], found["seeds"]) == ("paper", "c1", 4)
    assert found["difference"] == pytest.approx(0.05)
    # sd 0.000816, half 3.182446 x 0.000816 / 2.
    assert found["low"] == pytest.approx(0.05 - 0.0012992, abs=1e-6)
    assert (found["differs"], found["verdict"]) == ([], "matters")
    assert found["other_setting"] == dict(zip(("start", "end", "count", "tau"), LATE, strict=True))
    assert found["cost_ratio"] > 1


def test_what_else_differs_is_said():
    found = windows_of({"paper": PAPER, "c1": (0.2, 0.5, 6, 0.1)}, ["paper", "c1"])
    assert found[0]["differs"] == ["count", "tau"]


def test_where_the_papers_is_recommended_or_none_is_the_best_other_window_is_taken():
    settings = {"paper": PAPER, "c1": (0.1, 0.2, 4, 0.05), "c2": LATE, "c3": PAPER}
    for margin in (None, 1e-6, 0.9):  # of the last all are within, and the paper's is cheapest
        (found,) = windows_of(settings, list(settings), margin)
        assert found["other"] == "c2"


def test_a_twin_differs_in_its_window_alone_and_comes_first():
    settings = {"paper": PAPER, "c1": (0.2, 0.5, 6, 0.1), "window c1": (0.0, 0.1, 6, 0.1)}
    twin, other = windows_of(settings, ["paper", "c1"])
    assert (twin["paper"], twin["other"], twin["differs"]) == ("window c1", "c1", [])
    assert other["paper"] == "paper"


@pytest.mark.parametrize(
    ("gain", "margin", "verdict"),
    [
        ([0.004, -0.004, 0.003, -0.003], 0.02, "hardly"),
        ([0.004, -0.004, 0.003, -0.003], 0.001, "undecided"),
        ([0.004, -0.004, 0.003, -0.003], None, "undecided"),
        ([-0.05, 0.01, -0.04, 0.012], 0.04, "undecided"),  # -6.8 to 3.4 points
        ([-0.03, -0.02, -0.03, -0.02], 0.05, "matters"),
    ],
)
def test_hardly_is_said_only_where_the_interval_lies_within_the_margin(gain, margin, verdict):
    gains = {"paper": np.zeros(4), "c1": np.array(gain)}
    (found,) = windows_of({"paper": PAPER, "c1": LATE}, ["paper", "c1"], margin, gains)
    assert found["verdict"] == verdict


def test_without_spread_there_is_no_interval_and_no_verdict():
    gains = {"paper": np.zeros(4), "c1": np.full(4, 0.01)}
    (found,) = windows_of({"paper": PAPER, "c1": LATE}, ["paper", "c1"], 0.02, gains)
    assert (found["low"], found["verdict"]) == (None, "undecided")
    assert found["difference"] == pytest.approx(0.01)


def test_without_another_window_there_is_nothing_to_test():
    assert windows_of({"paper": PAPER, "c1": PAPER, "window c1": PAPER}, ["paper", "c1"]) == []
    assert windows_of({"c1": LATE}, ["c1"]) == []


def test_a_row_without_specs_has_no_setting():
    trials = confirmation(ways({"c1": LATE}))
    bare = trials[[name for name in trials if not str(name).startswith("spec.")]]
    assert setting(bare, "c1") == {}
    assert setting(trials, "c1")["count"] == 4


def test_what_else_an_arm_sets_stands_in_its_setting():
    rows = {"label": ["c1", "c2"]} | {
        f"spec.arm.{name}": values
        for name, values in {
            "start": [0.1, 0.1], "end": [0.4, 0.4], "count": [2, 2], "tau": [0.1, 0.1],
            "kind": ["in_training"] * 2, "gate": [0.0, 0.0], "moments": ["transport", "reset"],
        }.items()
    }  # fmt: skip
    trials = pd.DataFrame(rows)
    assert "options" not in setting(trials, "c1")
    assert setting(trials, "c2")["options"] == {"moments": "reset"}
