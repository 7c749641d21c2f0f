import pandas as pd
import pytest

from harness.report.comparison.compare import compare
from harness.report.sentences import notes, result_notes, says

OURS, SMALL = "in_training tau=0.1", "small as tau=0.1"


def with_ours(trials, values):
    trials = trials.copy()
    trials.loc[trials.label == OURS, "test_metric"] = values
    return says(compare(trials))


def test_a_win_is_told_with_its_interval_and_price(suite):
    (sentence,) = says(compare(suite()))
    assert sentence == (
        "digits, 8.0 ± 1.0 states per block (in_training tau=0.1): in-training truncation wins. It "
        "is 11.7 points of accuracy better than small from scratch, and the interval (+4.5 to "
        "+18.8, 3 seeds) excludes 0. It has the best mean at this size. It is 10.0 points of "
        "accuracy below full size, at 0.25 times its training FLOPs."
    )


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.60, 0.65, 0.64], "loses. It is 10.3 points of accuracy worse"),
        ([0.60, 0.85, 0.75], "does not win. It is 0.0 points of accuracy"),
        ([0.60, 0.90, 0.74], "does not win. It is 1.3 points of accuracy better"),
    ],
)
def test_no_win_is_said_plainly(suite, values, verdict):
    (sentence,) = with_ours(suite(), values)
    assert f"in-training truncation {verdict}" in sentence


def test_the_best_of_the_size_is_named(suite):
    (sentence,) = with_ours(suite(), [0.60, 0.65, 0.64])
    assert "Small from scratch has the best mean at this size (73.3 % against 63.0 %)" in sentence


def test_lower_is_better_turns_the_leader(suite):
    trials = suite(metric="bits_per_byte", higher_is_better=False)
    (sentence,) = says(compare(trials))
    assert "in-training truncation loses. It is 0.117 bits per byte worse" in sentence
    assert (
        "Train, then compress has the best mean at this size (0.450 bits per byte against 0.850"
        in sentence
    )


def test_one_seed_and_no_small_row_claim_nothing(suite):
    (one,) = says(compare(suite().query("seed == 0")))
    assert "no win is claimed" in one
    assert "one seed gives no interval" in one
    (same,) = says(compare(suite().query("seed in (0, 2)")))
    assert "no win is claimed" in same
    assert "every seed differs by exactly the same amount" in same
    (alone,) = says(compare(suite().query("role != 'small'")))
    assert "no small-from-scratch row has this size, so no win is claimed" in alone


def test_a_suite_without_in_training_and_one_of_full_only(suite):
    (sentence,) = says(compare(suite().query("role == 'full' or role == 'small'")))
    assert sentence.startswith("digits, small as tau=0.1: It is 21.7 points of accuracy below full")
    assert says(compare(suite().query("role == 'full'"))) == []


def test_a_group_where_nothing_finished(suite):
    trials = suite()
    trials.loc[trials.role != "full", ["status", "test_metric"]] = ["failed", float("nan")]
    (sentence,) = says(compare(trials))
    assert sentence == f"digits, {OURS}: no seed finished, so nothing can be said."


def test_notes_say_what_the_interval_covers(suite):
    text = " ".join(notes(compare(suite())))
    assert "initial weights and batch order, not the sampling of the test set" in text
    assert "three best seeds by test" in text
    assert "left out" not in text
    assert "diverged" not in text


def test_models_are_told_apart(suite):
    other = suite().assign(model="s5", trial_id=lambda t: t.trial_id + "s5")
    told = says(compare(pd.concat([suite(), other])))
    assert [sentence.split(",")[0] for sentence in told] == ["digits (lru)", "digits (s5)"]


@pytest.mark.parametrize(("protocol", "reports"), [("strict", False), ("published", True)])
def test_the_top_3_is_told_as_what_a_protocol_reports(suite, protocol, reports):
    said = " ".join(result_notes(compare(suite(protocol=protocol))))
    assert ("Protocol published reports it" in said) == reports
