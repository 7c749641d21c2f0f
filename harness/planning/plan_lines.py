"""A plan's summary as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

WORDS = {"completed": "done", "waiting": "missing, size still open"}


def plan_lines(summary: Mapping[str, Any]) -> list[str]:
    """Totals, then for each stage what its rows have and lack."""
    trials = summary["trials"]
    lacking = sum(stage["missing"] for stage in summary["stages"])
    head = f"{summary['suite']} in {summary['store']}"
    lines = [f"{head}: {_count(trials)}, {lacking} missing"]
    for stage in summary["stages"]:
        lines += _stage(stage, [t for t in trials if bool(t["needs"]) == bool(stage["stage"])])
    sharing = summary["sharing"]
    if sharing["trials"]:
        lines.append(
            f"forks: {sharing['trials']} trials fork from others, which saves at least "
            f"{sharing['saved_flops']:.2g} FLOPs and keeps at most "
            f"{sharing['kept_bytes'] / 1e6:.1f} MB of states; --no-fork turns it off"
        )
    return lines


def _count(trials: list[Mapping[str, Any]]) -> str:
    """How many trials; if rows share trials, how many in all rows and how many distinct."""
    # A trial whose size is still open is identified by row and seed.
    distinct = {t["trial_id"] or (t["row"], t["seed"]) for t in trials}
    if len(distinct) == len(trials):
        return f"{len(trials)} trials"
    return f"{len(trials)} rows of trials ({len(distinct)} distinct)"


def _stage(stage: Mapping[str, Any], trials: list[Mapping[str, Any]]) -> list[str]:
    lines = [f"stage {stage['stage']}, {stage['title']}: {_cost(stage)}"]
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        rows.setdefault(trial["row"], []).append(trial)
    width = max(map(len, rows))
    for name, members in rows.items():
        counts = Counter(WORDS.get(t["state"], t["state"]) for t in members)
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines.append(f"  {name:{width}}  {said}")
        lines += [f"    seed {t['seed']}: {t['blocked']}" for t in members if t["blocked"]]
    return lines


def _cost(stage: Mapping[str, Any]) -> str:
    if not stage["missing"]:
        return "nothing missing"
    times = [
        f"about {duration_text(seconds)} of one worker on {device}"
        for device, seconds in stage["estimated_seconds"].items()
    ]
    parts = [
        f"{stage['missing']} missing",
        f"at most {stage['estimated_flops']:.2g} FLOPs",
        " or ".join(times) or "time unknown (no finished trial of the task here to measure by)",
        f"about {stage['estimated_gpu_hours']:.3g} GPU-hours of training by the paper's timings",
        f"about {stage['estimated_bytes'] / 1e6:.1f} MB",
    ]
    return "; ".join(parts)


def duration_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
