import re
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.records import schemas
from harness.records.suite_records import SuiteRecords
from harness.report import write_report
from harness.report.comparison.compare import SCHEMA, compare
from harness.report.settings import arm_settings, base_settings
from harness.report.tables import COLUMNS

OURS = "in_training tau=0.1"
WRITTEN = [
    "comparison.csv", "comparison.md", "comparison.parquet", "comparison.tex", "figures/cost.png",
    "figures/cost.svg", "figures/state_dim.png", "figures/state_dim.svg", "index.html",
]  # fmt: skip


def write_records(directory, trials, planned=None):
    """What `harness.records.collect` leaves in a suite's folder."""
    rows = []
    for row in trials.astype(object).where(trials.notna(), None).to_dict("records"):
        spec = {"task": {"name": row["task"]}, "model": {"state_dim": 64}, "seed": row["seed"]}
        spec |= {"arm": {"kind": row["arm"], "tau": 0.1 if row["arm"] == "in_training" else None}}
        spec |= {"training": {"steps": 40}}
        roles = {name: row.pop(name) for name in schemas.ROLE_SCHEMA.names}
        rows.append((row, spec, roles))
    event = {"trial_id": "digits/in_training tau=0.1/0", "step": 15, "block": 1, "dim_before": 64,
             "dim_after": 7, "tau": 0.1, "energy_kept": 0.91, "error_bound": 0.2,
             "val_before": 0.5, "val_after": None, "seconds": 0.1}  # fmt: skip
    schemas.write_table(directory / "trials.parquet", schemas.trials_table(rows))
    table = schemas.make_table("truncations", [event])
    schemas.write_table(directory / "truncations.parquet", schemas.stamp(table, "truncations", {}))
    planned = [row[0]["trial_id"] for row in rows] if planned is None else planned
    roles = dict.fromkeys(("label", "role", "task", "seed"))
    plan = {"trials": [{**roles, "trial_id": trial_id} for trial_id in planned]}
    SuiteRecords(directory, "demo").write_plan(plan)


@pytest.fixture
def written(tmp_path, two_tasks):
    write_records(tmp_path, two_tasks)
    write_report(SuiteRecords(tmp_path, "demo"), "harness run demo --set seeds=[0,1,2]")
    return tmp_path


def test_every_file_is_there_and_nothing_else(written):
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert files - {"trials.parquet", "truncations.parquet", "plan.json"} == set(WRITTEN)
    assert all((written / name).stat().st_size > 500 for name in WRITTEN)


def test_the_parquet_table_is_the_comparison(written, two_tasks):
    table = pq.read_table(written / "comparison.parquet")
    assert table.schema.equals(SCHEMA)
    expected = compare(two_tasks)
    found = table.to_pandas()
    assert list(found.label) == list(expected.label)
    assert list(found.metric_mean) == pytest.approx(list(expected.metric_mean))


def test_reporting_twice_gives_the_same_bytes(written):
    before = {name: (written / name).read_bytes() for name in WRITTEN}
    write_report(SuiteRecords(written, "demo"), "harness run demo --set seeds=[0,1,2]")
    assert before == {name: (written / name).read_bytes() for name in WRITTEN}


def test_the_page_stands_alone(written):
    page = (written / "index.html").read_text()
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"<(script|link|iframe)|@import|url\(", page)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)


def test_the_page_tells_all_of_it(written):
    page = (written / "index.html").read_text()
    for expected in (
        "demo: small models compared", "in-training truncation wins", "8.0 ± 1.0",
        "harness run demo --set seeds=[0,1,2]", "2.13.0", "a cpu", "Seeds: 0, 1, 2.",
        "Trials: 24 ended.", "model.state_dim", "tau 0.1", "64 → 7", "91.0 %",
        "digits/in_training tau=0.1/0", "prefers-color-scheme: dark",
    ):  # fmt: skip
        assert expected in page, expected


def test_the_page_shows_results_and_costs_apart(written):
    """Side by side they do not fit a window of 1280 pixels."""
    page = (written / "index.html").read_text()
    heads = [
        re.findall("<th>(.*?)</th>", head) for head in re.findall("<thead>(.*?)</thead>", page)
    ]
    assert heads[0] == list(COLUMNS)
    assert heads[1] == ["row", "states", "seconds", "train FLOPs", "process MB"]
    assert page.index("<h2>Costs</h2>") < page.index("whole process") < page.index("<h2>Figures")


