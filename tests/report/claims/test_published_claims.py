"""The published claims: all of them, and tolerances that the published seeds can resolve."""

import csv
import re

import numpy as np
import pytest
from scipy import stats

from harness.records.store import Store
from harness.report.claims.read import RIVALS, SHIPPED, read_claims, suites_of
from harness.report.claims.verdicts import verdicts
from harness.report.statistics.intervals import mean_interval
from harness.report.statistics.power import decide
from harness.report.statistics.top_k import top_k_interval
from tests.report.claims.claim_cases import write_rows


def test_every_published_result_is_a_claim():
    """And each names rows that the shipped suites have."""
    claims = read_claims()
    published = {}
    for name, lines in (("published_results", 79), ("published_results_additions", 45)):
        with SHIPPED.with_name(f"{name}.csv").open(newline="") as file:
            found = {line["id"]: line for line in csv.DictReader(file)}
        assert len(found) == lines
        published |= found
    of_mamba = {"mamba_speed_14", "mamba_imdb_accuracy", "mamba_imdb_random"}  # in no table
    assert {claim.id for claim in claims.claims} == set(published) | of_mamba
    for claim in claims.claims:
        if claim.id not in of_mamba:
            assert claim.source == published[claim.id]["source"]
            assert claim.value == published[claim.id]["value"]
    assert set(suites_of(claims)) >= {"paper.smnist", "paper.imdb", "ablations.digits"}


def test_the_claims_about_mamba_have_suites_that_say_what_is_ours():
    found = [claim for claim in read_claims().claims if claim.id.startswith("mamba_")]
    assert len(found) == 6
    for claim in found:
        assert claim.tests
        for test in claim.tests:
            assert test.suite in ("paper.mamba_scifar", "paper.mamba_imdb")
            assert test.analogue
            assert "not published" in test.leaves_out


def test_points_read_off_a_plot_claim_no_spread_of_seeds():
    plots = [claim for claim in read_claims().claims if claim.id.startswith("scifar_plot_")]
    assert len(plots) == 45
    for claim in plots:
        assert claim.plus_minus == ""
        assert "Read off the authors' plot" in claim.note
        tested = claim.tests and claim.tests[0].parts[0]
        if tested and tested.at_states is not None:  # the row that the point is of
            (comparison,) = suites_of(read_claims(), "paper.scifar")["paper.scifar"].comparisons
            assert tested.row in comparison.arms


def test_what_rivals_published_says_why_its_tables_cannot_be_compared():
    claims = read_claims(RIVALS)
    with RIVALS.with_name("published_rivals.csv").open(newline="") as file:
        assert len(claims.claims) == len(list(csv.DictReader(file)))
    for claim in claims.claims:
        method = claim.id.partition("_")[0]
        if method in ("last", "aire") and claim.tests:
            assert "bidirectional" in claim.note
        if method == "aire" and claim.tests:
            assert "chosen by test accuracy" in claim.note
        if method == "hsvr" and claim.value and "cost" not in claim.id:
            assert "unidirectional" in claim.note
            assert "of another model" in claim.note
    judged = {claim.id: claim for claim in claims.claims}
    assert "disagree" in judged["hsvr_cifar_90"].not_run
    assert judged["ezoe_again"].tests[0].analogue


def test_a_rivals_row_keeps_the_percentage_that_it_names():
    """And S5 is what its authors have: P counts both states of a pair."""
    suites = suites_of(read_claims(RIVALS))
    (s5,) = suites["rivals.s5_imdb"].comparisons
    assert (s5.model.state_dim, s5.model.bidirectional, s5.model.hippo_blocks) == (96, True, 12)
    assert s5.training.lr * s5.training.ssm_lr_factor == pytest.approx(1e-3)
    for name, suite in suites.items():
        (comparison,) = suite.comparisons
        for label, arm in comparison.arms.items():
            share = re.search(r"(\d+) %|chi=(\d+)", label)
            if share is None:
                continue
            percent = int(share[1] or share[2])
            left = arm.mean_dim if arm.kind == "post_hoc" else arm.state_dims[0]
            wanted = comparison.model.state_dims[0] * (100 - percent) / 100
            assert left in (pytest.approx(wanted), int(wanted)), (name, label)
    hsvr = suites["rivals.hsvr_smnist"].comparisons[0].arms["regularized chi=60"]
    assert (hsvr.weight, hsvr.realness) == (pytest.approx(1e-5 * 64), "real")


def test_a_published_result_that_is_left_out_is_refused(tmp_path):
    text = SHIPPED.read_text().replace('id = "smnist_full"', 'id = "something"', 1)
    (tmp_path / "claims.toml").write_text(text)
    table = SHIPPED.with_name("published_results.csv").read_text()
    (tmp_path / "published_results.csv").write_text(table)
    more = SHIPPED.with_name("published_results_additions.csv").read_text()
    (tmp_path / "published_results_additions.csv").write_text(more)
    with pytest.raises(ValueError, match="published result smnist_full has no claim"):
        read_claims(tmp_path / "claims.toml")


