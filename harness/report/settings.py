"""Settings and machines of a comparison, read from the flattened specs of its trials."""

import pandas as pd

from harness.report import presentation as show

PREFIX = "spec."
# The page shows seed and arm elsewhere; the version means nothing to a reader.
LEFT_OUT = ("spec.seed", "spec.arm.", "spec.spec_version", "spec.task.name")
MACHINE = ("device", "threads", "backend", "torch_version", "git_commit")


def base_settings(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per field of the spec, with its value in each comparison's full-size trials.

    A comparison without a full-size row shows the values of all its trials. Several values are
    listed.
    """
    fields = [
        column
        for column in trials.columns
        if column.startswith(PREFIX) and not column.startswith(LEFT_OUT)
    ]
    places = {}
    for place, rows in trials.groupby(_places(trials), sort=False):
        full = rows[show.are_baseline(rows.role, "full")]
        places[str(place)] = rows if full.empty else full
    lines = [
        {
            "setting": field.removeprefix(PREFIX),
            **{place: _values(rows[field]) for place, rows in places.items()},
        }
        for field in fields
    ]
    return [line for line in lines if set(list(line.values())[1:]) != {show.DASH}]


def arm_settings(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per row of each comparison: its arm and the fields of the arm's spec."""
    fields = [column for column in trials.columns if column.startswith("spec.arm.")]
    lines = []
    for (place, label), rows in trials.groupby([_places(trials), "label"], sort=False):
        values = {field.removeprefix("spec.arm."): _values(rows[field]) for field in fields}
        said = [f"{name} {text}" for name, text in values.items() if text != show.DASH]
        lines.append(
            {
                "task": str(place),
                "row": str(label),
                "arm": show.arm_name(str(rows.role.iloc[0])),
                "settings": ", ".join(said) or show.DASH,
            }
        )
    return lines


def machines(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per machine and versions, with the number of trials that ran there."""
    unique = trials.drop_duplicates("trial_id")
    columns = [column for column in MACHINE if column in trials.columns]
    return [
        {
            **{
                column.replace("_", " "): show.DASH if pd.isna(value) else str(value)
                for column, value in zip(columns, values, strict=True)
            },
            "trials": str(len(rows)),
        }
        for values, rows in unique.groupby(columns, sort=False, dropna=False)
    ]


def _places(trials: pd.DataFrame) -> pd.Series:
    """The section of each trial: its task, plus its comparison if that has another name."""
    keys = trials.get("comparison", pd.Series(None, trials.index, dtype=object))
    named = [show.place(*pair) for pair in zip(trials.task, keys, strict=True)]
    return pd.Series(named, trials.index, name="place")


def _values(column: pd.Series) -> str:
    """The distinct values, separated by commas; whole numbers without a decimal point."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in column.dropna()]
    return ", ".join(dict.fromkeys(texts)) or show.DASH
