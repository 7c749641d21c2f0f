"""Sentences that sum up a study, derived from its records, and the notes under its tables."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.report import presentation as show
from harness.report.study.window import setting
from harness.report.style import described

Row = Mapping[str, Any]
FINER = 1  # extra decimals for a bound, which is compared with the margin


def says(
    record: Mapping[str, Any], summary: pd.DataFrame, trials: pd.DataFrame | None
) -> list[str]:
    """The answer and how sure it is, then the paper's claim, then the cost of the search."""
    found = record["recommendation"]
    if found is None:
        answer = [_not_yet(record)]
    elif found["goal"] == "constrained":
        answer = _constrained(found, trials)
    else:
        answer = _front(found, trials)
    windows = [_window(test, found) for test in (found or {}).get("window", [])]
    return [*answer, *windows, _search(record, summary), *_spent(record)]


def notes(record: Mapping[str, Any]) -> list[str]:
    """Notes on the answer's table."""
    found = record["recommendation"]
    lines = [
        "The search is scored by validation alone, where its best candidates look better than they "
        "are. So the finalists were run again on seeds that the search never saw, and the answer "
        "rests on these alone.",
        "Differences are to full size, paired by seed; positive means better, whatever the "
        "metric's direction. ± is half the width of a 95 % interval (Student t) over seeds. It "
        "covers initial weights and batch order, not the sampling of the validation or test set.",
        "FLOPs are total training FLOPs, relative to full size.",
    ]
    if found and len(found["rows"]) > 1:
        count = len(found["rows"])
        lines.append(
            f'"Surely above" is each row\'s one-sided 95 % bound. With {count} rows, the chance '
            f"that at least one bound is too high is up to {min(100, 5 * count)} %; the bounds "
            '"for all together" keep it at 5 % (Bonferroni).'
        )
    if found and any(row["bound"] is None for row in found["rows"]):
        lines.append(
            "A row has no bound and is not confirmed if a seed diverged or failed (its own or that "
            "of full size), if fewer than two seeds ended, or if all differ by exactly the same "
            "amount."
        )
    return lines


def answer_table(record: Mapping[str, Any], trials: pd.DataFrame | None) -> list[dict[str, str]]:
    """One line of text per competing row on the confirmation seeds; empty without an answer."""
    found = record["recommendation"]
    if found is None:
        return []
    metric = found["metric"]
    constrained = found["goal"] == "constrained"
    mark = "within the margin" if constrained else "on the front"
    return [
        {
            "row": row["label"],
            "setting": _setting(trials, row["label"]) or show.DASH,
            "seeds": f"{row['seeds']} ({row['diverged']} div.)"
            if row["diverged"]
            else str(row["seeds"]),
            "validation vs full": _plus_minus(row, "difference", "high", metric, signed=True),
            "surely above": _signed(row["bound"], metric, FINER),
            "for all together": _signed(row["bound_adjusted"], metric, FINER),
            mark: _verdict(row, found),
            "FLOPs": show.DASH if row["cost"] is None else show.factor(row["cost"]),
            "states": show.DASH if row["states"] is None else f"{row['states']:.1f}",
            "test": _plus_minus(row, "test", "test_high", metric, signed=False),
        }
        for row in found["rows"]
    ]


def _verdict(row: Row, found: Mapping[str, Any]) -> str:
    if row["label"] == found["recommended"]:
        return "yes: recommended"
    if row["label"] in found["confirmed"]:
        return "yes"
    if row["bound"] is None:
        return show.DASH
    beyond = found["goal"] == "pareto" or row["high"] < -found["margin"]
    return "no" if beyond else "not sure"


def _not_yet(record: Mapping[str, Any]) -> str:
    doing = {
        "searching": "The search is still running",
        "confirming": "The finalists are being run on fresh seeds",
    }.get(record["state"], "There is no confirmation on fresh seeds")
    named = ", ".join(f"c{number}" for number in record["finalists"])
    leading = f" Finalists so far: {named}." if named else ""
    return f"{doing}, so nothing is recommended yet.{leading}"