# Test accuracy of the paper's students on its seeds, as in its research code (dev/kd_eval.py).
STUDENTS = {
    58: [0.7613, 0.7913, 0.7976, 0.7923, 0.7889],
    93: [0.8297, 0.8266, 0.8164, 0.8386, 0.8362],
    126: [0.8436, 0.8546, 0.8165, 0.8344, 0.8342],
    160: [0.8537, 0.8437, 0.8581, 0.8359, 0.8467],
    213: [0.8582, 0.8543, 0.8627, 0.8573, 0.8581],
    327: [0.8699, 0.8696, 0.8588, 0.8655, 0.868],
}


@pytest.fixture
def scifar(tmp_path):
    """Verdicts of the shipped claims by id, on rows of paper.scifar as `write_rows` takes them."""

    def run(rows):
        folder = tmp_path / "suites" / "paper.scifar"
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder, "paper.scifar", rows)
        found = verdicts(read_claims(), Store(tmp_path), "paper.scifar")
        return {one.claim.id: one for one in found}

    return run


def test_the_authors_own_students_reproduce_their_accuracies(scifar):
    rows = {f"distill N={n}": (values, n, 1.0) for n, values in STUDENTS.items()}
    found = scifar(rows)
    for n in STUDENTS:
        assert found[f"kd_{n}"].verdict == "reproduced", found[f"kd_{n}"].findings
    sharp = next(f for f in found["kd_qualitative"].findings if f.what.endswith("distill N=327"))
    assert sharp.verdict == "reproduced"
    # Students that lose four points less at 58 states are another result.
    rows["distill N=58"] = ([value + 0.04 for value in STUDENTS[58]], 58, 1.0)
    assert scifar(rows)["kd_58"].verdict == "underpowered"
    rows["distill N=58"] = ([value + 0.06 for value in STUDENTS[58]], 58, 1.0)
    assert scifar(rows)["kd_58"].verdict == "not reproduced"


def test_nearly_full_accuracy_is_part_of_the_headline_on_speed(scifar):
    around = np.array([-0.3, -0.1, 0.0, 0.1, 0.3]) / 100

    def headline(accuracy, speed, states=93):
        rows = {
            "full": (list(0.865 + around), 384, 1.0),
            "in_training tau=0.1": (list(accuracy + around[::-1]), states, 1 / speed),
        }
        return scifar(rows)["up_to_1.5"].verdict

    assert headline(0.857, 1.5) == "reproduced"
    assert headline(0.857, 2.5) == "reproduced"
    assert headline(0.857, 1.1) == "not reproduced"
    assert headline(0.818, 1.5) == "not reproduced"
    assert headline(0.857, 1.5, states=200) == "not run"


def seeds_like(count, mean, spread, best=None):
    """Normal scores of this many seeds with this mean and spread: of all (n - 1), or of the best
    (n), as published."""
    scores = stats.norm.ppf((np.arange(1, count + 1) - 0.375) / (count + 0.25))
    chosen = scores[-best:] if best else scores
    return mean + (scores - chosen.mean()) * spread / chosen.std(ddof=0 if best else 1)


def test_every_value_is_within_reach_of_runs_that_spread_as_published():
    """A tolerance narrower than the published seeds' own interval could never be met."""
    claims, checked = read_claims(), []
    suites = suites_of(claims)
    for claim in claims.claims:
        # The students' own seeds are published, and tested above.
        if claim.number is None or not claim.plus_minus or claim.id.startswith("kd_"):
            continue
        (test,) = claim.tests
        (part,) = test.parts
        low, high = claims.tolerances[part.tolerance].around(claim.number)
        count, spread = len(suites[test.suite].comparisons[0].seeds), float(claim.plus_minus)
        if part.column == "metric_top3":
            interval = top_k_interval(seeds_like(count, claim.number, spread, best=3))
        else:
            arm = stats.t.ppf(0.975, count - 1) * spread / count**0.5
            interval = mean_interval(seeds_like(count, claim.number, spread))
            assert interval.high - claim.number == pytest.approx(arm)
        assert decide(interval, low, high) == "inside", claim.id
        checked.append(claim.id)
    assert len(checked) == 15
    assert {"smnist_tau0.04_dim", "pragmatic_dim", "scifar_full"} <= set(checked)


def test_claims_about_a_truncated_row_are_of_its_published_size():
    guarded = {
        "quarter_state": 92.6, "scifar_speed_93": 92.6, "scifar_speed_57": 57.4, "up_to_1.5": 92.6,
        "scifar_speed_small_92": 92.6, "hnn_compressm_speed": 27.6, "hnn_ratio": 27.6,
    }  # fmt: skip
    for claim in read_claims().claims:
        if claim.id in guarded:
            for part in claim.tests[0].parts:
                assert part.at_states == pytest.approx(guarded[claim.id], abs=0.7), claim.id
    (truncated,) = (
        part
        for claim in read_claims().claims
        if claim.id == "kd_qualitative"
        for part in claim.tests[0].parts
        if part.row.startswith("in_training")
    )
    assert truncated.at_states == pytest.approx(57.4, abs=0.7)


def test_the_weight_of_the_penalty_is_told_as_the_suite_has_it():
    (claim,) = (one for one in read_claims().claims if one.id == "hnn_acc")
    (comparison,) = suites_of(read_claims(), "paper.smnist")["paper.smnist"].comparisons
    assert f"ours ({comparison.arms['hankel_regularized N=28'].weight:g})" in claim.note
