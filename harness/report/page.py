"""The page: one self-contained HTML file with verdicts, tables, figures, settings and trials.

It fetches nothing: styles are inline and figures are data URIs. Text from records is escaped.
"""

import base64
import html
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import pandas as pd

from harness.records.sizes import block_sizes
from harness.report import presentation as show
from harness.report.ranks import rank_figure
from harness.report.sentences import cost_notes, result_notes, says
from harness.report.settings import arm_settings, base_settings, machines
from harness.report.tables import COLUMNS, COSTS, html_list, html_table

CAPTIONS = {
    "rows.svg": "Test metric of every row with its 95 % interval over seeds, in the order of the "
    "table. The dashed line is full size. FLOPs are total training FLOPs, relative to full size.",
    "state_dim.svg": "Test metric against the state dimension reached, with 95 % intervals over "
    "seeds. The dashed line is full size. Rows of equal size are drawn side by side. Lines join "
    "rows that differ in size alone.",
    "cost.svg": "Test metric against total training FLOPs, relative to full size. Further left is "
    "cheaper.",
}
RANK_FILE = f"{rank_figure.NAME}.svg"


def write_page(
    suite_name: str,
    command: str,
    comparison: pd.DataFrame,
    trials: pd.DataFrame,
    truncations: pd.DataFrame,
    plan: Mapping[str, Any],
    figures: Mapping[str, bytes],
    claims: str = "",
) -> str:
    """The HTML of the page.

    `figures` maps file names to content; the page shows the svg files named in `CAPTIONS` and, if
    there is one, that of rank stability. `claims` holds the claims that this suite
    decides, as escaped HTML; `command` reproduces the comparison.
    """
    title = f"{suite_name}: small models compared"
    ranked = RANK_FILE in figures
    every = details("trials, each listed once per row that uses it", _trials(trials))
    events = details("truncation events", _truncations(trials, truncations))
    sections = [
        section("Summary", html_list(says(comparison), "says")),
        section(
            "The comparison",
            scroll(html_table(comparison, COLUMNS)),
            html_list(result_notes(comparison), "notes"),
        ),
        section(
            "Costs",
            scroll(html_table(comparison, COSTS)),
            html_list(cost_notes(comparison), "notes"),
        ),
        *([section("Published claims", claims)] if claims else []),
        section("Figures", *(figure(CAPTIONS[n], figures[n]) for n in CAPTIONS if n in figures)),
        *(
            [section("Rank stability", figure(rank_figure.CAPTION, figures[RANK_FILE]))]
            if ranked
            else []
        ),
        section("Settings", table(base_settings(trials))),
        section("Rows", table(arm_settings(trials))),
        section("Machine and versions", table(machines(trials))),
        section("Every trial", every, events),
        section("Reproduce", f"<pre>{html.escape(command)}</pre>"),
    ]
    return document(title, _lead(comparison, trials, plan), sections)


