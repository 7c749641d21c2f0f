"""The paper's suites and the ablations, as a laptop runs them: on miniatures of the data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tasks import miniature, miniature_media, miniature_text

from harness.launch import Outcome
from harness.launch.plan_jobs import PlanJobs
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import TrialSpec, load, override
from harness.tasks.storage import sources
from harness.training.trial import Execution, Fork, run_trial
from tests.reduction.systems import with_hsv

SMALL = [
    "training.steps=4",
    "training.evaluate_every=2",
    "training.batch_size=4",
    "model.blocks=1",
    "model.width=4",
    "seeds=[8]",
]
CAPS = ["task.train=20", "task.validation=4", "task.test=8"]
# What a laptop changes, and the rows that stand for all of their kind.
RUNS = {
    "smnist": ([], ["full", "in_training tau=0.02", "*tau=0.02", "pragmatic", "hankel*"]),
    "scifar": ([], ["full", "in_training tau=0.1", "*tau=0.1", "distill N=58"]),
    "listops": (["task.length=2000"], ["full", "in_training tau=0.1", "*tau=0.1"]),
    "imdb": (["task.length=64"], ["full", "in_training tau=0.1", "*tau=0.1", "distill N=95"]),
    "aan": (["task.length=64"], ["full", "in_training tau=0.1", "small tau=0.1"]),
    "pathfinder": ([], ["full", "in_training tau=0.1", "small tau=0.1"]),
    "mamba_scifar": ([], ["full", "in_training tau=0.001", "small tau=0.001", "small N=8"]),
    "mamba_imdb": (["task.length=64"], ["full", "in_training tau=0.001", "*tau=0.001"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the archives of all of them; the test trains on the first few examples."""
    folder = tmp_path_factory.mktemp("data")
    for module in (miniature, miniature_text):
        module.write_all(folder / "downloads")
    easy = miniature_media.pathfinder_members(80, 32, "curv_baseline")
    miniature_text.write_lra(folder / "downloads", images=easy)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(data, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(data))
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    miniature.without_checksums(monkeypatch)
    assert sources.SOURCES["lra_release.gz"].sha256 is None


def play(plan, rows):
    """Run the trials of some rows, one after the other."""
    for glob in rows:
        jobs = PlanJobs(plan, f"*/{glob}")
        while ready := jobs.ready():
            for job in ready:
                spec = TrialSpec.model_validate_json(json.dumps(job.spec))
                fork = Fork(*job.fork) if job.fork else None
                result = run_trial(spec, plan.store, Execution(fork=fork, keep_at=job.keep_at))
                assert result["status"] == "completed", (job.label, result["message"])
                jobs.done(job.trial_id, Outcome(result["status"], None, 0.0))


@pytest.mark.parametrize("name", RUNS)
def test_a_paper_suite_runs_on_a_laptop(name, tmp_path):
    changes, rows = RUNS[name]
    suite = load(f"paper.{name}")
    cuts = {
        f"arms.{label}": arm
        for label, arm in suite.comparisons[0].arms.items()
        if arm.kind in ("in_training", "post_hoc")
    }
    windows = [f"{at}.end=1.0" for at, arm in cuts.items() if arm.kind == "in_training"]
    if suite.comparisons[0].model.kind == "mamba":  # whose truncations look at examples
        windows += [f"{at}.calibration=8" for at in cuts]
    small = override(suite, [*SMALL, *CAPS, *changes, *windows])
    plan = Plan(small, Store.open(tmp_path))
    play(plan, rows)
    ended = {row.role.label: plan.result(row.spec.trial_id) for row in plan.rows if row.spec}
    records = {label: result["record"] for label, result in ended.items() if result}
    assert {"full", "small tau=" + rows[1].rpartition("=")[2]} <= records.keys()
    for label, record in records.items():
        assert record["protocol"] == "published"
        assert 0.0 <= record["test_metric"] <= 1.0, label
    cut, small_one = records[rows[1]], records["small tau=" + rows[1].rpartition("=")[2]]
    assert cut["state_dim_mean"] < records["full"]["state_dim_mean"]
    assert small_one["state_dim_mean"] == round(cut["state_dim_mean"])
    assert len({record["data_fingerprint"] for record in records.values()}) == 1


def test_the_published_grids_stand_as_published():
    scifar = load("paper.scifar").comparisons[0]
    assert (scifar.model.blocks, scifar.model.width, scifar.model.state_dim) == (6, 512, 384)
    assert (scifar.training.steps, scifar.training.lr) == (180_000, 1e-3)
    assert scifar.task.info.inputs == 4  # colours and time
    truncations = [a for a in scifar.arms.values() if a.kind == "in_training"]
    assert [arm.tau for arm in truncations] == [0.02, 0.03, 0.05, 0.07, 0.1, 0.15]
    for arm in truncations:
        assert arm.happens(scifar.training) == (4500, 9000, 13500, 18000)
        assert (arm.gate, arm.moments) == (0.05, "slice")
    smnist = load("paper.smnist").comparisons[0]
    events = smnist.arms["in_training tau=0.04"].happens(smnist.training)
    assert len(events) == 40
    assert (events[0], events[-1]) == (5000, 200_000)
    imdb = load("paper.imdb").comparisons[0]
    assert imdb.arms["in_training tau=0.1"].happens(imdb.training) == (2000, 3000)
    pathfinder = load("paper.pathfinder").comparisons[0]
    assert (pathfinder.task.difficulty, pathfinder.task.scaling) == ("easy", "signed")


def test_the_released_code_truncates_once_and_twice_where_the_research_code_did_4_and_40_times():
    for name, events in {"scifar": (18_000,), "smnist": (10_000, 20_000)}.items():
        (comparison,) = load(f"paper.{name}_release").comparisons
        assert comparison.training.protocol == "release"
        assert comparison.task.time_channel is False
        for label, arm in comparison.arms.items():
            assert arm.happens(comparison.training) == (() if label == "full" else events)


def test_ablations_end_at_one_size():
    """Equal cuts: 256 to 32 in steps of 56, as the paper says, whatever their number."""

    from harness.arms import Event

    smnist = load("ablations.smnist").comparisons[0]
    for label, arm in smnist.arms.items():
        if arm.kind != "in_training" or arm.rule != "fixed":
            continue
        events, n, sizes = arm.happens(smnist.training), 256, []
        for k in range(len(events)):
            (n,) = arm.ranks([with_hsv(*np.ones(n))], Event(k, len(events)))
            sizes.append(n)
        assert n == 32, label
        if label == "keep largest":
            assert sizes == [200, 144, 88, 32]
            assert events == (5000, 10_000, 15_000, 20_000)
        if label == "window 25-35":
            assert (events[0], events[-1]) == (55_000, 70_000)


def test_a_grid_with_a_value_twice_is_refused_in_one_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from harness.suite import InTrainingSpec, grid\n"
        "rows = grid('tau', (0.1, 0.2, 0.1), lambda t: InTrainingSpec(kind='in_training', tau=t))\n"
    )
    with pytest.raises(ValueError, match=r"line 2: .*the grid of 'tau' has 0\.1 twice: 0\.1, 0\.2"):
        load(f"{path}:suite")