def _constrained(found: Mapping[str, Any], trials: pd.DataFrame | None) -> list[str]:
    rows = {row["label"]: row for row in found["rows"]}
    limit = _exactly(found["margin"], found["metric"])
    if found["recommended"] is None:
        return [_none_confirmed(found, limit)]
    best = rows[found["recommended"]]
    words = _setting(trials, best["label"])
    first = (
        f"Recommended: {best['label']}{f' ({words})' if words else ''}. {_on_fresh(best, found)} "
        f"By the one-sided 95 % bound it loses at most {_lost(best['bound'], found)}, within the "
        f"margin of {limit}."
    )
    count, passed = len(rows), found["confirmed"]
    how = f"It is the cheapest of the {len(passed)} (of {count}) that are surely within the margin"
    if len(passed) == 1:
        how = f"It is the only one of {count} that is surely within the margin"
    both = best["bound_adjusted"] is not None and best["bound_adjusted"] >= -found["margin"]
    adjusted = "It stays so" if both else "It no longer is"
    return [
        first,
        f"{how}{'' if len(passed) == 1 else ': ' + ', '.join(passed)}. {adjusted} when the bound "
        f"allows for {count} rows being tested.",
    ]


def _none_confirmed(found: Mapping[str, Any], limit: str) -> str:
    rows = [row for row in found["rows"] if row["bound"] is not None]
    lead = (
        f"Nothing is recommended: none of {len(found['rows'])} rows is surely within {limit} of "
        f"full size on the fresh seeds."
    )
    if not rows:
        return f"{lead} No row has a bound."
    nearest = max(rows, key=lambda row: row["bound"])
    text = (
        f"{lead} Nearest is {nearest['label']}. {_on_fresh(nearest, found)} Its one-sided 95 % "
        f"bound is a loss of {_lost(nearest['bound'], found)}."
    )
    if nearest["seeds_needed"]:
        text += (
            f" If mean and spread stayed the same, {nearest['seeds_needed']} seeds would "
            f"decide; there are {nearest['seeds']}."
        )
    return text


def _front(found: Mapping[str, Any], trials: pd.DataFrame | None) -> list[str]:
    rows = {row["label"]: row for row in found["rows"]}
    if not found["confirmed"]:
        return ["No row on the front is confirmed: none has an interval on the fresh seeds."]
    lines = [
        f"On the fresh seeds {len(found['confirmed'])} of {len(rows)} rows are on the front of "
        "means, cheapest first:"
    ]
    for label in found["confirmed"]:
        words = _setting(trials, label)
        lines.append(f"{label}{f' ({words})' if words else ''}. {_on_fresh(rows[label], found)}")
    return lines


def _on_fresh(row: Row, found: Mapping[str, Any]) -> str:
    """The row's numbers on fresh seeds, in a sentence."""
    metric = found["metric"]
    size = show.with_unit(abs(row["difference"]), metric, points=True)
    side = "better" if row["difference"] > 0 else "worse"
    text = f"On {row['seeds']} fresh seeds it is {size} {side} than full size on validation"
    if row["low"] is not None:
        text += f" (95 % interval {_signed(row['low'], metric)} to {_signed(row['high'], metric)})"
    text += f", at {row['cost']:.2f} times its training FLOPs"
    text += f", with {row['states']:.1f} states per block"
    if row["test"] is not None:
        test = show.with_unit(row["test"], metric)
        half = (
            ""
            if row["test_high"] is None
            else f" ± {show.value(row['test_high'] - row['test'], metric)}"
        )
        text += f"; test: {test}{half}"
    return f"{text}."


def _lost(bound: float, found: Mapping[str, Any]) -> str:
    shown = show.shown_metric(found["metric"])
    unit = "points" if shown.unit == "%" else shown.name
    return f"{show.plain(max(0.0, -bound) * shown.factor, shown.decimals + FINER)} {unit}"


