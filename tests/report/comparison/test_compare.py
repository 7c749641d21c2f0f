import numpy as np
import pandas as pd
import pytest

from harness.report.comparison.compare import SCHEMA, compare, to_table

OURS, POST_HOC, SMALL = "in_training tau=0.1", "post_hoc as tau=0.1", "small as tau=0.1"


def rows_of(trials, task="digits"):
    found = compare(trials)
    return found[found.task == task].set_index("label")


def change(trials, label, seed=None, **values):
    where = (trials.label == label) & ((trials.seed == seed) if seed is not None else True)
    trials = trials.copy()
    for name, value in values.items():
        trials[name] = trials[name].astype(object)
        trials.loc[where, name] = value
    return trials


def test_the_columns_are_those_of_the_schema(two_tasks):
    found = compare(two_tasks)
    assert list(found.columns) == SCHEMA.names
    table = to_table(found)
    assert table.schema.equals(SCHEMA)
    assert table["matches"].null_count == 4  # full and in_training of both tasks


def test_rows_stand_in_reading_order(suite):
    found = compare(suite().sample(frac=1, random_state=0))
    assert list(found.label) == ["full", OURS, POST_HOC, SMALL]


def test_sizes_and_metric_by_hand(suite):
    row = rows_of(suite()).loc[OURS]
    assert (row.state_dim_mean, row.state_dim_mean_min, row.state_dim_mean_max) == (8, 7, 9)
    assert (row.state_dim_mean_sd, row.state_dim_total) == (1, 16)
    assert (row.seeds, row.diverged, row.failed, row.seed_list) == (3, 0, 0, [0, 1, 2])
    # 0.80, 0.90, 0.85: sd 0.05, half 4.302653 x 0.05 / sqrt(3) = 0.1242069.
    assert row.metric_mean == pytest.approx(0.85)
    assert row.metric_low == pytest.approx(0.85 - 0.1242069, abs=1e-6)
    assert row.metric_high == pytest.approx(0.85 + 0.1242069, abs=1e-6)
    assert row.metric_top3 == pytest.approx(0.85)
    assert row.bootstrap_coverage == 0.75
    assert row.metric_low < row.metric_bootstrap_low < 0.85 < row.metric_bootstrap_high


def test_differences_by_hand(suite):
    rows = rows_of(suite())
    ours = rows.loc[OURS]
    assert ours.difference_to_full == pytest.approx(-0.1)
    assert ours.difference_to_small == pytest.approx(0.1166667, abs=1e-6)
    assert ours.difference_to_small_low == pytest.approx(0.0449558, abs=1e-6)
    assert ours.difference_to_small_high == pytest.approx(0.1883775, abs=1e-6)
    assert (ours.difference_to_small_seeds, ours.small_label, ours.verdict) == (3, SMALL, "better")
    assert rows.loc[POST_HOC].difference_to_small == pytest.approx(0.1166667 - 0.4, abs=1e-6)
    assert rows.loc[POST_HOC].verdict == "worse"
    assert rows.loc[SMALL].difference_to_full == pytest.approx(-0.2166667, abs=1e-6)
    assert np.isnan(rows.loc["full"].difference_to_full)
    assert (rows.loc["full"].verdict, rows.loc[SMALL].verdict) == ("—", "—")


def test_lower_is_better_turns_differences_and_verdicts(two_tasks):
    ours = rows_of(two_tasks, "pylib").loc[OURS]
    assert ours.difference_to_small == pytest.approx(-0.1166667, abs=1e-6)
    assert ours.difference_to_full == pytest.approx(0.1)
    assert ours.verdict == "worse"
    assert ours.metric_mean == pytest.approx(0.85)  # the value itself is never turned


def test_top3_takes_the_lowest_where_lower_is_better(trial):
    values = enumerate([5.0, 1.0, 2.0, 3.0])
    trials = [trial("full", s, v, metric="loss", higher_is_better=False) for s, v in values]
    row = rows_of(pd.DataFrame(trials)).loc["full"]
    assert (row.metric_mean, row.metric_top3) == (2.75, 2.0)


