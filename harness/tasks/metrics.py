"""The metrics: name, direction, how each is shown, and how batches add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Metric = Literal[
    "accuracy",
    "bits_per_byte",
    "bits_per_character",
    "bits_per_token",
    "mean_squared_error",
    "root_mean_squared_error",
]


@dataclass(frozen=True)
class Measure:
    """One metric.

    adds: what a batch contributes to a sum over the split: its `hits`, the `bits` (-log2 p of the
    right token), or the `squares` of its errors; `value` makes the metric of the whole sum.
    label, unit, factor, decimals: how a value, times `factor`, is shown in tables and figures.
    """

    label: str
    adds: Literal["hits", "bits", "squares"]
    higher_is_better: bool = False
    root: bool = False
    unit: str = ""
    factor: float = 1.0
    decimals: int = 3

    def value(self, total: float, count: int) -> float:
        """A split's metric, from the sum over the split and the number of its targets."""
        mean = total / count
        return math.sqrt(mean) if self.root and mean >= 0.0 else mean


METRICS: dict[str, Measure] = {
    "accuracy": Measure("accuracy", "hits", True, unit="%", factor=100.0, decimals=1),
    "bits_per_byte": Measure("bits per byte", "bits"),
    "bits_per_character": Measure("bits per character", "bits"),
    "bits_per_token": Measure("bits per token", "bits"),
    "mean_squared_error": Measure("mean squared error", "squares"),
    "root_mean_squared_error": Measure("root mean squared error", "squares", root=True),
}


def measure(metric: str) -> Measure:
    """The metric of this name. Raises ValueError for an unknown name."""
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    return METRICS[metric]
