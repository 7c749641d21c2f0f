"""Pathfinder's images drawn from layouts of paddles and markers, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.tasks.pathfinder.contour_rules import Layouts, Rules
from harness.tools.compiling import compiled

DRAWING_VERSION = 1  # part of the cache's name: raise it when images change
SAMPLES = 4  # per pixel and axis: a pixel's value is the share of its samples that are covered


def draw(rules: Rules, made: Layouts, images: np.ndarray) -> None:
    """Write the images of n layouts: (n, resolution^2) uint8, 0 the ground and 255 white, row by
    row. Lets go of the interpreter's lock."""
    _draw(rules, made.paddles, made.counts, made.markers, images)


# (This calls nothing compiled in another file: numba would not see that file change.)
@compiled
def _draw(rules: Any, paddles: Any, counts: Any, markers: Any, images: Any) -> None:
    side = rules.resolution
    for k in range(len(counts)):
        image = np.zeros((side, side))
        for row in range(counts[k]):
            _cover(image, paddles[k, row], 0.5 * rules.thickness, rules.contrast)
        for marker in markers[k]:
            spot = np.array([marker[0], marker[1], marker[0], marker[1]])
            _cover(image, spot, rules.marker_radius, 1.0)
        for i in range(side):
            for j in range(side):
                images[k, i * side + j] = np.uint8(255.0 * image[i, j] + 0.5)


@compiled
def _cover(image: Any, line: Any, radius: float, contrast: float) -> None:
    """Brighten (by the maximum) what lies within `radius` of `line` (tail y, x, head y, x)."""
    y, x = line[0], line[1]
    dy, dx = line[2] - y, line[3] - x
    square = dy * dy + dx * dx
    top, bottom = int(min(y, y + dy) - radius), int(max(y, y + dy) + radius)
    left, right = int(min(x, x + dx) - radius), int(max(x, x + dx) + radius)
    for i in range(max(top, 0), min(bottom + 1, image.shape[0])):
        for j in range(max(left, 0), min(right + 1, image.shape[1])):
            covered = 0
            for a in range(SAMPLES):
                for b in range(SAMPLES):
                    py, px = i + (a + 0.5) / SAMPLES - y, j + (b + 0.5) / SAMPLES - x
                    along = 0.0
                    if square > 0.0:
                        along = min(max((py * dy + px * dx) / square, 0.0), 1.0)
                    away = (py - along * dy) ** 2 + (px - along * dx) ** 2
                    covered += away <= radius * radius
            value = min(contrast * covered / SAMPLES**2, 1.0)
            image[i, j] = max(image[i, j], value)
