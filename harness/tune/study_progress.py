"""A study's progress, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.launch.progress import duration

from .ledger import Ledger


def study_progress(ledger: Ledger) -> str:
    """Candidates by state, the best so far, the budget spent, and what forks saved."""
    counts = Counter(c.state for c in ledger.candidates.values())
    spent, budget = ledger.spent(), ledger.study.budget
    of = f" of {budget.candidates}" if budget.candidates else ""
    said = [f"{ledger.state}: {counts['complete']} candidates done{of}"]
    said += [f"{counts[name]} {name}" for name in ("running", "stopped", "failed") if counts[name]]
    said.append(best(ledger))
    of = f" of {budget.flops:.2g}" if budget.flops else ""
    said.append(f"{spent['flops']:.2g}{of} FLOPs spent")
    if budget.gpu_hours:
        said.append(f"{duration(3600 * spent['gpu_hours'])} of {budget.gpu_hours:g} device hours")
    if spent["flops"] < spent["flops_alone"]:
        said.append(f"forks saved {1 - spent['flops'] / spent['flops_alone']:.0%}")
    return "; ".join(part for part in said if part)


def best(ledger: Ledger) -> str:
    """The cheapest candidate within the margin, or the Pareto front; empty if none is complete."""
    complete = [c for c in ledger.candidates.values() if c.state == "complete"]
    scores = {c.label: ledger.score(c) for c in complete}
    if not scores:
        return ""
    if ledger.study.goal == "pareto":
        signs = [
            1 if direction == "minimize" else -1 for direction in ledger.study.objectives.values()
        ]
        points = {
            label: [sign * value for sign, value in zip(signs, values, strict=True)]
            for label, (values, _) in scores.items()
        }
        front = [label for label in points if not _dominated(points[label], list(points.values()))]
        return f"a front of {len(front)}: {', '.join(front)}"
    within = {label: cost[0] for label, (cost, over) in scores.items() if (over or 0.0) <= 0.0}
    if not within:
        return "none within the margin yet"
    label = min(within, key=lambda name: within[name])
    full = [ledger.record(ledger.full(seed)) for seed in ledger.study.seeds]
    flops = sum(r["flops_method"] for r in full if r is not None) / len(full)
    return f"{label} is the best within the margin, {within[label] / flops:.2f}x of full's FLOPs"


def _dominated(point: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether another point is no worse in every objective (all minimised) and better in one."""
    return any(
        other != point and all(a <= b for a, b in zip(other, point, strict=True))
        for other in others
    )
