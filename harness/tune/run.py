"""Run a study: search, confirm, recommend, report."""

from __future__ import annotations

import json
import time
from typing import Any

from harness.launch.address import check_address
from harness.launch.run_suite import Account, Wishes, launch_and_account, publish_run
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.report.publish import publish
from harness.suite import FullSpec
from harness.suite.explain import renamed, validated
from harness.suite.load import find

from .jobs import StudyJobs
from .ledger import Ledger
from .rebuild import report_study
from .rounds import Halted, Rounds, competing, confirmation, confirmation_name, suite_of
from .spec import Study
from .standing import standing


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
    wishes: Wishes | None = None,
    storage_url: str | None = None,
) -> Account:
    """Go through a study from where it stands, and report on what there is at the end.

    `storage_url` None is optuna.db in the store.

    Raises:
        ValueError: bad input, a storage that cannot be used, a margin that cannot be resolved.
        Busy: another driver runs this study.
    """
    from .search import open_search

    wishes = wishes or Wishes()
    study = renamed(validated(study, Study), wishes.name)
    check_address(wishes.address)
    before = check_name(study, store)
    account = Account(store.suite(study.name))
    ledger = Ledger(study, store, command)
    ledger.known = len(before.get("candidates", []))
    if before.get("recommendation"):  # it stands until another takes its place
        ledger.finalists, ledger.recommendation = before["finalists"], before["recommendation"]
    begun, start = time.time(), time.perf_counter()
    with open_search(study, storage_url, store) as search:
        rounds = Rounds(study, search, ledger)
        jobs = StudyJobs(rounds.stages(), store, wishes, rounds.ahead, lambda: standing(ledger))
        try:
            launch_and_account(jobs, store, wishes, account)
        except Halted as halted:
            account.unfinished = [str(halted)]
        if ledger.has_less():
            return account
        account.seconds_report = conclude(ledger, begun, account)
    account.seconds = time.perf_counter() - start
    return account


def check_name(study: Study, store: Store) -> dict[str, Any]:
    """What this study's study.json holds; refuses to write over a suite or another study.

    Raises:
        ValueError: one line.
    """
    known = store.suite(study.name)
    for name in (study.name, confirmation_name(study.name)):
        kind = store.kind_of(name)
        if kind == "suite" and not known.has_study() and not _is_of_study(store, name):
            raise ValueError(f"{store.root} holds a suite {name}: give the study another name")
    if store.kind_of(study.name) != "study":
        return {}
    try:
        content = known.study()
    except ValueError:  # damaged, and written anew from Optuna's storage and the trials
        return {}
    try:
        stored = {**content["study"], "plugins": ()}  # whose code is loaded for the one at hand
        there = Study.model_validate_json(json.dumps(stored)).identity()
    except (ValueError, KeyError):
        there = ""
    if there != study.identity() and content.get("candidates"):
        raise ValueError(
            f"{store.root} holds another study {study.name}: give this one another name or store"
        )
    return content


def _is_of_study(store: Store, name: str) -> bool:
    """Whether a plan was written by `harness tune`, whose study.json is lost."""
    if store.kind_of(name.rpartition(".")[0]) == "study":  # the confirmation of that one
        return False
    try:
        plan = store.suite(name).plan()
    except ValueError:
        return False
    return str(plan.get("command", "")).split()[1:2] == ["tune"]


def conclude(ledger: Ledger, begun: float, account: Account) -> float:
    """Tables, mirror and report of what has ended; returns the seconds."""
    start = time.perf_counter()
    study, store = ledger.study, ledger.store
    arms: dict[str, Any] = {"full": FullSpec()}
    arms |= {c.label: c.arm for c in ledger.candidates.values() if c.state == "complete"}
    searched = suite_of(study, study.name, arms, study.seeds)
    plan = Plan(searched, store)
    publish_run(plan, ledger.command, begun, account, plan.rows)
    mirror_stopped(ledger)
    if ledger.finalists and set(ledger.finalists) <= set(ledger.candidates):
        fresh = Plan(confirmation(study, ledger.finalists, ledger.arms()), store)
        account.published = False
        publish_run(fresh, ledger.command, begun, account, fresh.rows)
        if account.published:
            ledger.earlier = None
        if ledger.state == "done":
            ledger.recommendation = recommendation(ledger)
    ledger.write()
    report_study(study.name, store)
    account.published = True
    return time.perf_counter() - start


def mirror_stopped(ledger: Ledger) -> None:
    """Bring the trials of stopped and failed candidates into the mirror, apart from results."""
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
    """From the fresh seeds alone."""
    from harness.report.study.answer import recommend

    study = ledger.study
    fresh = ledger.store.suite(confirmation_name(study.name))
    trials = fresh.table("trials").to_pandas()
    labels = list(competing(study, ledger.finalists, ledger.arms()))
    return recommend(trials, study.goal, study.margin, labels, study.minimise_state_dim)
