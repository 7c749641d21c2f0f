"""The course of a study follows from its records alone: not from timing, not from kills."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from harness.records.store import Store
from harness.suite import FullSpec, InTrainingSpec, LRUSpec, TaskSpec
from harness.training.costs.flops import step_flops
from harness.training.trial import Execution, run_trial
from harness.tune.candidates import candidates_frame, damaged_of
from harness.tune.cost_estimate import cost_estimate, spent_steps
from harness.tune.margins import check_margin, resolution, weakness
from harness.tune.rebuild_study import rebuild_study
from harness.tune.run_study import check_name
from harness.tune.search.suggest import sobol
from harness.tune.study_stages import Halted, confirmation

from .playing import STUDY, Killed, concluded, play, tiny_study

STRICT = {  # here one state is far too few, and some candidates are stopped
    "margin": 0.25,
    "seeds": [1, 3],
    "base": STUDY["base"]
    | {"training": {"steps": 200, "batch_size": 20, "evaluate_every": 200, "lr": 0.03}},
    "space": STUDY["space"]
    | {"start": {"low": 0.5, "high": 0.6}, "tau": {"low": 0.5, "high": 0.85}},
    "budget": {"candidates": 4},
}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A store with the tiny study, played from start to end."""
    store = Store.open(tmp_path_factory.mktemp("study"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        play(tiny_study(), store, report=True)
    return store


def test_from_the_first_trial_to_the_recommendation(undisturbed):
    content = concluded(undisturbed)
    assert content["state"] == "done"
    assert [c["number"] for c in content["candidates"]] == list(range(8))
    assert [c["origin"] for c in content["candidates"]] == [
        "enqueued", *["sobol"] * 3, *["sampler"] * 4
    ]  # fmt: skip
    assert {c["state"] for c in content["candidates"]} <= {"complete", "stopped"}
    assert len(content["finalists"]) == 1
    advice = json.loads((undisturbed.suite("tiny").folder / "study.json").read_text())[
        "recommendation"
    ]
    labels = {row["label"] for row in advice["rows"]}
    assert labels == {"paper", *(f"c{n}" for n in content["finalists"])} - {"c0"}
    assert advice["seeds"] == [10, 11]
    folder = undisturbed.suite("tiny").folder
    names = {path.name for path in folder.iterdir()}
    assert names >= {"index.html", "answer.md", "candidates.csv", "figures", "trials.parquet"}
    assert not list(undisturbed.root.glob("trials/*/forks"))


def test_the_winners_curse_is_escaped(undisturbed):
    fresh = pd.read_parquet(undisturbed.suite("tiny.confirm").folder / "trials.parquet")
    assert set(fresh.seed) == {10, 11}
    searched = pd.read_parquet(undisturbed.suite("tiny").folder / "trials.parquet")
    assert set(searched.seed) == {0, 1}
    for n in set(concluded(undisturbed)["finalists"]) - {0}:  # c0 is the paper's setting
        assert {f"c{n}", f"window c{n}", f"small c{n}", f"post_hoc c{n}"} <= set(fresh.label)


def test_what_forks_save_is_counted(undisturbed):
    spent = json.loads((undisturbed.suite("tiny").folder / "study.json").read_text())["spent"]
    trials = pd.read_parquet(undisturbed.suite("tiny").folder / "trials.parquet")
    unique = trials.drop_duplicates("trial_id")
    assert spent["flops"] == pytest.approx(unique.flops_spent.sum())
    assert spent["flops"] < 0.8 * spent["flops_alone"]
    assert unique[unique.arm == "full"].forked_from.isna().all()
    assert unique[unique.arm == "in_training"].forked_from.notna().all()


@pytest.mark.parametrize("order", [1, 2])
def test_the_timing_of_workers_changes_nothing(undisturbed, tmp_path, order):
    store = Store.open(tmp_path)
    play(tiny_study(), store, order=order)
    assert concluded(store) == concluded(undisturbed)


@pytest.mark.parametrize("die_after", [1, 5, 11, 19, 22])
def test_a_killed_study_goes_on_where_it_was(undisturbed, tmp_path, die_after):
    store = Store.open(tmp_path)
    with pytest.raises(Killed):
        play(tiny_study(), store, die_after=die_after)
    before = {path: path.stat().st_mtime_ns for path in store.root.glob("trials/*/result.json")}
    assert len(before) == die_after
    if die_after > 10:  # the full model, and four candidates, on two seeds each
        assert len(concluded(store)["candidates"]) >= 4
    play(tiny_study(), store)
    assert concluded(store) == concluded(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_larger_budget_goes_on(undisturbed, tmp_path):
    store = Store.open(tmp_path)
    play(tiny_study(budget={"candidates": 4}), store)
    assert len(concluded(store)["candidates"]) == 4
    play(tiny_study(), store)
    assert concluded(store)["candidates"] == concluded(undisturbed)["candidates"]


def test_a_budget_of_flops_ends_the_search(tmp_path):
    store = Store.open(tmp_path)
    study = tiny_study(budget={"flops": 1.0e9})
    ledger = play(study, store)
    spent = ledger.spent()
    assert spent["candidates"] % 4 == 0
    assert 0 < spent["flops"] <= 1.0e9


@pytest.mark.slow
def test_weak_candidates_are_stopped_and_are_no_results(tmp_path):
    store = Store.open(tmp_path)
    play(tiny_study(**STRICT), store, report=True)
    content = concluded(store)
    stopped = [c for c in content["candidates"] if c["state"] == "stopped"]
    assert stopped
    trials = pd.read_parquet(store.suite("tiny").folder / "trials.parquet")
    for candidate in stopped:
        assert "below full size on seed 1" in candidate["why"]
        assert store.trial(candidate["trials"]["1"]).ended()
        assert not store.trial(candidate["trials"]["3"]).ended()
        assert candidate["label"] not in set(trials.label)
        assert candidate["number"] not in content["finalists"]
    settings = [json.dumps(c["setting"]) for c in content["candidates"] if c not in stopped]
    assert all(json.dumps(c["setting"]) not in settings for c in stopped)
    listed = pd.read_csv(store.suite("tiny").folder / "candidates.csv")
    assert set(listed[listed.state == "stopped"].seed) == {1}


def test_a_full_trial_that_ended_before_without_keeping_its_states(undisturbed, tmp_path):
    store, study = Store.open(tmp_path), tiny_study()
    for seed in study.seeds:
        full = study.base.model_copy(update={"arm": FullSpec(kind="full"), "seed": seed})
        run_trial(full, store, Execution())
    ledger = play(study, store)
    assert concluded(store) == concluded(undisturbed)
    assert ledger.spent()["flops"] < 0.9 * ledger.spent()["flops_alone"]
    assert not list(store.root.glob("trials/*/forks"))


def test_a_lost_trial_halts_the_study_and_it_goes_on(undisturbed, tmp_path):
    store = Store.open(tmp_path)
    lost = concluded(undisturbed)["candidates"][2]["trials"]["1"]
    with pytest.raises(Halted, match="c2, seed 1, has not ended"):
        play(tiny_study(), store, lose={lost})
    play(tiny_study(), store)
    assert concluded(store) == concluded(undisturbed)


def test_a_margin_finer_than_the_seeds_resolve(tmp_path):
    study = tiny_study(margin=0.02)
    full = {0: 0.80, 1: 0.84}
    least = resolution(0.02828427, 2)
    assert least == pytest.approx(6.3137515 * 0.02)
    with pytest.raises(ValueError, match=r"finer than 2 seeds can resolve.*0\.126 is the least"):
        check_margin(study, full)
    check_margin(tiny_study(margin=0.2), full)
    check_margin(study, {0: 0.8, 1: 0.8})


def test_which_first_seeds_rule_a_candidate_out():
    study, full = tiny_study(margin=0.1), {0: 0.80, 1: 0.84}
    slack = 2 * 0.0282843
    assert weakness(study, {0: 0.80 - 0.1 - slack + 1e-3}, full) is None
    deficit, why = weakness(study, {0: 0.80 - 0.1 - slack - 1e-3}, full)
    assert deficit == pytest.approx(slack + 1e-3)
    assert "0.158 below full size on seed 0" in why


def test_the_confirmation_has_every_rival_of_every_finalist():
    study = tiny_study()
    arm = InTrainingSpec(kind="in_training", tau=0.2, start=0.2, end=0.6, count=2)
    suite = confirmation(study, [3], {3: arm})
    (comparison,) = suite.comparisons
    assert set(comparison.arms) == {
        "full", "paper", "post_hoc paper", "small paper",
        "c3", "window c3", "post_hoc c3", "small c3",
    }  # fmt: skip
    twin = comparison.arms["window c3"]
    assert (twin.start, twin.end, twin.count, twin.tau) == (0.0, 0.1, 2, 0.2)


def test_steps_spent_alone_and_shared():
    """T 100; first truncations after 20 and 60; a step after them costs half."""
    base = tiny_study().base.model_copy(
        update={"training": tiny_study().base.training.model_copy(update={"steps": 100})}
    )
    arms = [
        InTrainingSpec(kind="in_training", start=0.0, end=0.2, count=1),
        InTrainingSpec(kind="in_training", start=0.2, end=0.6, count=1),
    ]
    alone, shared = spent_steps(base, [*arms, arms[0]], 0.5)
    assert alone == pytest.approx(1 + (0.2 + 0.4) + (0.6 + 0.2))
    assert shared == pytest.approx(1 + 0.4 + 0.2)


def test_the_cost_estimate_bounds_what_was_spent(undisturbed):
    expected = cost_estimate(tiny_study(), undisturbed)
    spent = json.loads((undisturbed.suite("tiny").folder / "study.json").read_text())["spent"]
    assert expected["candidates"] == 8
    assert expected["done"] == {"state": "done", "candidates": 8}
    fresh = pd.read_parquet(undisturbed.suite("tiny.confirm").folder / "trials.parquet")
    took = fresh.drop_duplicates("trial_id").flops_spent.sum()
    assert took <= expected["confirmation_flops"]
    assert spent["flops"] <= expected["flops_shared"] * 1.1
    assert expected["share_if_half"] < expected["share"] < 1
    assert expected["kept_states"] == len(tiny_study().first_event_steps()) * 2


def test_a_search_of_64_candidates_costs_less_than_seven_tenths():
    """A sCIFAR-like model at the paper's tau: 384 states become 93 (tau 0.1), H 512."""

    def flops(n):
        model = LRUSpec(blocks=6, width=512, state_dim=n)
        return step_flops(model, TaskSpec(name="vowels", length=1024).info, [n] * 6, 50)

    kept = flops(93) / flops(384)
    assert kept == pytest.approx(0.546, abs=0.01)
    study = tiny_study(
        space={
            "start": {"low": 0.02, "high": 0.5}, "length": {"low": 0.02, "high": 0.4},
            "count": {"low": 1, "high": 4}, "tau": {"low": 0.05, "high": 0.15},
        },
        grid=50,
        base={"task": {"name": "digits"}, "training": {"steps": 1000},
              "arm": {"kind": "in_training"}},
        startup=64,
        enqueue=[],
        budget={"candidates": 64},
    )  # fmt: skip
    arms = [study.arm(params) for params in sobol(study)]
    alone, shared = spent_steps(study.base, arms, kept)
    assert shared / alone <= 0.70


def test_a_twin_that_cannot_be_in_the_papers_window_is_left_out():
    study = tiny_study()  # 40 steps: five truncations do not fit into four of them
    arm = InTrainingSpec(kind="in_training", tau=0.2, start=0.2, end=0.8, count=5)
    (comparison,) = confirmation(study, [3], {3: arm}).comparisons
    assert "c3" in comparison.arms
    assert "window c3" not in comparison.arms


def test_a_refused_margin_leaves_nothing_held_and_another_may_be_tried(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(ValueError, match="finer than 2 seeds can resolve"):
        play(tiny_study(margin=0.01), store)
    assert not list(store.root.glob("trials/*/forks"))
    play(tiny_study(budget={"candidates": 4}), store)


def test_too_few_hours_are_refused_with_the_numbers(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(ValueError, match=r"budget\.gpu_hours 1e-09 is less than the full model"):
        play(tiny_study(budget={"gpu_hours": 1e-9}), store)
    assert not list(store.root.glob("trials/*/forks"))


def test_records_of_others_are_not_written_over(undisturbed, tmp_path):
    there = check_name(tiny_study(budget={"candidates": 12}), undisturbed)
    assert there["finalists"] == concluded(undisturbed)["finalists"]
    with pytest.raises(ValueError, match="holds another study tiny"):
        check_name(tiny_study(margin=0.4), undisturbed)
    with pytest.raises(ValueError, match=r"holds a suite tiny\.confirm"):
        check_name(tiny_study(name="tiny.confirm"), undisturbed)


@pytest.mark.parametrize("damage", [b"{}", b"", b"[" * 100_000, None])
def test_a_study_whose_books_are_lost_is_named_and_may_go_on(undisturbed, tmp_path, damage):
    """The report says that `harness tune` writes study.json anew; so it must not refuse to."""
    path = undisturbed.suite("tiny").folder / "study.json"
    store = Store.open(tmp_path)
    store.suite("tiny").write_plan({"trials": [], "command": "harness tune t.py"})
    copy = store.suite("tiny").folder / "study.json"
    copy.write_bytes(path.read_bytes())
    assert check_name(tiny_study(), store)["finalists"] == concluded(undisturbed)["finalists"]
    if damage is None:
        copy.unlink()
    else:
        copy.write_bytes(damage)
    with pytest.raises(
        ValueError, match=r"study\.json.*; harness tune writes it anew|no record of"
    ):
        rebuild_study("tiny", store)
    assert check_name(tiny_study(), store) == {}


def test_a_damaged_trial_of_a_study_is_named_and_left_out(undisturbed, tmp_path):
    store = Store.open(shutil.copytree(undisturbed.root, tmp_path / "store"))
    content = concluded(store)
    lost = content["candidates"][0]["trials"]["1"]
    (store.trial(lost).path / "result.json").write_text("{}")
    frames = [candidates_frame(content, one) for one in (undisturbed, store)]
    assert set(frames[0].trial_id) - set(frames[1].trial_id) == {lost}
    lines = damaged_of(content, store)
    assert len(lines) == 1
    assert f"trials/{lost} is damaged (result.json" in lines[0]


@pytest.mark.slow
def test_stopped_candidates_are_mirrored_apart(tmp_path):
    from mlflow import MlflowClient

    store = Store.open(tmp_path)
    ledger = play(tiny_study(**STRICT), store, report=True)
    stopped = [c for c in ledger.candidates.values() if c.state == "stopped"]
    client = MlflowClient(f"sqlite:///{store.root}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny.stopped")
    runs = client.search_runs([experiment.experiment_id])
    seen = {run.data.tags.get("harness.trial_id") for run in runs}
    assert {c.trials[1].trial_id for c in stopped} <= seen
