"""A study's report: its figures, its answer as Markdown, its candidates, and the page last."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from harness.records.schemas import flatten
from harness.records.suite_records import ANSWER, PAGE, SuiteRecords
from harness.report import presentation as show
from harness.report.page import details, document, figure, scroll, section, table
from harness.report.sentences import notes as comparison_notes
from harness.report.settings import machines
from harness.report.study.answer import summarise
from harness.report.study.importance import Importance, importance
from harness.report.study.study_figures import draw
from harness.report.study.study_sentences import answer_table, notes, says
from harness.report.style import described, percent
from harness.report.tables import COLUMNS, COSTS, escape_markdown, html_list, html_table
from harness.tools.redact import redacted

CAPTIONS = {
    "pareto": "Every candidate that the search finished or stopped: validation metric against "
    "total training FLOPs. A candidate is drawn at the mean of full size plus its difference to "
    "it, paired over the seeds that it ran (only its first seeds if it was stopped). Diamonds are "
    "the confirmation on seeds that the search never saw; a dotted line joins each to its point in "
    "the search. A drop along it is the winner's curse.",
    "map": "Start of the window and tau of every candidate, coloured by its difference to full "
    "size and by its cost. A marker's size is the window's length; rings mark the finalists. "
    "Values beyond a colour bar's arrow have its last colour.",
    "importance": "Share of the variance of a random forest's predictions that each knob explains "
    "alone (fANOVA), and that of their interactions. Bars are from the complete candidates, "
    "whiskers the 5th to 95th percentile over bootstraps of them. The search samples good regions "
    "more densely, so the forest is most accurate there.",
    "over_time": "The finalists, the paper's setting and full size on the fresh seeds: the mean, "
    "and a band from the lowest to the highest seed.",
}
DASHBOARD = "pip install optuna-dashboard\noptuna-dashboard sqlite:///STORE/optuna.db"


def write_study(
    records: SuiteRecords,
    record: Mapping[str, Any],
    candidates: pd.DataFrame,
    confirmation: pd.DataFrame | None = None,
    confirm_trials: pd.DataFrame | None = None,
    confirm_curves: pd.DataFrame | None = None,
    confirm_truncations: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write figures/*, answer.md, candidates.csv and index.html of a study; return its summary.

    `record` is the content of study.json; `candidates` has one row per candidate and seed. The
    tables of the confirmation (comparison, trials, curves, truncations) are None before it begins.
    Each file is written atomically, the page last.
    """
    summary = summarise(candidates)
    shares = importance(summary, bool(record["study"]["space"]["tau"].get("log")))
    figures = draw(record, summary, shares, confirm_trials, confirm_curves, confirm_truncations)
    page = _page(record, summary, shares, confirmation, confirm_trials, figures)
    for name, content in figures.items():
        records.write(f"figures/{name}", content)
    records.write("candidates.csv", candidates.to_csv(index=False).encode())
    records.write(ANSWER, _markdown(record, summary, confirm_trials).encode())
    records.write(PAGE, page.encode())
    return summary


def _page(
    record: Mapping[str, Any],
    summary: pd.DataFrame,
    shares: Importance,
    confirmation: pd.DataFrame | None,
    trials: pd.DataFrame | None,
    figures: Mapping[str, bytes],
) -> str:
    study = record["study"]
    pictures = {
        name: figure(caption, figures[f"{name}.svg"])
        for name, caption in CAPTIONS.items()
        if f"{name}.svg" in figures
    }
    if shares.table is None:
        pictures["importance"] = f"<p>{html.escape(_capital(shares.reason or ''))}.</p>"
    everyone = details("candidates", _candidates(summary)) or "<p>None has run yet.</p>"
    sections = [
        section("The answer", html_list(says(record, summary, trials), "says")),
        section("On fresh seeds", *_confirmed(record, confirmation, trials)),
        section("Metric against cost", pictures["pareto"]),
        section("Start and tau", pictures["map"]),
        section("Which knob matters", pictures["importance"]),
        section("Over time", pictures.get("over_time", "<p>Available after the confirmation.</p>")),
        section("Every candidate", everyone),
        section("The study", table(_settings(study))),
        section("Machine and versions", table(machines(trials) if trials is not None else [])),
        section("Reproduce", f"<pre>{html.escape(redacted(record['command']))}</pre>"),
        section(
            "Optuna's dashboard",
            "<p>It reads the study's storage; STORE is the folder of the store.</p>",
            f"<pre>{html.escape(DASHBOARD)}</pre>",
        ),
    ]
    return document(f"{study['name']}: when to truncate", _lead(record), sections)


