"""The table of `harness bench step`, from the result of `step_bench.measure`."""

from __future__ import annotations

from typing import Any

from .bench_machine import machine_lines
from .text_table import middle, number, paragraph, percent, span, table

HEADER = (
    "N",
    "backend",
    "ms",
    "range",
    "x assoc.",
    "range",
    "GFLOP/s",
    "of GEMM",
    "peak MiB",
    "ideal",
    "measured",
    "range",
)


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text: one table per shape, what was left out, and what the columns mean."""
    said = machine_lines(result["machine"])
    for found in result["shapes"]:
        said += ["", *shape_lines(found)]
    if result["left_out"]:
        said += ["", "Left out:"]
        said += left_out_lines(result["left_out"])
    return [*said, "", *legend(result)]


def shape_lines(found: dict[str, Any]) -> list[str]:
    """Title, ceilings, table and bytes of one shape."""
    shape = found["shape"]
    gemm, copy = found["gemm_flops_per_second"], found["copy_bytes_per_second"]
    title = f"{shape['title']}: H {shape['width']}, L {shape['length']}, batch {shape['batch']}"
    title += f"; GEMM {middle(gemm, 1e-9)} GFLOP/s ({span(gemm, 1e-9)})"
    title += f"; copy {middle(copy, 1e-9)} GB/s ({span(copy, 1e-9)})"
    rows = []
    for n in shape["state_dims"]:
        rows += [cells(row) for row in found["rows"] if row["state_dim"] == n]
        rows += [official_cells(row) for row in found["official"] if row["state_dim"] == n]
    return [title, *table(HEADER, rows, left=2), *bytes_lines(found["rows"])]


def cells(row: dict[str, Any]) -> list[str]:
    """One backend at one size."""
    mark = "*" if row["auto"] == row["backend"] else ""
    faster, peak = row["faster_than_associative"], row["peak_bytes"]
    return [
        str(row["state_dim"]),
        row["backend"] + mark + (" graph" if row.get("graph") else ""),
        middle(row["seconds"], 1e3),
        span(row["seconds"], 1e3),
        middle(faster),
        span(faster),
        middle(row["flops_per_second"], 1e-9),
        percent(row["share_of_gemm"]),
        number(None if peak is None else peak / 2**20),
        number(row["ideal_speedup"]),
        middle(row["measured_speedup"]),
        span(row["measured_speedup"]),
    ]


def official_cells(row: dict[str, Any]) -> list[str]:
    """The official code at one size, measured elsewhere, so it enters no ratio of ours."""
    ideal, measured = number(row["ideal_speedup"]), number(row["measured_speedup"])
    ms = number(row["seconds"] * 1e3)
    return [str(row["state_dim"]), "official +", ms, *["-"] * 6, ideal, measured, "-"]


def bytes_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Achieved bytes per second of the published algorithm."""
    said = [
        f"N {row['state_dim']}: {number(row['bytes'] / 1e9)} GB at "
        f"{middle(row['bytes_per_second'], 1e-9)} GB/s ({span(row['bytes_per_second'], 1e-9)}), "
        f"{percent(row['share_of_copy'])} of copy"
        for row in rows
        if row.get("bytes")
    ]
    return paragraph("associative, bytes its scan must move: " + "; ".join(said)) if said else []


def left_out_lines(left_out: list[dict[str, str]]) -> list[str]:
    """Backends that were not measured, where, and why."""
    where: dict[tuple[str, str], list[str]] = {}
    for entry in left_out:
        where.setdefault((entry["backend"], entry["reason"]), []).append(entry["shape"])
    return [
        line
        for (backend, reason), shapes in where.items()
        for line in paragraph(f"{backend} at {', '.join(shapes)}: {reason}", "  ")
    ]


def legend(result: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    return [
        *paragraph(
            f"Medians and ranges of {result['rounds']} interleaved rounds; ratios are paired by "
            "round. ms: forward, loss, backward and AdamW. graph: forward, loss and backward as "
            "one CUDA graph. x assoc.: times faster than `associative` at the same N, launched the "
            "same way. GFLOP/s: analytic FLOPs of the recurrence form over time, the same for "
            "every backend; a method that needs fewer may pass 100 % of GEMM. "
            "ideal: FLOPs at the full N over FLOPs at this N; measured: time over time, of the "
            "same backend. How much smaller models gain is a property of the backend. peak MiB: "
            "of a process of its own, beyond its imports."
        ),
        "* what `auto` takes here.",
        *paragraph(f"+ {result['official']}."),
    ]
