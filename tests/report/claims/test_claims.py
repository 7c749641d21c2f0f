"""Verdicts on claims, against numbers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.cli.claims import claims_text
from harness.records.store import Store
from harness.report.claims import lines
from harness.report.claims.read import read_claims
from harness.report.claims.section import claims_html
from harness.report.claims.verdicts import verdicts
from tests.report.claims.claim_cases import (
    OURS,
    SMALL,
    toml,
    write_records,
    write_spectra,
    write_suite,
)

VALUE = '{{ kind = "value", row = "{row}", column = "{column}", tolerance = "{tolerance}" }}'


def value(row=OURS, column="metric_mean", tolerance="point"):
    return VALUE.format(row=row, column=column, tolerance=tolerance)


def difference(goal, margin="zero", row=OURS, minus=SMALL):
    return (
        f'{{ kind = "difference", row = "{row}", minus = "{minus}", goal = "{goal}", '
        f'margin = "{margin}" }}'
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A store with the suite's folder, in a working directory with its file."""
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path)
    folder = tmp_path / "store" / "suites" / "published"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def judged(place):
    """Judge one claim with these parts; the records are those of `write_records` unless written."""

    def run(*parts, records=None, **claim):
        if not (place / "trials.parquet").is_file():
            write_records(place, "published.py", **(records or {}))
        file = Path("claims.toml")
        file.write_text(toml(",\n".join(parts), **claim))
        (found,) = verdicts(read_claims(file), Store("store"))
        return found

    return run


@pytest.mark.parametrize(
    ("goal", "margin", "verdict"),
    [
        # 10 points better, 95 % interval 10 ± 1.96: t(0.975, 4) = 2.776, sd 1.581, 5 seeds.
        ("better", "zero", "reproduced"),
        ("better", "wide", "underpowered"),
        ("worse", "zero", "not reproduced"),
        ("noninferior", "point", "reproduced"),
        ("equivalent", "point", "not reproduced"),
        ("no_better", "point", "not reproduced"),
        ("no_better", "wide", "underpowered"),
    ],
)
def test_a_difference_is_judged_by_where_its_interval_lies(judged, goal, margin, verdict):
    found = judged(difference(goal, margin), value="")
    assert found.verdict == verdict
    (finding,) = found.findings
    half = 2.776445 * np.std([0, 1, 2, 3, 4], ddof=1) / 5**0.5
    assert (finding.value, finding.seeds) == (pytest.approx(10.0), 5)
    assert (finding.low, finding.high) == pytest.approx((10 - half, 10 + half), abs=1e-5)


def test_the_p_value_is_that_of_a_one_sided_paired_t_test(judged):
    (finding,) = judged(difference("noninferior", "point"), value="").findings
    differences = [12.0, 11.0, 10.0, 9.0, 8.0]
    expected = stats.ttest_1samp(differences, -1.0, alternative="greater").pvalue
    assert finding.p == pytest.approx(expected)


def test_an_open_question_says_how_many_seeds_would_decide(judged):
    # Ours minus full is -5 with a spread of 1.58: a point from the margin of 4, too near to tell.
    full = {"full": [0.93, 0.94, 0.95, 0.96, 0.97]}
    part = difference("noninferior", "four", minus="full")
    found = judged(part, records={"values": full}, value="")
    (finding,) = found.findings
    assert found.verdict == "underpowered"
    needed = finding.seeds_needed
    far = 1 / np.std([0, 1, 2, 3, 4], ddof=1)

    def power(n):
        return stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, far * n**0.5)

    assert power(needed - 1) < 0.8 <= power(needed)
    assert f"about {needed} seeds would decide" in lines.said(finding)


def test_a_metric_too_coarse_for_its_seeds_decides_nothing(judged):
    found = judged(value())
    assert found.verdict == "underpowered"
    assert "too coarse" in found.findings[0].reason


def test_a_size_without_spread_is_certain(judged):
    assert judged(value(column="state_dim_mean"), value="12").verdict == "reproduced"


def test_a_value_is_judged_in_percent(judged):
    found = judged(value(row="full", tolerance="wide"), value="93")
    assert found.verdict == "reproduced"
    assert found.findings[0].value == pytest.approx(94.0)
    assert judged(value(row="full"), value="70").verdict == "not reproduced"


def test_the_best_three_are_of_all_seeds_of_the_suite(place, judged):
    part = value(row="full", column="metric_top3", tolerance="wide")
    found = judged(part, value="95")
    assert (found.verdict, found.findings[0].value) == ("reproduced", pytest.approx(95.0))
    write_records(place, "published.py", seeds=[0, 1, 2, 3])
    found = judged(part, value="95")
    assert (found.verdict, found.findings[0].seeds_needed) == ("underpowered", None)
    assert found.findings[0].reason == (
        "4 of the suite's 5 seeds, so not final; the published aggregate is over all of them"
    )


