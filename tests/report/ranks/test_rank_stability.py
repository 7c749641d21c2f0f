import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from harness.records import schemas
from harness.records.suite_records import SuiteRecords
from harness.report import write_report
from harness.report.ranks import rank_figure
from harness.report.ranks.rank_stability import (
    SCHEMA,
    by_row,
    measure,
    over_blocks,
    rank_correlation,
    share_outside,
    to_table,
    top_overlap,
)
from tests.report.test_write import write_records

OURS = "digits/in_training tau=0.1"


def table(*lines):
    """Spectra from (trial, step, block, shares)."""
    rows = [
        {"trial_id": trial, "step": step, "block": block, "mode_shares": shares,
         "hankel_singular_values": sorted(np.abs(shares), reverse=True)}
        for trial, step, block, shares in lines
    ]  # fmt: skip
    return schemas.stamp(schemas.make_table("spectra", rows), "spectra", {})


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    shares, last = rng.exponential(size=(6, 9)), rng.exponential(size=9)
    shares[2, 3] = shares[2, 4]  # a tie
    expected = [stats.spearmanr(line, last).statistic for line in shares]
    assert rank_correlation(shares, last) == pytest.approx(expected)


def test_measures_by_hand():
    last = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.1, 0.05, 0.01])
    shares = np.array([last, last[::-1], [1.0, 1.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert rank_correlation(shares[:2], last) == pytest.approx([1.0, -1.0])
    # The top 2 at the end are modes 0 and 1; in the last line they are modes 2 and 0.
    assert top_overlap(shares, last, 2) == pytest.approx([1.0, 0.0, 0.5])
    total = last.sum()
    assert share_outside(shares, last, 2) == pytest.approx([1 - 7 / total, 1 - 0.06 / total, 0.75])


def test_shares_below_zero_are_rounding():
    last = np.array([2.0, 1.0, 0.0, -0.5])  # larger than rounding makes them, so that it shows
    assert share_outside(last[None], last, 1) == pytest.approx([1 / 3])
    assert rank_correlation(last[None], last) == pytest.approx([1.0])


def test_what_is_not_known_is_nan():
    last = np.array([2.0, 1.0, 0.5])
    shares = np.array([[1.0, np.nan, 2.0], [1.0, 1.0, 1.0]])
    assert np.isnan(rank_correlation(shares, last)).all()
    assert np.isnan(rank_correlation(np.ones((1, 1)), np.ones(1))).all()
    assert np.isnan(top_overlap(shares, last, 1)[0])
    assert np.isnan(share_outside(np.zeros((1, 3)), last, 1)).all()


def test_a_truncation_ends_a_stretch():
    four, two = [4.0, 3.0, 2.0, 1.0], [1.0, 2.0]
    spectra = table(
        ("a", 0, 0, four[::-1]), ("a", 50, 0, four), ("a", 100, 0, four),  # before a truncation
        ("a", 100, 0, two), ("a", 150, 0, two[::-1]), ("a", 200, 0, two),  # after it
    )  # fmt: skip
    found = measure(spectra)
    assert list(found.step) == [0, 50, 100, 100, 150, 200]
    assert list(found.stretch) == [0, 0, 0, 1, 1, 1]
    assert list(found.end) == [100] * 3 + [200] * 3
    assert list(found.top) == [1] * 6
    assert list(found.spearman) == pytest.approx([-1, 1, 1, 1, -1, 1])
    assert list(found.overlap) == [0, 1, 1, 1, 0, 1]


def test_a_rollback_ends_a_stretch_and_an_untouched_block_goes_on():
    four, two = [4.0, 3.0, 2.0, 1.0], [1.0, 2.0]
    steps = [(0, four), (50, four), (50, two), (100, two), (100, four), (150, four[::-1])]
    lines = [("a", step, 0, shares) for step, shares in steps]
    lines += [("a", step, 1, two) for step in (0, 50, 50, 100, 100, 150)]
    found = measure(table(*lines))
    first, other = (found[found.block == block] for block in (0, 1))
    assert list(first.stretch) == [0, 0, 1, 1, 2, 2]
    assert list(first.spearman) == pytest.approx([1, 1, 1, 1, -1, 1])
    assert list(other.stretch) == [0] * 4
    assert list(other.step) == [0, 50, 100, 150]  # the records of one step count once


def test_one_record_is_no_stretch():
    found = measure(table(("a", 0, 0, [1.0, 2.0]), ("a", 0, 0, [1.0])))
    assert found.empty
    assert to_table(found).schema.equals(SCHEMA)


def test_rows_share_a_trial_and_blocks_are_averaged(trial):
    four = [4.0, 3.0, 2.0, 1.0]
    spectra = table(
        ("t", 0, 0, four[::-1]), ("t", 100, 0, four), ("t", 0, 1, four), ("t", 100, 1, four)
    )
    trials = pd.DataFrame(
        [trial("full", 0, 0.9, trial_id="t"), trial("small", 0, 0.9, trial_id="t")]
    )
    trials["spec.training.steps"] = 200
    found = over_blocks(by_row(measure(spectra), trials))
    assert sorted(set(found.label)) == ["full", "small"]
    begin = found[found.step == 0]
    assert list(begin.spearman) == pytest.approx([0.0, 0.0])  # of -1 and 1
    assert sorted(set(found["at"])) == [0.0, 0.5]


def noisy_spectra(ids, steps=(0, 10, 20, 30, 40)):
    """Shares that settle as noise fades; in-training trials lose half of their modes at 20."""
    rng = np.random.default_rng(0)
    lines = []
    for one in ids:
        final, size = np.geomspace(100, 1, 16), 16
        for step in steps:
            for block in (0, 1):
                shares = final[:size] * np.exp(rng.normal(0, 2 * (1 - step / 40), size))
                lines.append((one, step, block, shares.tolist()))
            if "in_training" in one and step == 20:
                size = 8
                lines += [(one, step, block, final[:size].tolist()) for block in (0, 1)]
    return table(*lines)


@pytest.fixture
def written(tmp_path, suite):
    trials = suite()
    write_records(tmp_path, trials)
    schemas.write_table(tmp_path / "spectra.parquet", noisy_spectra(trials.trial_id))
    write_report(SuiteRecords(tmp_path, "demo"), "harness run demo")
    return tmp_path


def test_the_report_holds_the_measurement_its_figure_and_a_section(written):
    found = pq.read_table(written / "rank_stability.parquet")
    assert found.schema.equals(SCHEMA)
    assert found.num_rows == 2 * 3 * (3 * 5 + 3 + 3)  # blocks, seeds; full, small, post_hoc; ours
    page = (written / "index.html").read_text()
    assert "<h2>Rank stability</h2>" in page
    assert "Alone they prove nothing about the ranking" in page
    for kind in ("png", "svg"):
        assert (written / "figures" / f"rank_stability.{kind}").stat().st_size > 5000


def test_reporting_twice_gives_the_same_figure(written):
    names = ["rank_stability.parquet", "figures/rank_stability.svg", "figures/rank_stability.png"]
    before = [(written / name).read_bytes() for name in names]
    write_report(SuiteRecords(written, "demo"), "harness run demo")
    assert before == [(written / name).read_bytes() for name in names]


def test_the_figure_leaves_out_the_end_and_draws_each_stretch_apart(written):
    spectra = schemas.read_table(written / "spectra.parquet", "spectra")
    trials = schemas.read_table(written / "trials.parquet", "trials").to_pandas()
    rows = by_row(measure(spectra), trials)
    figure = rank_figure._figure(
        over_blocks(rows[rows.role.isin(["full", "in_training"])]), trials, spectra
    )
    correlation = figure.axes[0]
    lines = {line.get_label(): line.get_xdata() for line in correlation.lines}
    assert list(lines["full"]) == [0.0, 0.25, 0.5, 0.75]
    ours = [line for line in correlation.lines if line.get_label() != "full"]
    assert [list(line.get_xdata()) for line in ours] == [[0.0, 0.25], [0.5, 0.75]]
    full = next(line for line in correlation.lines if line.get_label() == "full")
    expected = rows[(rows.label == "full") & (rows.step == 10)].spearman.mean()
    assert full.get_ydata()[1] == pytest.approx(expected)


def test_without_spectra_there_is_no_section(tmp_path, suite):
    write_records(tmp_path, suite())
    write_report(SuiteRecords(tmp_path, "demo"), "harness run demo")
    assert not (tmp_path / "rank_stability.parquet").exists()
    assert "Rank stability" not in (tmp_path / "index.html").read_text()
