"""Numbers and tables as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

WIDEST = 120  # characters


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns aligned, the first `left` to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *rows)
    ]


def paragraph(text: str, indent: str = "") -> list[str]:
    """Lines of at most `WIDEST` characters."""
    return textwrap.wrap(
        text, WIDEST, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )


def number(value: float | None) -> str:
    """Three significant digits, without an exponent; a dash for None."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"


def middle(spread: dict[str, Any] | None, factor: float = 1.0) -> str:
    """A spread's median."""
    return "-" if spread is None else number(spread["median"] * factor)


def span(spread: dict[str, Any] | None, factor: float = 1.0) -> str:
    """A spread's range, `low..high`."""
    if spread is None:
        return "-"
    return f"{number(spread['low'] * factor)}..{number(spread['high'] * factor)}"


def percent(spread: dict[str, Any]) -> str:
    """A spread's median as a percentage."""
    value = 100 * spread["median"]
    return f"{value:.0f} %" if value >= 1 else f"{value:.1g} %"
