"""A launch's status as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.tools.inputs import cut

from ..progress.snapshot import duration
from .note import LaunchNote, RunningTrial
from .status import SILENT, LaunchStatus

MOST_ROWS, MOST_FAILURES = 40, 10
_COLUMNS = ("trial", "seed", "node", "step", "rate", "for", "left")


def status_lines(status: LaunchStatus) -> list[str]:
    """The whole state of a launch."""
    note = status.note
    lines = [
        f"{note.suite}: {_how(status)}",
        f"  {_counts(note)}",
        f"  {_spent(note)}; launch {note.launch} at {note.address}: {note.command}",
    ]
    lines += [f"  {said}" for said in (note.progress, note.reason) if said and status.is_alive]
    lines += [f"  {said}" for said in note.quarantined]
    if status.is_alive:
        lines += [f"  {line}" for line in _table(note.running)]
    elif note.running:
        lines.append(f"  {len(note.running)} trials ran at the last note: {_places(note.running)}")
    return lines + [f"  {line}" for line in _failed(note)]


def drained_lines(drained: Mapping[str, float], now: float) -> list[list[str]]:
    """A paragraph on drained nodes, if there are any; since when, and now, are in seconds since the
    epoch."""
    if not drained:
        return []
    listed = [f"{one} (for {duration(max(now - since, 0.0))})" for one, since in drained.items()]
    more = f" and {len(listed) - MOST_ROWS} more" if len(listed) > MOST_ROWS else ""
    return [[f"nodes drained by a mark in the store: {', '.join(listed[:MOST_ROWS])}{more}"]]


def _how(status: LaunchStatus) -> str:
    note, ago = status.note, duration(status.age)
    where = f"process {note.process} on {note.host}"
    took = duration(max(note.written - note.begun, 0.0))
    if status.state == "running":
        silence = note.written - note.as_of
        hangs = f"; its loop has been silent for {duration(silence)}" if silence > SILENT else ""
        return f"running for {took}, {where}; last note {ago} ago{hangs}"
    said = {
        "silent": f"no note for {ago}: {where} was killed or is cut off from the store",
        "done": f"done, {ago} ago, after {took}",
        "interrupted": f"interrupted {ago} ago, after {took}",
        "lost": f"ended {ago} ago, after {took}: the head of its Ray cluster was lost",
        "failed": f"ended by an error {ago} ago, after {took}: {note.message}",
    }
    return said[status.state]


def _counts(note: LaunchNote) -> str:
    counts = Counter(note.counts)
    done = note.before + counts["completed"] + counts["diverged"]
    parts = [f"{done} done" + (f" ({note.before} before this launch)" if note.before else "")]
    now = Counter(trial.state for trial in note.running)
    parts += [f"{now[name]} {name}" for name in ("running", "starting", "pending") if now[name]]
    parts.append(f"{note.waiting} waiting")
    if note.elsewhere:
        parts.append(f"{note.elsewhere} run by another launch")
    parts += [
        f"{counts[name]} {name}" for name in ("diverged", "failed", "faulted") if counts[name]
    ]
    if note.elsewhere_ended:
        parts.append(f"{note.elsewhere_ended} of them by another launch")
    if note.retries:
        parts.append("1 retry" if note.retries == 1 else f"{note.retries} retries")
    left = f"; about {duration(note.left)} left" if note.left is not None else ""
    return ", ".join(parts) + left


def _spent(note: LaunchNote) -> str:
    hours, unit = (note.gpu_hours, "GPU") if note.gpu_hours else (note.cpu_hours, "CPU")
    return f"spent {hours:.2f} {unit}-hours"


def _table(running: Sequence[RunningTrial]) -> list[str]:
    if not running:
        return []
    rows = [_COLUMNS, *map(_cells, running[:MOST_ROWS])]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    more = len(running) - MOST_ROWS
    return lines + ([f"and {more} more"] if more > 0 else [])


def _cells(trial: RunningTrial) -> tuple[str, ...]:
    known = trial.state == "running"
    again = f" (attempt {trial.attempt})" if trial.attempt > 1 else ""
    return (
        cut(trial.label, 40) + again,
        str(trial.seed),
        cut(trial.node, 24) or "-",
        f"{trial.step}/{trial.steps}" if known else trial.state,
        f"{trial.rate:.3g}/s" if trial.rate is not None else "",
        duration(trial.seconds),
        duration(trial.left) if trial.left is not None else "",
    )


def _places(running: Sequence[RunningTrial]) -> str:
    return cut(", ".join(f"{one.label}, seed {one.seed} on {one.node or '-'}" for one in running))


def _failed(note: LaunchNote) -> list[str]:
    lines = [
        f"{one.status} {one.label}, seed {one.seed}"
        + (f": {cut(one.message)}" if one.message else "")
        for one in note.failures[-MOST_FAILURES:]
    ]
    bad = note.ended - note.counts.get("completed", 0)
    return ([f"{bad} did not complete; the last {len(lines)}:"] if bad > len(lines) else []) + lines


__all__ = ["drained_lines", "status_lines"]
