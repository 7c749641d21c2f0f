"""The comparison as a table: text, md, csv, tex, html or json.

Text, md, tex and html show the main columns in readable units; csv and json hold every column in
its stored unit.
"""

import html
import json
from collections.abc import Callable

import pandas as pd

from harness.report import presentation as show
from harness.report.comparison.compare import SCHEMA
from harness.report.sentences import notes, result_notes, says
from harness.tools.inputs import shown

WIDTH = 120  # columns of a terminal, the widest a text table gets

# Heading and cell of each shown column. The text table drops the columns of `TEXT_DROPS`, one after
# the other, until it fits.
Cell = Callable[[pd.Series], str]
COLUMNS: dict[str, Cell] = {
    "row": show.label,
    "states": show.state_dim,
    "seeds": show.seeds,
    "test": show.value_with_interval,
    "top 3": lambda row: show.value(row.metric_top3, row.metric),
    "vs full": lambda row: show.difference(row, "full"),
    "vs small": lambda row: show.difference(row, "small"),
    "verdict": lambda row: row.verdict,
    "FLOPs": lambda row: show.factor(row.relative_flops),
    "time": show.time,
}
MORE_COLUMNS: dict[str, Cell] = {
    "time range": show.time_range,
    "seconds": lambda row: show.seconds(row.seconds_median),
    "train FLOPs": lambda row: show.flops(row.train_flops_mean),
    "process MB": lambda row: show.megabytes(row.peak_memory_bytes),
    "step ms": lambda row: show.seconds(row.step_latency_seconds * 1e3),
    "state B": lambda row: show.whole(row.state_bytes),
}
COSTS: dict[str, Cell] = {name: COLUMNS[name] for name in ("row", "states")} | MORE_COLUMNS
TEXT_DROPS = ("time", "top 3", "seeds")
LEFT = ("row", "verdict")  # columns of words; numbers are aligned right