def test_pairs_follow_the_seed_not_the_order(suite):
    shuffled = suite().sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(compare(shuffled), compare(suite()))


def test_only_common_seeds_are_paired(suite):
    trials = suite()
    trials = trials[~((trials.label == SMALL) & (trials.seed == 1))]
    ours = rows_of(trials).loc[OURS]
    assert (ours.seeds, ours.difference_to_small_seeds) == (3, 2)
    assert ours.difference_to_small == pytest.approx(0.10)


def test_a_diverged_seed_is_counted_and_claims_nothing(suite):
    trials = change(suite(), OURS, 1, status="diverged", test_metric=None)
    ours = rows_of(trials).loc[OURS]
    assert (ours.seeds, ours.diverged) == (2, 1)
    assert ours.metric_mean == pytest.approx(0.825)
    assert ours.difference_to_small == pytest.approx(0.10)
    intervals = ["metric_low", "metric_high", "metric_bootstrap_low", "difference_to_small_low",
                 "difference_to_full_high"]  # fmt: skip
    assert ours[intervals].isna().all()
    assert ours.verdict == "—"


def test_nothing_wins_against_a_diverged_small(suite):
    trials = change(suite(), SMALL, 0, status="diverged", test_metric=0.1)
    ours = rows_of(trials).loc[OURS]
    assert ours.verdict == "—"
    assert np.isfinite(ours.metric_low)
    assert np.isnan(ours.difference_to_small_low)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_metric_that_is_no_number_counts_as_diverged(suite, value):
    ours = rows_of(change(suite(), OURS, 2, test_metric=value)).loc[OURS]
    assert (ours.seeds, ours.diverged, ours.verdict) == (2, 1, "—")


def test_failed_trials_are_counted_and_left_out(suite):
    early = {"status": "failed", "test_metric": None, "metric": None, "higher_is_better": None,
             "data_fingerprint": None, "state_dim_mean": None, "flops_method": None,
             "exclusive": None, "protocol": None}  # fmt: skip
    ours = rows_of(change(suite(), OURS, 2, **early)).loc[OURS]
    assert (ours.seeds, ours.failed, ours.diverged, ours.metric) == (2, 1, 0, "accuracy")
    assert ours.difference_to_small == pytest.approx(0.125)
    assert np.isfinite(ours.difference_to_small_low)
    gone = rows_of(change(suite(), OURS, **early)).loc[OURS]
    assert (gone.seeds, gone.failed, gone.verdict, gone.protocol) == (0, 3, "—", "strict")
    assert np.isnan(gone.metric_mean)


def test_one_seed_claims_nothing(suite):
    ours = rows_of(suite().query("seed == 0")).loc[OURS]
    assert (ours.seeds, ours.verdict) == (1, "—")
    assert ours.difference_to_small == pytest.approx(0.1)
    assert np.isnan([ours.metric_low, ours.metric_top3, ours.difference_to_small_high]).all()


def test_seeds_that_differ_by_exactly_as_much_claim_nothing(suite):
    """A coarse metric: 0.1 and 0.1 apart is not certainty."""
    ours = rows_of(suite().query("seed in (0, 2)")).loc[OURS]
    assert ours.difference_to_small == pytest.approx(0.1)
    assert ours.difference_to_small_low == pytest.approx(0.1)
    assert ours.verdict == "—"


def test_without_a_small_row_there_is_no_verdict(suite):
    ours = rows_of(suite().query("role != 'small'")).loc[OURS]
    assert (ours.difference_to_small_seeds, ours.verdict) == (0, "—")
    assert ours[["small_label", "difference_to_small"]].isna().all()


def test_the_small_row_of_another_size_is_not_taken(suite, trial):
    other = [trial("in_training", s, 0.9, label="in_training tau=0.5", dim=3.0) for s in range(3)]
    rows = rows_of(pd.concat([suite(), pd.DataFrame(other)]))
    assert pd.isna(rows.loc["in_training tau=0.5"].small_label)
    assert rows.loc[OURS].small_label == SMALL