def test_more_seeds_would_not_decide_an_aggregate_of_the_best(judged):
    # Best three of 0.92 to 0.96: 95, with arms of 1.55 and 2.83 (0.98 and 1.79 times 1.58).
    found = judged(value(row="full", column="metric_top3", tolerance="point"), value="95")
    (finding,) = found.findings
    assert (found.verdict, finding.seeds_needed) == ("underpowered", None)
    assert (finding.low, finding.high) == pytest.approx((93.45, 97.83), abs=0.05)
    assert "over these seeds alone, so more would not decide" in lines.said(finding)
    assert "seeds would decide" not in lines.said(finding)


@pytest.mark.parametrize("part", [difference("better"), value(row="full", tolerance="wide")])
def test_fewer_seeds_than_the_suite_has_are_not_final(judged, part):
    found = judged(part, records={"seeds": [0, 1, 3]}, value="93")
    assert found.verdict == "reproduced"
    assert found.findings[0].reason == "3 of the suite's 5 seeds, so not final"
    assert "3 of the suite's 5 seeds, so not final" in lines.said(found.findings[0])


SPEED = (
    '{ kind = "ratio", row = "in_training tau=0.1", to = "full", plus = "full", '
    'column = "flops", at_least = 0.5, why = "half" }'
)


@pytest.mark.parametrize(
    ("part", "label"),
    [
        (difference("better"), SMALL), (difference("better"), OURS), (difference("worse"), OURS),
        (value(row="full", tolerance="wide"), "full"),
        (value(row="full", column="metric_top3", tolerance="wide"), "full"),
        (value(column="state_dim_mean", tolerance="wide"), OURS), (SPEED, OURS), (SPEED, "full"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fate", ["diverged", "failed"])
def test_a_lost_seed_of_any_row_claims_nothing(judged, part, label, fate):
    def status(row, seed):
        return fate if (row, seed) == (label, 2) else None

    found = judged(part, records={"status": status}, value="15")
    (finding,) = found.findings
    assert found.verdict == "underpowered"
    assert finding.reason == f"1 {fate} among its seeds, so no interval and no win is claimed"
    assert np.isnan([finding.low, finding.high, finding.p]).all()
    assert finding.seeds_needed is None


def test_lost_seeds_are_counted_over_both_rows(judged):
    fates = {(OURS, 0): "diverged", (SMALL, 0): "diverged", (SMALL, 4): "failed"}
    records = {"status": lambda *trial: fates.get(trial)}
    found = judged(difference("better"), records=records, value="")
    assert found.findings[0].reason.startswith("2 diverged and 1 failed among its seeds")


def test_a_row_without_a_finished_seed_says_what_became_of_them(judged):
    records = {"status": lambda label, seed: "failed" if label == OURS else None}
    found = judged(value(), records=records)
    assert found.verdict == "not run"
    assert found.findings[0].reason.endswith("has finished here (0 diverged, 5 failed)")


def test_every_part_must_hold(judged):
    good, open_one = difference("better"), difference("better", "wide")
    bad = difference("worse")
    assert judged(good, difference("noninferior", "point"), value="").verdict == "reproduced"
    assert judged(good, open_one, value="").verdict == "underpowered"
    assert judged(good, open_one, bad, value="").verdict == "not reproduced"


def test_speed_is_a_ratio_of_costs_by_seed(judged):
    part = (
        '{ kind = "ratio", row = "in_training tau=0.1", to = "full", column = "seconds", '
        'tolerance = "fifth" }'
    )

    def seconds(label, seed):
        return 20.0 * (1 + 0.01 * seed) if label == "full" else None

    found = judged(part, records={"seconds_method": seconds}, value="2.0")
    ratios = np.log([2.0, 2.02, 2.04, 2.06, 2.08])
    half = 2.776445 * ratios.std(ddof=1) / 5**0.5
    assert found.verdict == "reproduced"
    finding = found.findings[0]
    expected = np.exp([ratios.mean(), ratios.mean() - half, ratios.mean() + half])
    assert (finding.value, finding.low, finding.high) == pytest.approx(expected, rel=1e-6)
    assert judged(part, value="3.0").verdict == "not reproduced"


def test_the_published_clock_and_what_else_a_row_costs(judged):
    # By the protocol's clock: full 12 s, ours 6 s. With the teacher's: 12 / (6 + 12).
    part = (
        '{ kind = "ratio", row = "in_training tau=0.1", to = "full", plus = "full", '
        'column = "published_seconds", at_least = 0.5, why = "half" }'
    )

    def seconds(label, seed):
        return 12.0 + 1e-3 * seed if label == "full" else None

    found = judged(part, records={"seconds_protocol": seconds}, value="")
    assert found.findings[0].value == pytest.approx(2 / 3, rel=1e-3)
    assert found.verdict == "reproduced"


def test_times_taken_beside_others_are_no_evidence(judged):
    part = (
        '{ kind = "ratio", row = "in_training tau=0.1", to = "full", column = "seconds", '
        'at_least = 1.0, why = "faster" }'
    )
    found = judged(part, records={"exclusive": lambda label, seed: False}, value="")
    assert found.verdict == "not run"
    assert "timed alone" in found.findings[0].reason


STABILITY = (
    '{ kind = "stability", row = "full", measure = "spearman", fraction = 0.1, at_least = 0.9, '
    'why = "ours" }'
)


@pytest.mark.parametrize(
    ("settles", "sign", "verdict"),
    [(0.05, 1, "reproduced"), (0.1, 1, "reproduced"), (0.14, -1, "not reproduced")],
)
def test_rank_stability_is_judged_at_its_fraction(place, judged, settles, sign, verdict):
    # In one of 5 seeds two neighbours of 8 change places last: its rank correlation is lower by
    # 12 / (8 x 63). Settled between the records at 0.1 and 0.15, nothing is settled at 0.1.
    write_records(place, "published.py")
    write_spectra(place, [f"full/{seed}" for seed in range(5)], settles, swapped="full/3")
    found = judged(STABILITY, value="")
    assert found.findings[0].value == pytest.approx(sign * (1 - 12 / (8 * 63) / 5))
    assert found.verdict == verdict


def test_rank_stability_without_spectra_is_not_run(judged):
    found = judged(STABILITY, value="")
    assert (found.verdict, found.findings[0].reason) == (
        "not run", "its spectra are not recorded here: spectra.parquet is missing",
    )  # fmt: skip


def test_other_settings_are_not_the_experiment(place, judged):
    def shorter(label, spec):
        spec["training"]["steps"] = 100

    write_records(place, "published.py", spec=shorter)
    found = judged(value(row="full"))
    assert found.verdict == "not run"
    assert found.findings[0].reason == (
        "not run as the suite defines it: training.steps 100 instead of 1000"
    )


def test_a_row_is_sized_by_one_that_must_be_as_the_suite_has_it(place, judged):
    def harder(label, spec):
        if label == OURS:
            spec["arm"]["tau"] = 0.3

    write_records(place, "published.py", spec=harder)
    found = judged(value(row=SMALL))
    assert "arm.tau 0.3 instead of 0.1" in found.findings[0].reason
    assert judged(value(row="small N=8")).findings[0].reason != found.findings[0].reason


def test_what_computes_the_scan_changes_no_experiment(place, judged):
    def backend(label, spec):
        spec["model"]["backend"] = "toeplitz"

    write_records(place, "published.py", spec=backend)
    assert judged(difference("better"), value="").verdict == "reproduced"


def test_a_row_of_another_size_is_another_experiment(judged):
    part = value(row=SMALL, tolerance="wide").replace(" }", ", at_states = 20 }")
    found = judged(part, value="80")
    assert found.verdict == "not run"
    assert "ours has 12.0 states per block, the published row 20" in found.findings[0].reason
    assert judged(part.replace("20", "13"), value="80").verdict == "reproduced"


@pytest.mark.parametrize("part", [difference("better"), SPEED])
def test_differences_and_ratios_are_of_the_published_size(judged, part):
    sized = part.replace(" }", ", at_states = 20 }")
    found = judged(sized, value="")
    assert found.verdict == "not run"
    assert "ours has 12.0 states per block, the published row 20" in found.findings[0].reason
    assert judged(sized.replace("20", "13"), value="").verdict == "reproduced"


def test_a_reason_that_parts_share_is_said_once(place, judged):
    def shorter(label, spec):
        spec["training"]["steps"] = 100

    write_records(place, "published.py", spec=shorter)
    found = judged(difference("better"), difference("noninferior", "point"), value="")
    claims = read_claims(Path("claims.toml"))
    text = " ".join(lines.text([found], claims).split())
    for shown in (text, claims_html([found], claims)):
        assert shown.count("not run as the suite defines it") == 1
        assert shown.count(f"{OURS} minus {SMALL}: asked above") == 2
    assert all("training.steps" in finding.reason for finding in found.findings)


@pytest.mark.parametrize(
    ("options", "partial"),
    [("", False), (" --only full*", True), (" --set=training.steps=9", True),
     (" --retry failed", False)],
)  # fmt: skip
def test_after_a_run_of_a_part_the_way_back_is_named(place, judged, options, partial):
    command = f"harness run published.py{options}"
    (place / "plan.json").write_text(json.dumps({"command": command, "trials": []}))
    found = judged(difference("better"), difference("noninferior", "point"), value="")
    claims = read_claims(Path("claims.toml"))
    text = " ".join(lines.text([found, found], claims).split())
    said = (
        f"The last run here was: {command}. The tables hold only what it asked for; "
        "`harness run published.py` adds the rest from the store"
    )
    for shown in (text, claims_html([found, found], claims)):
        assert shown.count(said) == (1 if partial else 0)
    (one,) = json.loads(lines.as_json([found], claims))["verdicts"]
    assert one["partial_run"] == (command if partial else None)


def test_an_empty_store_has_run_nothing(place, judged):
    place.rmdir()
    Path("claims.toml").write_text(toml(value()))
    (found,) = verdicts(read_claims(Path("claims.toml")), Store("nowhere"))
    assert (found.verdict, found.reason) == ("not run", "no trial of published.py has ended here")


def test_text_fits_a_terminal_and_tells_all(judged):
    part = difference("better") + ",\n" + value(row="full", tolerance="wide")
    statement = "a word after another " * 20
    found = judged(part, value="93", statement=statement, plus_minus="0.2", note="a remark")
    text = lines.text([found], read_claims(Path("claims.toml")))
    assert all(len(line) <= lines.WIDTH for line in text.splitlines())
    flat = " ".join(text.split())
    for expected in (
        "published.py: 1 verdicts: 1 reproduced", "one: a word after",
        "ours +10.0 points (+8.0 to", "5 seeds",
        "theirs 93 ± 0.2", "asked within ±10", "confidence high; source a page; a remark",
        "wide, ±10: ten points",
    ):  # fmt: skip
        assert expected in flat, expected


def test_json_holds_all_of_it(judged):
    found = judged(difference("better"), value="")
    document = json.loads(lines.as_json([found], read_claims(Path("claims.toml"))))
    (one,) = document["verdicts"]
    assert (one["verdict"], one["suite"], one["id"]) == ("reproduced", "published.py", "one")
    assert one["parts"][0]["value"] == pytest.approx(10.0)
    assert one["parts"][0]["seeds_needed"] is None


def test_the_section_escapes_every_text(judged):
    found = judged(difference("better"), value="", statement="<b>bold</b>", source="a & b")
    page = claims_html([found], read_claims(Path("claims.toml")))
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page
    assert "a &amp; b" in page
    assert "ours +10.0 points" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toml(value(column="metrc")), "claim one: no column 'metrc' for a value; use one of"),
        (toml(value(tolerance="none")), "claim one: no tolerance 'none'; use one of zero, point"),
        (toml(value(), value="about 3"), "'about 3' is not one number"),
        (toml(value(), value="nan"), "value 'nan' of claim one: it must be finite"),
        (toml(value(), value="-inf"), "value '-inf' of claim one: it must be finite"),
        (toml(value().replace(" }", ", value = nan }")), "finite number"),
        (toml(value()).replace("points = 1.0", "points = inf"), "finite number"),
        (toml(difference("equivalent")), "margin 'zero': equivalent needs points above 0"),
        (toml(value().replace("value", "sum", 1)), "kind"),
        (toml(value().replace("row", "rwo", 1)), "claims.0.tests.0.parts.0.row: Field required"),
        (toml(value()) + "[[claims]]\nid = 'two'\nstatement = 's'\nsource = 's'\n"
         "confidence = 'low'\n", "give either tests or not_run"),
        ("claims = 1 =", "claims.toml"),
        ("", "claims"),
    ],
)  # fmt: skip
def test_a_broken_file_of_claims_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as refused:
        read_claims(path)
    said = str(refused.value)
    assert str(path) in said
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toml(value(), suite="nothing.here"), "claim one: no suite"),
        (toml(value(row="in_training tau=9")), "suite published.py has no row 'in_training tau=9'"),
        (toml(value()).replace('suite = "published.py"',
                               'suite = "published.py"\ncomparison = "other"'),
         "suite published has no comparison 'other'; use one of digits"),
    ],
)  # fmt: skip
def test_a_claim_about_what_is_not_there_is_refused(place, text, message):
    Path("claims.toml").write_text(text)
    with pytest.raises(ValueError, match="claim one") as refused:
        claims_text(Store("store"), None, Path("claims.toml"), False)
    assert message in str(refused.value)
