import json

import numpy as np
import pandas as pd
import pytest

from harness.report.study.answer import finalists, pareto_front, recommend, summarise
from tests.report.study.study_cases import candidate_row, confirmation, pairs, ways


def change(table, where, **values):
    table = table.copy()
    for name, value in values.items():
        table[name] = table[name].astype(object)
        table.loc[where, name] = value
    return table


def confirmed(gains, costs=None, margin=0.02, goal="constrained", **changes):
    """The recommendation where each label's gain over full, by seed, is given."""
    rows = {name: ("in_training", None, {}, 0.0, (costs or {}).get(name, 0.5), 8.0)
            for name in gains}  # fmt: skip
    seeds = len(next(iter(gains.values())))
    trials = confirmation(rows, seeds=seeds, spread=0.0)
    full = trials[trials.label == "full"].set_index("seed").val_metric
    for name, values in gains.items():
        where = trials.label == name
        trials.loc[where, "val_metric"] = full.to_numpy() + values
    trials = changes.get("change", lambda same: same)(trials)
    return recommend(trials, goal, margin, list(gains))


def row(found, label):
    return next(row for row in found["rows"] if row["label"] == label)


# The summary


def test_means_are_over_seeds_and_differences_are_paired():
    table = pd.DataFrame(
        [candidate_row(7, seed, gain, cost=0.25, start=0.2, end=0.5, state_dim_mean=6.0 + seed)
         for seed, gain in enumerate([-0.02, -0.01, -0.03])]
    )  # fmt: skip
    (found,) = summarise(table.sample(frac=1, random_state=1)).to_dict("records")
    assert (found["number"], found["seeds"], found["length"]) == (7, 3, 0.3)
    assert found["difference"] == pytest.approx(-0.02)
    # sd 0.01, half 4.302653 x 0.01 / sqrt(3).
    assert found["difference_low"] == pytest.approx(-0.02 - 0.0248414, abs=1e-6)
    assert (found["cost"], found["state_dim_mean"]) == (pytest.approx(0.25), 7.0)
    assert (found["full_mean"], found["val_mean"]) == (pytest.approx(0.91), pytest.approx(0.89))
    assert found["flops_spent"] == pytest.approx(table.flops_spent.sum())


def test_positive_is_better_where_lower_is():
    table = pairs((0.05, 0.5)).assign(higher_is_better=False)
    assert summarise(table).difference.iloc[0] == pytest.approx(-0.05)


def test_a_diverged_seed_is_counted_and_in_no_mean():
    table = pairs((-0.01, 0.5), (-0.02, 0.5))
    table = change(table, 1, status="diverged", val_metric=None)
    found = summarise(table).iloc[0]
    assert (found.seeds, found.diverged) == (2, 1)
    assert found.difference == pytest.approx(-0.01)
    assert pareto_front(summarise(table)) == [1]


def test_only_an_enqueued_candidate_in_the_papers_window_is_the_papers():
    paper = {"start": 0.0, "end": 0.1, "difference": 0.0}
    table = pairs({**paper, "origin": "enqueued"}, paper, {"origin": "enqueued", "end": 0.1})
    assert list(summarise(table).paper) == [True, False, False]


def test_no_candidate_gives_an_empty_summary():
    empty = summarise(pairs((0.0, 0.5)).iloc[:0])
    assert len(empty) == 0
    assert pareto_front(empty) == []
    assert finalists(empty, "constrained", 0.02, 3) == []


# The front


def test_the_front_is_what_nothing_beats_cheapest_first():
    table = pairs((-0.01, 0.6), (-0.03, 0.3), (-0.02, 0.7), (-0.03, 0.4), (-0.05, 0.2))
    assert pareto_front(summarise(table)) == [4, 1, 0]


def test_equal_points_do_not_beat_each_other_but_equal_settings_count_once():
    table = pairs((-0.01, 0.5), (-0.01, 0.5), {"difference": -0.01, "start": 0.0, "cost": 0.5})
    assert pareto_front(summarise(table)) == [0, 1]