def test_of_two_matching_small_rows_the_nearest_in_size_is_taken(suite, trial):
    mean = [trial("small", s, 0.1, label="small by mean", matches=OURS, dim=9) for s in range(3)]
    trials = pd.concat([pd.DataFrame(mean), suite()])
    assert rows_of(trials).loc[OURS].small_label == SMALL


def test_a_full_row_on_other_data_is_no_reference(suite):
    ours = rows_of(change(suite(), "full", data_fingerprint="other")).loc[OURS]
    assert np.isnan([ours.difference_to_full, ours.relative_flops]).all()


def test_of_several_full_rows_the_one_it_began_as_is_taken(suite, trial):
    wide = [trial("full", s, 0.5, label="full 128", dim=128.0, initial_state_dim=128.0)
            for s in range(3)]  # fmt: skip
    rows = rows_of(pd.concat([pd.DataFrame(wide), change(suite(), SMALL, initial_state_dim=8.0)]))
    assert rows.loc[OURS].difference_to_full == pytest.approx(-0.1)
    assert rows.loc[SMALL].difference_to_full == pytest.approx(-0.2166667, abs=1e-6)


def test_each_comparison_of_a_task_has_its_own_full_and_small(comparison_named):
    """400 steps and 40 on one task, data and protocol: neither is a reference for the other."""
    long, short = comparison_named("long"), comparison_named("short", shift=0.2, flops=0.1)
    rows = rows_of(pd.concat([short, long]))
    for name, lost in (("long", 0.1), ("short", 0.3)):
        ours = rows.loc[f"{name}: {OURS}"]
        assert ours.comparison == name
        assert ours.difference_to_full == pytest.approx(-lost)
        assert (ours.relative_flops, ours.relative_seconds) == pytest.approx((0.25, 1.0))
        assert ours.small_label == f"{name}: {SMALL}"
    assert list(rows.index)[:4] == [f"short: {label}" for label in ("full", OURS, POST_HOC, SMALL)]


def test_a_comparison_without_full_or_small_borrows_none(comparison_named):
    short = comparison_named("short").query("role in ('in_training', 'post_hoc')")
    rows = rows_of(pd.concat([comparison_named("long"), short]))
    ours = rows.loc[f"short: {OURS}"]
    assert ours[["difference_to_full", "relative_flops", "relative_seconds"]].isna().all()
    assert (ours.difference_to_small_seeds, ours.verdict) == (0, "—")
    assert rows.loc[f"long: {OURS}"].difference_to_full == pytest.approx(-0.1)


def test_equal_labels_in_two_comparisons_are_two_rows(suite):
    one, two = suite(comparison="one"), suite(comparison="two")
    two["trial_id"] = "two/" + two.trial_id
    found = compare(pd.concat([one, two]))
    assert list(zip(found.comparison, found.label, strict=True)) == [
        (name, label) for name in ("one", "two") for label in ("full", OURS, POST_HOC, SMALL)
    ]


def test_a_trial_that_failed_early_takes_the_protocol_of_its_comparison(comparison_named):
    long = comparison_named("long").assign(protocol="published")
    short = change(
        comparison_named("short"), f"short: {SMALL}", 0, status="failed", protocol=None,
        test_metric=None,
    )  # fmt: skip
    assert rows_of(pd.concat([long, short])).loc[f"short: {SMALL}"].protocol == "strict"


def test_records_from_before_comparisons_are_compared_by_task(suite):
    old = suite().drop(columns="comparison")
    pd.testing.assert_frame_equal(compare(old), compare(suite()))
    assert rows_of(old).loc[OURS].difference_to_full == pytest.approx(-0.1)
    assert compare(old).comparison.isna().all()


def test_costs_are_those_of_the_whole_way(suite):
    rows = rows_of(suite())
    assert list(rows.relative_flops) == pytest.approx([1.0, 0.25, 1.05, 0.25])
    assert list(rows.relative_seconds) == pytest.approx([1.0, 1.0, 1.2, 1.0])
    assert rows.loc[POST_HOC].train_flops_mean == 0.0
    assert rows.loc[POST_HOC].method_flops_mean == 420.0
    assert rows.loc[OURS].peak_memory_bytes == 1_000_000


