"""The table of `harness bench truncation`, from the result of `truncation_bench.measure`."""

from __future__ import annotations

from typing import Any

from .bench_machine import machine_lines
from .text_table import middle, paragraph, span, table

HEADER = (
    "blocks",
    "H",
    "L",
    "N",
    "rank",
    "spectra",
    "both",
    "range",
    "step",
    "in steps",
    "range",
    "batch",
    "steady",
    "1st",
    "range",
    "2nd",
)


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text: one row per rank, then what the columns mean."""
    rows = [cells(found, row) for found in result["setups"] for row in found["rows"]]
    return [
        *machine_lines(result["machine"]),
        "",
        *table(HEADER, rows, left=0),
        "",
        *legend(result),
    ]


def cells(found: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """One rank."""
    setup = found["setup"]
    estimated = "~" if found["step_measured_at_batch"] != 50 else ""
    return [
        *(str(setup[name]) for name in ("blocks", "width", "length", "state_dim")),
        str(row["rank"]),
        middle(found["spectra_seconds"], 1e3),
        middle(row["seconds"], 1e3),
        span(row["seconds"], 1e3),
        estimated + middle(found["step_seconds"], 1e3),
        estimated + middle(row["steps"]),
        span(row["steps"]),
        str(found["steady_batch"]),
        middle(row["steady_step_seconds"], 1e3),
        middle(row["first_over_steady"]),
        span(row["first_over_steady"]),
        middle(row["second_over_steady"]),
    ]


def legend(result: dict[str, Any]) -> list[str]:
    """What the columns mean, and which steps were measured at another batch."""
    said = paragraph(
        f"Medians and ranges of {result['rounds']} interleaved rounds, in milliseconds. spectra: "
        "Hankel singular values and mode shares of all blocks; both: the same and the truncation "
        "to the rank, optimizer moments carried. step: a training step of the full model at batch "
        f"{result['batch']}; in steps: both over step, paired by round. steady: a step "
        "at the new size and this batch; 1st and 2nd: the steps right after a truncation over a "
        "steady one of the same round."
    )
    for found in result["setups"]:
        batch, setup = found["step_measured_at_batch"], found["setup"]
        if batch != result["batch"]:
            said += paragraph(
                f"~ {setup['blocks']} blocks, H {setup['width']}, L {setup['length']}: estimated, "
                f"{result['batch']}/{batch} times the step measured at batch {batch}, since batch "
                f"{result['batch']} might not fit into the memory that was free."
            )
    return said