def document(title: str, lead: str, sections: Iterable[str]) -> str:
    """A whole page: its title, a line under it, and its sections (escaped HTML)."""
    style = resources.files("harness.report").joinpath("page.css").read_text("utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="lead">{html.escape(lead)}</p>
{"".join(sections)}</body>
</html>
"""


def _lead(comparison: pd.DataFrame, trials: pd.DataFrame, plan: Mapping[str, Any]) -> str:
    """What was compared, how many trials it took, and how many are missing."""
    unique = trials.drop_duplicates("trial_id")
    arms = ", ".join(show.arm_name(arm) for arm in dict.fromkeys(comparison.arm))
    seeds = ", ".join(str(seed) for seed in sorted(set(trials.seed)))
    parts = [
        f"Tasks: {', '.join(dict.fromkeys(comparison.task))}.",
        f"Arms: {arms}.",
        f"Seeds: {seeds}.",
        f"Trials: {len(unique)} ended",
    ]
    for status in ("diverged", "failed", "damaged"):
        count = int((unique.status == status).sum())
        if count:
            parts[-1] += f", {count} of them {status}"
    planned = {entry["trial_id"] for entry in plan.get("trials", [])}
    open_trials = len(planned - set(unique.trial_id))
    if open_trials:
        parts[-1] += f"; {open_trials} more planned"
    return " ".join(parts) + "."


def section(title: str, *parts: str) -> str:
    """A heading and the content under it (escaped HTML)."""
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n"


def figure(caption: str, content: bytes) -> str:
    """An inline svg with its caption."""
    caption = html.escape(caption)
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><div class="scroll figure"><img alt="{caption}" '
        f'src="data:image/svg+xml;base64,{data}"></div><figcaption>{caption}</figcaption></figure>'
    )


def scroll(content: str) -> str:
    """A box in which wide content scrolls."""
    return f'<div class="scroll">{content}</div>'


def details(what: str, rows: list[dict[str, str]]) -> str:
    """A collapsed table, titled with its number of rows and `what` they are; empty without rows."""
    if not rows:
        return ""
    summary = f"{len(rows)} {what}"
    return f"<details><summary>{html.escape(summary)}</summary>{table(rows)}</details>"


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows of text as a table with the columns of the first row."""
    rows = list(rows)
    if not rows:
        return "<p>None recorded.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row.values()) + "</tr>"
        for row in rows
    )
    return scroll(
        f'<table class="plain"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    )


def _trials(trials: pd.DataFrame) -> list[dict[str, str]]:
    """One line per row and trial, with the trial's own numbers."""
    return [
        {
            "task": str(trial.task),
            "row": str(trial.label),
            "seed": str(trial.seed),
            "status": str(trial.status),
            "test": show.value(trial.test_metric, str(trial.metric)),
            "validation": show.value(trial.val_metric, str(trial.metric)),
            "states by block": _dims(trial.state_dims, getattr(trial, "orders", None)),
            "step": show.count(trial.selected_step),
            "train FLOPs": show.flops(trial.train_flops),
            "seconds": show.seconds(trial.seconds_total),
            "timed alone": "yes" if trial.exclusive is True or trial.exclusive == 1 else "no",
            "device": str(trial.device),
            "commit": str(trial.git_commit)[:10],
            "trial": str(trial.trial_id),
        }
        for trial in trials.itertuples()
    ]


def _truncations(trials: pd.DataFrame, truncations: pd.DataFrame) -> list[dict[str, str]]:
    """Every truncation of a block, by trial and step."""
    once = trials.drop_duplicates("trial_id")[["trial_id", "task", "label", "seed", "metric"]]
    known = {trial.trial_id: trial for trial in once.itertuples()}
    found = []
    for event in truncations.sort_values(["trial_id", "step", "block"]).itertuples():
        trial = known.get(event.trial_id)
        if trial is None:
            continue
        found.append(
            {
                "task": str(trial.task),
                "row": str(trial.label),
                "seed": str(trial.seed),
                "step": show.count(event.step),
                "block": str(event.block),
                "states": f"{event.dim_before} → {event.dim_after}" + _mean_order(event),
                "energy kept": show.plain(event.energy_kept * 100, 1) + " %",
                "validation before": show.value(event.val_before, str(trial.metric)),
                "after": show.value(event.val_after, str(trial.metric)),
            }
        )
    return found


def _dims(dims: Any, orders: Any) -> str:
    """The size of every block, with the mean over its systems in brackets if it is a stack."""
    if dims is None:
        return show.DASH
    sizes = zip(dims, block_sizes(dims, orders), strict=True)
    return ", ".join(_size(int(n), mean) for n, mean in sizes)


def _mean_order(event: Any) -> str:
    orders = getattr(event, "orders_after", None)
    if orders is None or isinstance(orders, float):
        return ""
    return _size(event.dim_after, sum(orders) / len(orders)).removeprefix(str(event.dim_after))


def _size(largest: int, mean: float) -> str:
    return str(largest) if mean == largest else f"{largest} (mean {mean:.1f})"
