"""Settings and machines of a comparison, read back from the flattened specs of its trials."""

import pandas as pd

from harness.report import presentation as show

PREFIX = "spec."
# The seed and the arm stand elsewhere on the page; the version says nothing to a reader.
LEFT_OUT = ("spec.seed", "spec.arm.", "spec.spec_version", "spec.task.name")
MACHINE = ("device", "threads", "backend", "torch_version", "git_commit")


def base_settings(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per field of the spec, with its value in each task's full-size trials.

    A task without a full-size row shows what all its trials say; several values are all listed.
    """
    fields = [
        column
        for column in trials.columns
        if column.startswith(PREFIX) and not column.startswith(LEFT_OUT)
    ]
    tasks = {}
    for task, rows in trials.groupby("task", sort=False):
        full = rows[rows.role == "full"]
        tasks[str(task)] = rows if full.empty else full
    lines = [
        {
            "setting": field.removeprefix(PREFIX),
            **{task: _values(rows[field]) for task, rows in tasks.items()},
        }
        for field in fields
    ]
    return [line for line in lines if set(list(line.values())[1:]) != {show.DASH}]


def arm_settings(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per row label: its role and the fields of its arm, over all tasks."""
    fields = [column for column in trials.columns if column.startswith("spec.arm.")]
    lines = []
    for label, rows in trials.groupby("label", sort=False):
        values = {field.removeprefix("spec.arm."): _values(rows[field]) for field in fields}
        said = [f"{name} {text}" for name, text in values.items() if text != show.DASH]
        role = show.arm_name(str(rows.role.iloc[0]))
        lines.append({"row": str(label), "way": role, "trained as": ", ".join(said) or show.DASH})
    return lines


def machines(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per machine and version that trials ran on, with how many did."""
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


def _values(column: pd.Series) -> str:
    """The distinct values, comma separated; whole numbers without their point."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in column.dropna()]
    return ", ".join(dict.fromkeys(texts)) or show.DASH