def test_recurrent_mode_stands_beside_them(suite):
    trials = change(suite(), OURS, state_bytes=1000, step_latency_seconds=2e-4)
    trials = change(trials, OURS, 0, state_bytes=1600, step_latency_seconds=8e-4, exclusive=False)
    rows = rows_of(trials)
    assert rows.loc[OURS].state_bytes == 1200.0
    assert rows.loc[OURS].step_latency_seconds == pytest.approx(2e-4)  # timed alone, or not at all
    assert np.isnan([rows.loc[SMALL].state_bytes, rows.loc[SMALL].step_latency_seconds]).all()


def test_seconds_come_only_from_exclusive_trials(suite):
    trials = change(suite(), OURS, 0, exclusive=False, seconds_method=1000.0)
    ours = rows_of(trials).loc[OURS]
    assert (ours.seconds_mean, ours.relative_seconds, ours.timed_seeds) == (10.0, 1.0, 2)
    none = rows_of(change(suite(), OURS, exclusive=False)).loc[OURS]
    assert np.isnan([none.seconds_mean, none.relative_seconds]).all()
    assert none.relative_flops == 0.25


def test_a_disturbed_trial_moves_the_range_and_not_the_time(suite):
    """Ratios by seed: 90 / 10, 8 / 10 and 18 / 20; of the means it would be 2.9."""
    trials = change(suite(), "full", 2, seconds_method=20.0)
    for seed, seconds in enumerate([90.0, 8.0, 18.0]):
        trials = change(trials, SMALL, seed, seconds_method=seconds)
    small = rows_of(trials).loc[SMALL]
    assert small.relative_seconds == pytest.approx(0.9)
    assert (small.relative_seconds_low, small.relative_seconds_high) == pytest.approx((0.8, 9.0))
    assert (small.seconds_median, small.seconds_mean) == pytest.approx((18.0, 116 / 3))
    unknown = rows_of(change(trials, SMALL, 0, seconds_method=None)).loc[SMALL]
    assert unknown.relative_seconds == pytest.approx(0.85)


def test_a_way_is_timed_only_if_the_full_training_it_stands_on_was(suite):
    rows = rows_of(change(suite(), "full", exclusive=False))
    assert rows.relative_seconds.isna().all()
    assert (rows.loc[POST_HOC].timed_seeds, rows.loc[OURS].timed_seeds) == (0, 3)


@pytest.mark.parametrize("other", [{"device": "a gpu"}, {"threads": 4}])
def test_seconds_on_another_machine_are_not_divided(suite, other):
    rows = rows_of(change(suite(), "full", **other))
    assert np.isnan(rows.loc[OURS].relative_seconds)
    assert rows.loc[OURS].seconds_mean == 10.0


def test_mixed_commits_versions_and_devices_are_marked(suite):
    trials = change(suite(), OURS, 0, git_commit="def", device="a gpu")
    rows = rows_of(trials)
    assert rows.loc[OURS].mixed == "device, commit"
    assert rows.loc[OURS].commits == "abc, def"
    assert rows.loc[SMALL].mixed == ""


@pytest.mark.parametrize("column", ["data_fingerprint", "metric"])
def test_a_row_that_mixes_data_is_refused_in_one_line(suite, column):
    with pytest.raises(ValueError, match=f"'{SMALL}' of task digits mixes {column}") as caught:
        compare(change(suite(), SMALL, 0, **{column: "other"}))
    assert "\n" not in str(caught.value)


def test_two_trials_of_one_seed_in_a_row_are_refused(suite):
    with pytest.raises(ValueError, match="two trials of seed 0"):
        compare(suite().replace({"seed": {1: 0}}))


def test_a_trial_in_two_rows_counts_in_both(suite):
    shared = suite().query("role == 'small'").assign(label="small twice")
    rows = rows_of(pd.concat([suite(), shared]))
    assert rows.loc["small twice"].metric_mean == rows.loc[SMALL].metric_mean


def test_missing_columns_and_no_trials_are_refused(suite):
    with pytest.raises(ValueError, match="lacks role, flops_method"):
        compare(suite().drop(columns=["flops_method", "role"]))
    with pytest.raises(ValueError, match="no trial"):
        compare(suite().iloc[:0])