def test_a_small_state_can_put_a_candidate_on_the_front():
    table = pairs((-0.01, 0.5), {"difference": -0.02, "cost": 0.6, "state_dim_mean": 4.0})
    assert pareto_front(summarise(table)) == [0]
    assert pareto_front(summarise(table), minimise_state_dim=True) == [0, 1]


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_only_complete_candidates_are_on_the_front(state):
    table = pairs((-0.01, 0.5), {"difference": 0.5, "cost": 0.1, "state": state})
    summary = summarise(table)
    assert pareto_front(summary) == [0]
    assert finalists(summary, "constrained", 0.02, 3) == [0]


# The finalists


def test_finalists_leave_more_and_more_of_the_margin_to_spare():
    # By cost: 0 is beyond the margin; 1, 2 just within it; 3 leaves a third; 4 two thirds.
    table = pairs((-0.035, 0.1), (-0.029, 0.2), (-0.028, 0.3), (-0.019, 0.4), (-0.009, 0.5))
    summary = summarise(table)
    assert finalists(summary, "constrained", 0.03, 3) == [1, 3, 4]
    assert finalists(summary, "constrained", 0.03, 4) == [1, 2, 3, 4]
    assert finalists(summary, "constrained", 0.03, 1) == [1]


def test_finalists_are_filled_up_by_the_cheapest_within_the_margin():
    table = pairs((-0.02, 0.3), (-0.02, 0.2), (-0.02, 0.4), (-0.02, 0.1))
    assert finalists(summarise(table), "constrained", 0.02, 3) == [3, 1, 0]


def test_a_margin_missed_by_rounding_alone_is_met():
    table = pairs((-0.02, 0.5))
    assert summarise(table).difference.iloc[0] < -0.02
    assert finalists(summarise(table.assign(origin="sobol")), "constrained", 0.02, 2) == [0]


def test_without_a_feasible_candidate_the_least_infeasible_are_taken():
    table = pairs((-0.09, 0.1), (-0.05, 0.6), (-0.07, 0.2))
    assert finalists(summarise(table), "constrained", 0.02, 2) == [1, 2]


def test_finalists_of_the_front_run_from_best_to_cheapest():
    table = pairs(*[(-0.01 * i, 0.9 - 0.1 * i) for i in range(5)], (-0.5, 0.95))
    summary = summarise(table)
    assert finalists(summary, "pareto", None, 3) == [0, 2, 4]
    assert finalists(summary, "pareto", None, 9) == [0, 1, 2, 3, 4]
    assert finalists(summary, "pareto", None, 1) == [0]


# The recommendation


def test_the_bound_is_one_sided_and_the_interval_two_sided():
    found = row(confirmed({"c1": [-0.02, -0.01, -0.03]}), "c1")
    assert found["difference"] == pytest.approx(-0.02)
    assert found["high"] == pytest.approx(-0.02 + 0.0248414, abs=1e-6)  # t 4.302653
    assert found["bound"] == pytest.approx(-0.02 - 0.0168585, abs=1e-6)  # t 2.919986
    assert found["bound_adjusted"] == found["bound"]  # one row needs no adjusting
    assert (found["cost"], found["states"], found["seeds"]) == (pytest.approx(0.5), 8.0, 3)


def test_the_bound_for_all_together_is_that_of_bonferroni():
    gains = [-0.02, -0.01, -0.03]
    found = row(confirmed({"c1": gains, "c2": gains}), "c1")
    assert found["bound_adjusted"] == pytest.approx(-0.02 - 0.0248414, abs=1e-6)  # 97.5 %


def test_the_cheapest_that_is_surely_within_the_margin_is_recommended():
    tight = np.array([-0.011, -0.010, -0.009, -0.010])
    wide = [-0.071, 0.05, -0.009, -0.010]
    gains = {"paper": tight - 0.05, "c1": tight, "c2": tight, "c3": wide}
    costs = {"paper": 0.1, "c1": 0.5, "c2": 0.4, "c3": 0.2}
    found = confirmed(gains, costs)
    assert (found["recommended"], found["confirmed"]) == ("c2", ["c2", "c1"])
    assert row(found, "c3")["difference"] == pytest.approx(-0.01)  # its mean alone would do