def _window(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """One test of the claim that the window hardly matters."""
    if test["difference"] is None:
        return f"The window: no seed ended in both {test['other']} and {test['paper']}."
    metric = found["metric"]
    size = show.with_unit(abs(test["difference"]), metric, points=True)
    side = "better" if test["difference"] > 0 else "worse"
    names = [f"{test[end]} ({described(test[f'{end}_setting'])})" for end in ("other", "paper")]
    names = [name.replace(" ()", "") for name in names]
    text = f"The window: on test, {names[0]} is {size} {side} than {names[1]}"
    if test["low"] is not None:
        low, high = _signed(test["low"], metric), _signed(test["high"], metric)
        text += f" (95 % interval {low} to {high}, {test['seeds']} seeds)"
    text += (
        f", with {test['other_states']:.1f} against {test['paper_states']:.1f} states per block "
        f"and {test['cost_ratio']:.2f} times its training FLOPs. "
    )
    return text + _claim(test, found)


def _claim(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What the test says about the claim, and whether it isolates the window."""
    if test["low"] is None:
        return (
            "Without an interval this says nothing about the claim that the window hardly matters."
        )
    limit = _exactly(found["margin"] or 0.0, found["metric"])
    verdict = {
        "matters": "the interval excludes 0",
        "hardly": f"any difference is below the margin of {limit}",
        "undecided": "the interval includes both 0 and differences beyond the margin",
    }[test["verdict"]]
    if test["differs"]:
        also = " and ".join(test["differs"])
        return (
            f"So {verdict}; but they also differ in {also}, so this does not test the window alone."
        )
    claim = {
        "matters": "it does matter here, contrary to the paper's claim",
        "hardly": "it hardly matters here, as the paper claims",
        "undecided": "these seeds neither confirm nor refute the claim that it hardly matters",
    }[test["verdict"]]
    return f"They differ only in the window, and {verdict}: {claim}."


def _search(record: Mapping[str, Any], summary: pd.DataFrame) -> str:
    """How many candidates there were and how they ended."""
    if summary.empty:
        return "No candidate has run yet."
    words = {
        "complete": "ran on all search seeds",
        "stopped": "were stopped after their first seeds",
        "failed": "failed",
        "running": "are running",
    }
    counts = summary.state.value_counts()
    parts = [f"{counts[state]} {text}" for state, text in words.items() if counts.get(state)]
    seeds = len(record["study"]["seeds"])
    return f"The search tried {len(summary)} settings on up to {seeds} seeds: {', '.join(parts)}."


def _spent(record: Mapping[str, Any]) -> list[str]:
    spent = record["spent"]
    if not spent.get("flops_alone"):
        return []
    share = spent["flops"] / spent["flops_alone"]
    return [
        f"It spent {show.flops(spent['flops'])} training FLOPs, {share:.2f} times what the same "
        f"trials would have taken without forks ({show.flops(spent['flops_alone'])})."
    ]


def _setting(trials: pd.DataFrame | None, label: str) -> str:
    if trials is None or not (trials.label == label).any():
        return ""
    return described(setting(trials, label))


def _signed(number: float | None, metric: str, finer: int = 0) -> str:
    if number is None:
        return show.DASH
    shown = show.shown_metric(metric)
    return show.plain(number * shown.factor, shown.decimals + finer, signed=True)


def _exactly(number: float, metric: str) -> str:
    """A user's number, such as the margin, as given, with its unit."""
    shown = show.shown_metric(metric)
    unit = "points of accuracy" if shown.unit == "%" else shown.name
    return f"{number * shown.factor:.6g} {unit}"


def _plus_minus(row: Row, mean: str, high: str, metric: str, signed: bool) -> str:
    if row[mean] is None:
        return show.DASH
    shown = show.shown_metric(metric)
    text = show.plain(row[mean] * shown.factor, shown.decimals, signed)
    if row[high] is None:
        return text
    return f"{text} ± {show.plain((row[high] - row[mean]) * shown.factor, shown.decimals)}"