def _lead(record: Mapping[str, Any]) -> str:
    study = record["study"]
    if study["goal"] == "constrained":
        goal = "Goal: the least training FLOPs within the margin of full size"
    else:
        goal = "Goal: the front of validation metric and training FLOPs"
        goal += ", and state dimension" if study["minimise_state_dim"] else ""
    seeds, fresh = (", ".join(map(str, study[key])) for key in ("seeds", "confirm_seeds"))
    parts = [study["description"], f"{goal}. Search seeds: {seeds}; fresh seeds: {fresh}."]
    return " ".join(part for part in parts if part)


def _confirmed(
    record: Mapping[str, Any], confirmation: pd.DataFrame | None, trials: pd.DataFrame | None
) -> Iterable[str]:
    lines = answer_table(record, trials)
    if lines:
        yield table(lines)
    yield html_list(notes(record), "notes")
    if confirmation is not None:
        yield scroll(html_table(confirmation, COLUMNS))
        yield html_list(comparison_notes(confirmation), "notes")
        yield scroll(html_table(confirmation, COSTS))
    elif not lines:
        yield "<p>Nothing has been confirmed yet.</p>"


def _candidates(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Every candidate by number, with its state."""
    return [
        {
            "candidate": f"c{row.number}",
            "from": row.origin,
            "state": row.state if row.state != "stopped" else "stopped: not a result",
            "start": percent(row.start),
            "end": percent(row.end),
            "count": str(row["count"]),
            "tau": f"{row.tau:g}",
            "options": _options(row.options),
            "seeds": str(row.seeds),
            "validation": show.value(row.val_mean, row.metric),
            "vs full": _difference(row),
            "FLOPs": show.factor(row.cost),
            "states": show.plain(row.state_dim_mean, 1),
            "why": row.why if isinstance(row.why, str) else show.DASH,
        }
        for _, row in summary.iterrows()
    ]


def _options(text: str) -> str:
    found = json.loads(text)
    return ", ".join(f"{name} {value}" for name, value in found.items()) or show.DASH


def _difference(row: pd.Series) -> str:
    shown = show.shown_metric(row.metric)
    text = show.plain(row.difference * shown.factor, shown.decimals, signed=True)
    half = show.plain((row.difference_high - row.difference) * shown.factor, shown.decimals)
    return text if half == show.DASH else f"{text} ± {half}"


def _settings(study: Mapping[str, Any]) -> list[dict[str, str]]:
    """One line per field of the study; the enqueued settings are described in words."""
    flat = flatten({key: value for key, value in study.items() if key != "enqueue"})
    lines = [
        {"setting": name, "value": show.DASH if value is None else str(value)}
        for name, value in flat.items()
        if name not in ("name", "description")
    ]
    first = "; ".join(described(one) for one in study.get("enqueue", []))
    return [*lines, {"setting": "enqueue", "value": first or show.DASH}]


def _markdown(record: Mapping[str, Any], summary: pd.DataFrame, trials: pd.DataFrame | None) -> str:
    lines = [f"**{escape_markdown(record['study']['name'])}**", ""]
    lines += [f"- {escape_markdown(sentence)}" for sentence in says(record, summary, trials)]
    rows = answer_table(record, trials)
    if rows:
        lines += ["", "| " + " | ".join(rows[0]) + " |"]
        lines.append("|" + "|".join("---" if n in ("row", "setting") else "---:" for n in rows[0]))
        lines[-1] += "|"
        lines += ["| " + " | ".join(map(escape_markdown, row.values())) + " |" for row in rows]
        lines += ["", *(f"- {escape_markdown(sentence)}" for sentence in notes(record))]
    return "\n".join(lines) + "\n"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