def given_sizes(trial, dims, small_dims, **changes):
    """Cuts to given sizes and small rows of given sizes, by seed; no row matches another."""
    trials = []
    for seed, (ours, theirs) in enumerate(zip(dims, small_dims, strict=True)):
        for role, label, test, size in [
            ("full", "full", 0.9, [64, 64]),
            ("in_training", "keep largest", 0.8 + 0.01 * seed, ours),
            ("distill", "distill", 0.75, ours),
            ("small", "small", 0.7, theirs),
            ("small", "small N=32", 0.85, [32, 32]),
        ]:
            trials.append(trial(role, seed, test, label=label, dim=float(np.mean(size))))
            trials[-1] |= {"state_dims": size} | changes
    return pd.DataFrame(trials)


def test_rows_of_given_sizes_are_measured_against_small_of_those_sizes(trial):
    rows = rows_of(given_sizes(trial, [[8, 8]] * 3, [[8, 8]] * 3))
    ours = rows.loc["keep largest"]
    assert ours.small_label == "small"
    assert ours.difference_to_small == pytest.approx(0.11)
    assert ours.verdict == "better"
    assert rows.loc["distill"].small_label == "small"
    assert pd.isna(rows.loc["small", "small_label"])


@pytest.mark.parametrize(
    ("ours", "theirs", "label"),
    [
        ([[8, 8], [8, 8]], [[8, 8], [8, 8]], "small"),
        ([[8, 8], [6, 10]], [[8, 8], [8, 8]], None),  # the same mean, but other blocks
        ([[8, 8], [9, 9]], [[8, 8], [9, 9]], "small"),  # equal seed by seed
        ([[9, 9], [8, 8]], [[8, 8], [9, 9]], None),  # and not in another order
        ([[32, 32]] * 2, [[8, 8]] * 2, "small N=32"),
    ],
)
def test_sizes_are_equal_block_by_block_and_seed_by_seed(trial, ours, theirs, label):
    found = rows_of(given_sizes(trial, ours, theirs)).loc["keep largest"].small_label
    assert (None if pd.isna(found) else found) == label


def test_where_blocks_are_not_recorded_their_mean_decides(trial):
    dims = [[8, 8], [6, 10]], [[8, 8], [8, 8]]
    found = rows_of(given_sizes(trial, *dims).assign(state_dims=None))
    assert found.loc["keep largest"].small_label == "small"


def test_a_small_row_of_other_data_is_no_reference_of_equal_size(trial):
    trials = given_sizes(trial, [[8, 8]] * 2, [[8, 8]] * 2)
    trials.loc[trials.label == "small", "data_fingerprint"] = "other"
    assert pd.isna(rows_of(trials).loc["keep largest"].small_label)


def test_a_row_that_matches_another_keeps_to_its_small(suite):
    """Even where a small row of given size happens to be as large."""
    trials = suite()
    stray = trials[trials.label == SMALL].assign(
        label="small N=8", matches=None, test_metric=0.1, trial_id=["x", "y", "z"]
    )
    rows = rows_of(pd.concat([trials, stray], ignore_index=True))
    assert rows.loc[OURS].small_label == SMALL
    assert rows.loc[POST_HOC].small_label == SMALL
    alone = pd.concat([trials[trials.label != SMALL], stray], ignore_index=True)
    rows = rows_of(alone)
    assert pd.isna(rows.loc[POST_HOC].small_label)
    assert rows.loc[OURS].small_label == "small N=8"  # it matches none itself


def test_every_way_has_its_place_in_reading_order(trial):
    ways = ["small", "hankel_regularized", "distill", "post_hoc", "in_training", "full"]
    matches = dict.fromkeys(ways[:4], "in_training")
    trials = pd.DataFrame([trial(way, 0, 0.5, matches=matches.get(way)) for way in ways])
    assert list(compare(trials).arm) == [
        "full", "in_training", "post_hoc", "distill", "hankel_regularized", "small",
    ]  # fmt: skip