def test_a_mean_within_the_margin_confirms_nothing_and_says_how_many_seeds_would():
    found = confirmed({"c1": [-0.03, 0.01, -0.01, -0.02]})
    assert (found["recommended"], found["confirmed"]) == (None, [])
    # Mean -0.0125, sd 0.017078: t x sd / sqrt(n) is 0.00777 at 15 seeds and 0.00748 at 16.
    assert row(found, "c1")["seeds_needed"] == 16
    assert row(confirmed({"c1": [-0.03, -0.04, -0.03, -0.05]}), "c1")["seeds_needed"] is None


def test_a_bound_exactly_at_the_margin_is_within_it():
    bound = row(confirmed({"c1": [-0.02, -0.01, -0.03]}), "c1")["bound"]
    assert confirmed({"c1": [-0.02, -0.01, -0.03]}, margin=-bound)["recommended"] == "c1"
    assert confirmed({"c1": [-0.02, -0.01, -0.03]}, margin=-bound - 1e-6)["recommended"] is None


@pytest.mark.parametrize("label", ["c1", "full"])
@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_nothing_is_confirmed_with_a_seed_that_did_not_complete(label, status):
    def broken(trials):
        where = (trials.label == label) & (trials.seed == 101)
        return change(trials, where, status=status, val_metric=None, test_metric=None)

    found = confirmed({"c1": [0.01, 0.02, 0.03, 0.02]}, change=broken)
    one = row(found, "c1")
    assert (found["recommended"], one["seeds"], one["bound"], one["low"]) == (None, 3, None, None)
    assert one["difference"] == pytest.approx(0.02, abs=1e-9)
    assert one["diverged"] == (status == "diverged" and label == "c1")


@pytest.mark.parametrize("gains", [[0.01], [0.01, 0.01, 0.01]])
def test_one_seed_or_no_spread_confirms_nothing(gains):
    found = confirmed({"c1": gains})
    assert (found["recommended"], row(found, "c1")["bound"]) == (None, None)


def test_the_front_on_fresh_seeds_is_confirmed_and_nothing_singled_out():
    base = np.array([-0.01, 0.01, 0.0])
    found = confirmed(
        {"paper": base - 0.05, "c1": base - 0.01, "c2": base - 0.02, "c3": base - 0.03},
        {"paper": 0.2, "c1": 0.5, "c2": 0.6, "c3": 0.4}, margin=None, goal="pareto",
    )  # fmt: skip
    assert (found["confirmed"], found["recommended"]) == (["paper", "c3", "c1"], None)


def test_lower_is_better_turns_the_difference():
    trials = confirmation(ways({"c1": (0.2, 0.4, 4, 0.05)}))
    up = recommend(trials, "constrained", 0.02, ["c1"])
    down = recommend(trials.assign(higher_is_better=False), "constrained", 0.02, ["c1"])
    assert row(down, "c1")["difference"] == -row(up, "c1")["difference"]
    assert row(down, "c1")["low"] == pytest.approx(-row(up, "c1")["high"])
    assert (up["higher_is_better"], down["higher_is_better"]) == (True, False)


def test_the_decision_does_not_look_at_the_test_metric():
    gains = {"c1": [-0.011, -0.010, -0.009], "c2": [-0.01, -0.012, -0.011]}
    there = confirmed(gains)
    elsewhere = confirmed(gains, change=lambda t: t.assign(test_metric=0.1 * t.index))
    assert there["recommended"] == elsewhere["recommended"]
    assert row(there, "c1")["bound"] == row(elsewhere, "c1")["bound"]
    assert row(there, "c1")["test"] != row(elsewhere, "c1")["test"]


def test_it_is_json_whatever_is_missing():
    found = confirmed({"c1": [0.01]})
    trials = confirmation(ways({"c1": (0.2, 0.4, 4, 0.05)})).query("label == 'full'")
    nothing = recommend(trials, "constrained", 0.02, ["c1"])
    assert row(nothing, "c1")["seeds"] == 0
    for one in (found, nothing):
        assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_without_full_size_it_is_refused_in_one_line():
    trials = confirmation(ways({"c1": (0.2, 0.4, 4, 0.05)})).query("label != 'full'")
    with pytest.raises(ValueError, match="no ended full-size trial") as caught:
        recommend(trials, "constrained", 0.02, ["c1"])
    assert "\n" not in str(caught.value)
