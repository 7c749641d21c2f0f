"""From records back to a study's tables, figures and page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.records.sealed import read_sealed
from harness.records.store import Store
from harness.report.rebuild import rebuild, trials_of

from .frames import candidates_frame, damaged_of
from .rounds import confirmation_name


def rebuild_study(name: str, store: Store) -> tuple[Path, list[str]]:
    """Rebuild the suites that a study's trials stand in, and its report.

    Returns the page's path, and a line for each trial whose record is damaged and left out.

    Raises:
        ValueError: no record of it in this store.
    """
    damaged = damaged_of(_content(name, store), store)
    for suite in (name, confirmation_name(name)):
        if (store.suite(suite) / "plan.json").is_file():
            damaged += [line for line in rebuild(suite, store)[1] if line not in damaged]
    return report_study(name, store), damaged


def trials_of_study(name: str, store: Store) -> list[str]:
    """Ids of the trials of a study, those of its confirmation too, each once.

    Raises:
        ValueError: no record of it in this store.
    """
    content = _content(name, store)
    trials = [*content["full"].values()]
    trials += [trial_id for c in content["candidates"] for trial_id in c["trials"].values()]
    if (store.suite(confirmation_name(name)) / "plan.json").is_file():
        trials += trials_of(confirmation_name(name), store)
    return list(dict.fromkeys(trials))


def report_study(name: str, store: Store) -> Path:
    """Write a study's page, figures and answer from its tables; the page's path.

    Raises:
        ValueError: no record of it in this store.
    """
    from harness.records.schemas import read_table
    from harness.report.comparison.compare import compare
    from harness.report.study.study_page import write_study

    content = _content(name, store)
    folder, fresh = store.suite(name), store.suite(confirmation_name(name))
    tables: list[Any] = []
    if content["finalists"] and (fresh / "trials.parquet").is_file():
        names = ("trials", "curves", "truncations")
        frames = [read_table(fresh / f"{table}.parquet", table).to_pandas() for table in names]
        tables = [compare(frames[0]), *frames]
    write_study(folder, content, candidates_frame(content, store), *tables)
    return folder / "index.html"


def newest_comparison(name: str, store: Store) -> str:
    """The suite that holds a study's answer: the confirmation, or before it the search."""
    fresh = confirmation_name(name)
    return fresh if (store.suite(fresh) / "trials.parquet").is_file() else name


def _content(name: str, store: Store) -> dict[str, Any]:
    path = store.suite(name) / "study.json"
    if not path.exists():
        raise ValueError(f"no record of study {name} in {store.root}: harness tune makes it")
    return read_study(path)


def read_study(path: Path) -> dict[str, Any]:
    """The content of a study.json. Raises ValueError, saying what to do, if it is damaged."""
    keys = ("study", "state", "full", "candidates", "finalists", "recommendation")
    again = "harness tune writes it anew, and keeps what has ended"
    return read_sealed(path, keys, again, optional=("command", "spent"))
