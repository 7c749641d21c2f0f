"""A study's candidates as a table, from its study.json and the trials' records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.records.states import Damaged
from harness.records.store import Store

if TYPE_CHECKING:
    import pandas as pd

RECORDED = (
    "trial_id", "status", "metric", "higher_is_better", "val_metric", "flops_spent",
    "seconds_spent", "state_dim_mean",
)  # fmt: skip
COLUMNS = (
    "number", "origin", "state", "why", "start", "end", "count", "tau", "options", "label", "seed",
    *RECORDED, "val_full", "train_flops", "flops_full", "seconds",
)  # fmt: skip


def candidates_frame(content: Mapping[str, Any], store: Store) -> pd.DataFrame:
    """One row per candidate and seed that has ended. `content` is the content of study.json.

    `train_flops` and `seconds` cover the whole trial, compression included. `val_full` and
    `flops_full` come from the full-size trial of the same seed.
    """
    import pandas as pd

    return pd.DataFrame(list(_rows(content, store)), columns=list(COLUMNS))


def _rows(content: Mapping[str, Any], store: Store) -> Iterator[dict[str, Any]]:
    full = {seed: _record(store, trial_id) for seed, trial_id in content["full"].items()}
    for candidate in content["candidates"]:
        setting = dict(candidate["setting"])
        options = json.dumps(setting.pop("options"), sort_keys=True)
        names = {name: candidate[name] for name in ("number", "origin", "state", "why", "label")}
        for seed, trial_id in candidate["trials"].items():
            record = _record(store, trial_id)
            if record is None:
                continue
            reference = full[seed] or {}
            yield {
                **names,
                **setting,
                "options": options,
                "seed": int(seed),
                **{name: record[name] for name in RECORDED},
                "val_full": reference.get("val_metric"),
                "train_flops": record["flops_method"],
                "flops_full": reference.get("flops_method"),
                "seconds": record["seconds_method"],
            }


def damaged_of(content: Mapping[str, Any], store: Store) -> list[str]:
    """One line for each trial of the study with a damaged result. The table omits them."""
    trials = [*content["full"].values()]
    trials += [trial_id for c in content["candidates"] for trial_id in c["trials"].values()]
    found = []
    for trial_id in dict.fromkeys(trials):
        try:
            store.trial(trial_id).result()
        except Damaged as error:
            found.append(str(error))
    return found


def _record(store: Store, trial_id: str) -> dict[str, Any] | None:
    try:
        result = store.trial(trial_id).result()
    except Damaged:  # `damaged_of` reports it
        return None
    return None if result is None else result["record"]
