"""Mean and standard deviation of a set of sequences, from those of each sequence, so that another
split can be drawn without reading the data again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def moments(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, sum of squared deviations from it), (n, channels) float64 each, of the first `lengths`
    (n,) steps of `values` (n, length, channels), which are zero from there on."""
    numbers = values.astype(np.float64)
    mean = numbers.sum(1) / lengths[:, None]
    steps = np.arange(values.shape[1]) < lengths[:, None]
    deviations = np.where(steps[..., None], numbers - mean[:, None], 0.0)
    return mean, np.square(deviations).sum(1)


@dataclass(frozen=True)
class Scale:
    """(x - mean) / deviation of each channel, or x where there are none; as float32.

    A channel that never changes has deviation 1: it becomes zero.
    """

    mean: np.ndarray | None
    deviation: np.ndarray | None

    @classmethod
    def of(cls, means: np.ndarray, spreads: np.ndarray, lengths: np.ndarray) -> Scale:
        """The scale of the steps of all sequences together, from `moments` of each.

        With n_i steps, mean m_i and spread s_i: m = sum n_i m_i / n, and the variance is
        sum (s_i + n_i (m_i - m)^2) / n.
        """
        weights = lengths[:, None].astype(np.float64)
        total = weights.sum()
        mean = (weights * means).sum(0) / total
        variance = (spreads + weights * np.square(means - mean)).sum(0) / total
        deviation = np.sqrt(variance)
        # A deviation that is only rounding of a constant counts as zero.
        flat = deviation <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
        return cls(mean, np.where(flat, 1.0, deviation))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.mean is None or self.deviation is None:
            return values.astype(np.float32)
        # In the precision of the file: a small change on a large mean is lost in single precision.
        precise = values.astype(np.result_type(values.dtype, np.float32), copy=False)
        scaled = (precise - self.mean.astype(precise.dtype)) / self.deviation.astype(precise.dtype)
        return scaled.astype(np.float32, copy=False)

    def told(self) -> dict[str, Any] | None:
        """Mean and deviation as lists, ready for JSON."""
        if self.mean is None or self.deviation is None:
            return None
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}