def test_rows_and_settings_are_those_of_one_comparison(tmp_path, two_tasks, comparison_named):
    """A label that two tasks share is trained otherwise in each: its settings are not merged."""
    trials = pd.concat([two_tasks, comparison_named("long")], ignore_index=True)
    write_records(tmp_path, trials)
    path = tmp_path / "trials.parquet"
    table = schemas.read_table(path, "trials").to_pandas()
    table["spec.arm.tau"] = table["spec.arm.tau"].where(table.task != "pylib", 0.3)
    table["spec.training.steps"] = [400 if one == "long" else 40 for one in table.comparison]
    found = [row for row in arm_settings(table) if row["row"].endswith(OURS)]
    assert [(row["task"], row["settings"]) for row in found] == [
        ("digits", "kind in_training, tau 0.1"),
        ("pylib", "kind in_training, tau 0.3"),
        ("digits, long", "kind in_training, tau 0.1"),
    ]
    steps = next(row for row in base_settings(table) if row["setting"] == "training.steps")
    assert steps == {
        "setting": "training.steps", "digits": "40", "pylib": "40", "digits, long": "400"
    }  # fmt: skip
    old = arm_settings(table.drop(columns="comparison"))
    assert [row["task"] for row in old if row["row"] == OURS] == ["digits", "pylib"]


def test_the_page_escapes_and_counts_what_is_missing(tmp_path, suite):
    trials = suite().replace({"label": {"small as tau=0.1": "<script>alert(1)</script>"}})
    trials.loc[0, "status"] = "diverged"
    write_records(tmp_path, trials, [*trials.trial_id, "x", "y", "y"])
    write_report(SuiteRecords(tmp_path, "<i>demo</i>"), "echo '<b>'")
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"<(script|i|b)>", page)
    assert "Trials: 12 ended, 1 of them diverged; 2 more planned." in page


def test_a_trial_that_failed_early_does_not_stop_the_report(tmp_path, suite):
    trials = suite()
    nothing = ["test_metric", "val_metric", "metric", "higher_is_better", "state_dims",
               "state_dim_mean", "state_dim_total", "selected_step", "train_flops", "exclusive",
               "flops_method", "seconds_method", "seconds_total", "device", "git_commit",
               "data_fingerprint", "peak_memory_bytes", "threads"]  # fmt: skip
    trials[nothing] = trials[nothing].astype(object)
    for line in (1, 5, 9):
        trials.loc[line, "status"] = "failed"
        trials.loc[line, nothing] = None
    write_records(tmp_path, trials)
    comparison = write_report(SuiteRecords(tmp_path, "demo"), "harness run demo").set_index("label")
    assert comparison.failed["in_training tau=0.1"] == 3
    assert "in_training tau=0.1: no seed finished." in (tmp_path / "index.html").read_text()


def test_a_store_without_a_record_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no record of suite demo here: trials\.parquet is miss"):
        write_report(SuiteRecords(tmp_path, "demo"), "harness run demo")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_comparison_writes_nothing(tmp_path, suite):
    trials = suite()
    trials.loc[1, "data_fingerprint"] = "other"
    write_records(tmp_path, trials)
    with pytest.raises(ValueError, match="mixes data_fingerprint"):
        write_report(SuiteRecords(tmp_path, "demo"), "harness run demo")
    assert not any((tmp_path / name).exists() for name in WRITTEN)


def test_the_page_has_the_claims_that_the_suite_decides(tmp_path, suite):
    write_records(tmp_path, suite())
    write_report(SuiteRecords(tmp_path, "ablations.digits"), "harness run ablations.digits")
    page = (tmp_path / "index.html").read_text()
    claims = page.partition("<h2>Published claims</h2>")[2].partition("<h2>")[0]
    for expected in ("ablate_top", "rank_stability", "not run (analogue)", "asked below −10"):
        assert expected in claims, expected
    assert "smnist_full" not in claims
    write_report(SuiteRecords(tmp_path, "demo"), "harness run demo")
    assert "Published claims" not in (tmp_path / "index.html").read_text()


def test_importing_the_room_is_light_and_using_it_needs_no_torch():
    code = (
        "import sys, harness.report; heavy = {'pandas', 'matplotlib', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "import harness.report.write;"
        "bad = {'torch', 'ray', 'mlflow', 'matplotlib.pyplot'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