def render(comparison: pd.DataFrame, format: str = "text") -> str:
    """The comparison in one of `FORMATS`, ending in a newline.

    Raises ValueError, with the allowed formats, for any other.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {shown(format)}: use one of {', '.join(FORMATS)}")
    return FORMATS[format](comparison).rstrip("\n") + "\n"


def html_table(comparison: pd.DataFrame, columns: dict[str, Cell] | None = None) -> str:
    """The table alone, as an escaped HTML fragment.

    It has all shown columns, or those of `columns` (`COLUMNS` or `COSTS`: each fits a page).
    """
    columns = _filled(comparison, {**COLUMNS, **MORE_COLUMNS} if columns is None else columns)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = []
    sections = _sections(comparison) if "test" in columns else show.sections(comparison)
    for heading, rows in sections:
        body.append(
            f'<tr class="task"><th colspan="{len(columns)}">'
            f"<span>{html.escape(heading)}</span></th></tr>"
        )
        for _, row in rows.iterrows():
            cells = "".join(f"<td>{html.escape(cell(row))}</td>" for cell in columns.values())
            body.append(f'<tr class="{html.escape(row.arm)}">{cells}</tr>')
    return (
        f'<table class="comparison"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table>"
    )


def _text(comparison: pd.DataFrame) -> str:
    columns = _filled(comparison, COLUMNS)
    dropped = [name for name in COLUMNS if name not in columns]
    for name in ("", *TEXT_DROPS):
        if columns.pop(name, None):
            dropped.append(name)
        widths = _widths(comparison, columns)
        spare = WIDTH - sum(widths.values()) - 2 * len(widths)
        if spare >= 0:
            break
    else:
        widths["row"] = max(12, widths["row"] + spare)
    lines = []
    for heading, rows in _sections(comparison):
        lines += [heading, _line({name: name for name in columns}, widths)]
        for _, row in rows.iterrows():
            lines.append(_line({name: cell(row) for name, cell in columns.items()}, widths))
        lines.append("")
    if dropped:
        lines += [f"Not shown: {', '.join(dropped)}; csv and json hold every column.", ""]
    lines += [*_wrapped(says(comparison)), "", *_wrapped(result_notes(comparison))]
    return "\n".join(lines)


def _line(cells: dict[str, str], widths: dict[str, int]) -> str:
    parts = []
    for name, width in widths.items():
        cell = cells[name] if len(cells[name]) <= width else cells[name][: width - 1] + "…"
        parts.append(cell.ljust(width) if name in LEFT else cell.rjust(width))
    return "  " + "  ".join(parts).rstrip()


def _widths(comparison: pd.DataFrame, columns: dict[str, Cell]) -> dict[str, int]:
    rows = [row for _, row in comparison.iterrows()]
    return {
        name: max([len(name), *(len(cell(row)) for row in rows)]) for name, cell in columns.items()
    }


def _wrapped(sentences: list[str]) -> list[str]:
    import textwrap

    lines = []
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence, WIDTH - 2, initial_indent="- ", subsequent_indent="  ", break_long_words=False
        )
    return lines


def _markdown(comparison: pd.DataFrame) -> str:
    columns = _filled(comparison, {**COLUMNS, **MORE_COLUMNS})
    lines = []
    for heading, rows in _sections(comparison):
        lines += [f"**{escape_markdown(heading)}**", ""]
        lines.append("| " + " | ".join(columns) + " |")
        rules = ["---" if name in LEFT else "---:" for name in columns]
        lines.append("|" + "|".join(rules) + "|")
        for _, row in rows.iterrows():
            cells = [escape_markdown(cell(row)) for cell in columns.values()]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    for sentences in (says(comparison), notes(comparison)):
        lines += [f"- {escape_markdown(sentence)}" for sentence in sentences] + [""]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    for character in "\\|*_<>`[]&~":
        text = text.replace(character, "\\" + character)
    return text


def _csv(comparison: pd.DataFrame) -> str:
    flat = comparison[SCHEMA.names].copy()
    flat["seed_list"] = [" ".join(map(str, seeds)) for seeds in comparison.seed_list]
    return flat.to_csv(index=False)


def _json(comparison: pd.DataFrame) -> str:
    rows = [
        {name: _json_value(row[name]) for name in SCHEMA.names} for _, row in comparison.iterrows()
    ]
    document = {"version": 1, "rows": rows, "says": says(comparison), "notes": notes(comparison)}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _json_value(value: object) -> object:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return None if pd.isna(value) else value  # type: ignore[call-overload]


def _tex(comparison: pd.DataFrame) -> str:
    columns = _filled(comparison, {**COLUMNS, **MORE_COLUMNS})
    kinds = "".join("l" if name in LEFT else "r" for name in columns)
    lines = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{kinds}}}", "\\toprule"]
    lines.append(" & ".join(map(_escape_tex, columns)) + r" \\")
    for heading, rows in _sections(comparison):
        title = rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{_escape_tex(heading)}}}}} \\"
        lines += ["\\midrule", title]
        for _, row in rows.iterrows():
            lines.append(" & ".join(_escape_tex(cell(row)) for cell in columns.values()) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    for sentences in (says(comparison), notes(comparison)):
        lines += [f"% {sentence}" for sentence in sentences]
    return "\n".join(lines)


def _escape_tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
        "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "†": r"$\dagger$", "−": "$-$", "×": r"$\times$", "–": "--", "—": "---",
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)


def _html(comparison: pd.DataFrame) -> str:
    parts = [html_table(comparison)]
    for name, sentences in (("says", says(comparison)), ("notes", notes(comparison))):
        parts.append(html_list(sentences, name))
    return "\n".join(parts)


def html_list(sentences: list[str], name: str) -> str:
    """Sentences as an escaped HTML list of class `name`."""
    items = "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{name}">\n{items}\n</ul>'


def _sections(comparison: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each section, with its heading."""
    return [(show.heading(name, rows.iloc[0]), rows) for name, rows in show.sections(comparison)]


def _filled(comparison: pd.DataFrame, columns: dict[str, Cell]) -> dict[str, Cell]:
    """The columns that are not empty in every row."""
    rows = [row for _, row in comparison.iterrows()]
    return {
        name: cell for name, cell in columns.items() if any(cell(row) != show.DASH for row in rows)
    }


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "text": _text,
    "md": _markdown,
    "csv": _csv,
    "tex": _tex,
    "html": _html,
    "json": _json,
}
