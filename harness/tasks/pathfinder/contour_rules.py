"""The parameters of Pathfinder's images, and what a layout of contours is.

Parameters are those of the Long Range Arena's data builders (lra_benchmarks/data/pathfinder.py);
they state them for contours of 14 paddles. For 6 and 9 the distractors are a third as long as the
contour, and as many as there is room for in the same number of paddles, by the same formula.
All paddles of an image have one contrast, where the authors' script at 32 pixels would draw
distractors a third brighter than targets. Lines are drawn by the share of each pixel that they
cover, not by a Lanczos filter. What else differs from that script is told in `contours`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CONTOUR_LENGTHS = {"easy": 6, "intermediate": 9, "hard": 14}
_BUDGETS = {32: 20, 64: 22, 128: 35}  # paddles of all distractors together, at most


class Rules(NamedTuple):
    """What decides an image besides the seed. A margin is drawn per image, of low..high."""

    resolution: int
    contour_length: int
    distractor_length: int
    distractors: int
    paddle_length: float
    thickness: float
    margin_low: int
    margin_high: int
    continuity: float
    seed_distance: float
    marker_radius: float
    contrast: float
    slack: float  # by which margins may overlap


class Layouts(NamedTuple):
    """n images before they are drawn.

    paddles: (n, most, 4) float64, tail y, x and head y, x; chains: (n, most) int64, 0 and 1 the
    targets, then the distractors, each chain's paddles in their order; counts: (n,) int64, the
    paddles that there are; markers: (n, 2, 2) float64; labels, margins: (n,) int64.
    """

    paddles: np.ndarray
    chains: np.ndarray
    counts: np.ndarray
    markers: np.ndarray
    labels: np.ndarray
    margins: np.ndarray


def rules(resolution: int, difficulty: str) -> Rules:
    """The parameters of a kind of image; lengths in pixels."""
    contour = CONTOUR_LENGTHS[difficulty]
    common = (resolution, contour, contour // 3, _BUDGETS[resolution] // (contour // 3))
    if resolution == 32:
        # Contrast: 2 for contours times 0.75 for paddles.
        return Rules(*common, 2.0, 0.5, 1, 1, 1.0, 7.0, 1.5, 1.5, 0.0)
    if resolution == 64:
        # Slack: long contours find hardly any room without; the original's masks overlap, too,
        # where their edges are grey.
        return Rules(*common, 5.0, 1.0, 1, 1, 1.8, 12.0, 2.5, 0.8, 0.5)
    return Rules(*common, 5.0, 1.5, 2, 3, 1.8, 20.0, 3.0, 0.9, 0.0)
