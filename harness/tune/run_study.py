"""Run a study: search, confirm, recommend, report."""

from __future__ import annotations

import json
import time
from typing import Any

from harness.launch.address import check_address
from harness.launch.run_suite import RunOptions, RunSummary, launch_and_summarise, publish_run
from harness.launch.watch.metrics import check_metrics
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.report.publish import publish
from harness.suite import FullSpec
from harness.suite.explain import renamed, validated
from harness.suite.load import find

from .ledger import Ledger
from .rebuild_study import report_study
from .study_jobs import StudyJobs
from .study_progress import study_progress
from .study_spec import Study
from .study_stages import Halted, StudyStages, competing, confirmation, confirmation_name, suite_of


def load_study(name_or_path: str) -> Study:
    """`timing.digits` is suites/timing.py:digits, `file.py:name` any.

    Raises:
        ValueError: one line that says what is missing, broken or of another type.
    """
    return find(name_or_path, (Study,), "study")


def run_study(
    study: Study,
    store: Store,
    command: str,
    options: RunOptions | None = None,
    storage_url: str | None = None,
) -> RunSummary:
    """Run a study, or resume it where it stopped, and report on the results.

    Without `storage_url`, Optuna's database is optuna.db in the store.

    Raises:
        ValueError: bad input, a storage that cannot be used, a margin that cannot be resolved.
        Busy: another driver runs this study.
    """
    from .search.ask_and_tell import open_search
    from .search.optuna_storage import StorageLost

    options = options or RunOptions()
    study = renamed(validated(study, Study), options.name)
    check_address(options.address)
    check_metrics(options.metrics)
    before = check_name(study, store)
    summary = RunSummary(store.suite(study.name))
    ledger = Ledger(study, store, command)
    ledger.known = len(before.get("candidates", []))
    if before.get("recommendation"):  # valid until another replaces it
        ledger.finalists, ledger.recommendation = before["finalists"], before["recommendation"]
    begun, start = time.time(), time.perf_counter()
    with open_search(study, storage_url, store) as search:
        course = StudyStages(study, search, ledger)
        jobs = StudyJobs(
            course.stages(), store, options, course.ahead, lambda: study_progress(ledger)
        )
        try:
            launch_and_summarise(jobs, store, options, summary, command)
        except Halted as halted:
            summary.unfinished = [str(halted)]
        except StorageLost as lost:
            summary.unfinished = [f"{lost}. What was done is kept: tune again once it answers"]
        if ledger.has_less():
            return summary
        summary.seconds_report = conclude(ledger, begun, summary)
    summary.seconds = time.perf_counter() - start
    return summary


def check_name(study: Study, store: Store) -> dict[str, Any]:
    """The content of this study's study.json. Refuses to overwrite a suite or another study.

    Raises:
        ValueError: one line.
    """
    known = store.suite(study.name)
    for name in (study.name, confirmation_name(study.name)):
        kind = store.kind_of(name)
        if kind == "suite" and not known.has_study() and not _is_of_study(store, name):
            raise ValueError(f"{store.address} holds a suite {name}: give the study another name")
    if store.kind_of(study.name) != "study":
        return {}
    try:
        content = known.study()
    except ValueError:  # damaged: it is rewritten from Optuna's storage and the trials
        return {}
    try:
        stored = {**content["study"], "plugins": ()}  # whose code is loaded for the one at hand
        there = Study.model_validate_json(json.dumps(stored)).identity()
    except (ValueError, KeyError):
        there = ""
    if there != study.identity() and content.get("candidates"):
        raise ValueError(
            f"{store.address} holds another study {study.name}: give this one another name or store"
        )
    return content


def _is_of_study(store: Store, name: str) -> bool:
    """Whether a plan was written by a `harness tune` whose study.json is lost."""
    if store.kind_of(name.rpartition(".")[0]) == "study":  # the confirmation of that one
        return False
    try:
        plan = store.suite(name).plan()
    except ValueError:
        return False
    return str(plan.get("command", "")).split()[1:2] == ["tune"]


def conclude(ledger: Ledger, begun: float, summary: RunSummary) -> float:
    """Write tables, mirror and report of the ended trials; returns the seconds it took."""
    start = time.perf_counter()
    study, store = ledger.study, ledger.store
    arms: dict[str, Any] = {"full": FullSpec()}
    arms |= {c.label: c.arm for c in ledger.candidates.values() if c.state == "complete"}
    searched = suite_of(study, study.name, arms, study.seeds)
    plan = Plan(searched, store)
    publish_run(plan, ledger.command, begun, summary, plan.rows)
    mirror_stopped(ledger)
    if ledger.finalists and set(ledger.finalists) <= set(ledger.candidates):
        fresh = Plan(confirmation(study, ledger.finalists, ledger.arms()), store)
        summary.published = False
        publish_run(fresh, ledger.command, begun, summary, fresh.rows)
        if summary.published:
            ledger.earlier = None
        if ledger.state == "done":
            ledger.recommendation = recommendation(ledger)
    ledger.write()
    report_study(study.name, store)
    summary.published = True
    return time.perf_counter() - start


def mirror_stopped(ledger: Ledger) -> None:
    """Mirror the trials of stopped and failed candidates, apart from the results."""
    study, store = ledger.study, ledger.store
    others = [c for c in ledger.candidates.values() if c.state in ("stopped", "failed")]
    if not others:
        return
    name = f"{study.name}.stopped"
    arms = {f"{c.label} {c.state}": c.arm for c in others}
    plan = Plan(suite_of(study, name, arms, study.seeds), store)
    record = {**plan.record(), "command": ledger.command}
    store.suite(name).write_plan(record)
    if publish(store, name, record, command=None).interrupted:
        raise KeyboardInterrupt


def recommendation(ledger: Ledger) -> dict[str, Any]:
    """The recommendation, from the fresh seeds alone."""
    from harness.report.study.answer import recommend

    study = ledger.study
    fresh = ledger.store.suite(confirmation_name(study.name))
    trials = fresh.table("trials").to_pandas()
    labels = list(competing(study, ledger.finalists, ledger.arms()))
    return recommend(trials, study.goal, study.margin, labels, study.minimise_state_dim)
