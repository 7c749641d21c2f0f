"""pathfinder_generated: the labels say what the layouts hold, and nothing simple tells them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.tasks import build
from harness.tasks.pathfinder.contour_images import draw
from harness.tasks.pathfinder.contour_rules import CONTOUR_LENGTHS, Layouts, rules
from harness.tasks.pathfinder.contours import PADDING, layouts
from harness.tasks.pathfinder.generated import generate, stream
from harness.tasks.specs import PathfinderGeneratedSpec

SPEC = PathfinderGeneratedSpec(
    name="pathfinder_generated", difficulty="easy", train=60, validation=20, test=20
)
KINDS = [(side, difficulty) for side in (32, 64, 128) for difficulty in CONTOUR_LENGTHS]


def chain(made: Layouts, k: int, number: int) -> np.ndarray:
    """(paddles, 2, 2): tail and head, (y, x), of one chain of image k."""
    return made.paddles[k][made.chains[k] == number].reshape(-1, 2, 2)


def away_from(line: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distances of (n, 2) points from a line, from a hundred points on it."""
    on = line[0] + np.linspace(0, 1, 101)[:, None] * (line[1] - line[0])
    return np.linalg.norm(points[:, None] - on[None], axis=-1).min(axis=1)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Of two lines, each (2, 2), from a hundred points on each."""
    share = np.linspace(0, 1, 101)[:, None]
    return float(away_from(b, a[0] + share * (a[1] - a[0])).min())


@pytest.mark.parametrize(("side", "difficulty"), KINDS)
def test_markers_are_on_one_chain_of_paddles_where_the_label_says_so(side, difficulty):
    kind = rules(side, difficulty)
    made = layouts(kind, stream(0, "train"), 0, 12)
    assert set(made.labels.tolist()) == {0, 1}
    for k in range(12):
        contours = [chain(made, k, number) for number in (0, 1)]
        assert [len(c) for c in contours] == [CONTOUR_LENGTHS[difficulty]] * 2
        starts = [np.array_equal(made.markers[k, 0], c[0, 0]) for c in contours]
        ends = [np.array_equal(made.markers[k, 1], c[-1, 1]) for c in contours]
        assert sum(starts) == sum(ends) == 1
        assert (starts == ends) == bool(made.labels[k])


@pytest.mark.parametrize(("side", "difficulty"), KINDS)
def test_chains_go_on_smoothly_and_keep_apart(side, difficulty):
    """Within a chain the gap is about twice the margin, the turn below 90 degrees / continuity,
    give or take the middle of a pixel; between chains it is never less than the clearance."""
    kind = rules(side, difficulty)
    made = layouts(kind, stream(1, "test"), 0, 4)
    for k in range(4):
        count, margin = int(made.counts[k]), int(made.margins[k])
        assert kind.margin_low <= margin <= kind.margin_high
        lines = made.paddles[k, :count].reshape(-1, 2, 2)
        numbers = made.chains[k, :count]
        assert (made.chains[k, count:] == -1).all()
        np.testing.assert_allclose(
            np.linalg.norm(lines[:, 1] - lines[:, 0], axis=-1), kind.paddle_length, atol=1e-9
        )
        border = PADDING + margin + kind.thickness / 2 - kind.slack
        assert border <= lines.min() <= lines.max() <= side - border
        for a in range(count):
            for b in range(a + 1, count):
                if numbers[a] == numbers[b] and b == a + 1:
                    gap = np.linalg.norm(lines[b, 0] - lines[a, 1])
                    assert gap < 2 * margin + 0.71
                    first, second = lines[a, 1] - lines[a, 0], lines[b, 1] - lines[b, 0]
                    turn = np.arccos(np.clip(first @ second / kind.paddle_length**2, -1, 1))
                    off = np.arcsin(0.71 / (margin + kind.paddle_length))
                    assert turn < np.pi / 2 / kind.continuity + off
                else:
                    clearance = 2 * margin + kind.thickness - kind.slack
                    assert distance(lines[a], lines[b]) > clearance - 1e-9


def test_distractors_are_chains_of_their_own():
    kind = rules(32, "hard")
    made = layouts(kind, 7, 0, 50)
    found = [np.unique(made.chains[k, : made.counts[k]], return_counts=True) for k in range(50)]
    assert all((counts[2:] == 4).all() for _, counts in found)
    assert 2 < np.mean([len(numbers) - 2 for numbers, _ in found]) <= 5


def test_paddles_are_where_the_layout_says():
    """The share of light near the paddles and markers is all of it; ink is length x thickness."""
    kind = rules(128, "easy")
    made = layouts(kind, 3, 0, 3)
    images = np.zeros((3, 128 * 128), np.uint8)
    draw(kind, made, images)
    for k, image in enumerate(images.reshape(3, 128, 128)):
        lit = np.argwhere(image > 0) + 0.5
        lines = list(made.paddles[k, : made.counts[k]].reshape(-1, 2, 2))
        near = np.min([away_from(line, lit) for line in lines], axis=0)
        beside = np.linalg.norm(lit[:, None] - made.markers[k][None], axis=-1).min(axis=1)
        assert ((near < kind.thickness / 2 + 0.71) | (beside < kind.marker_radius + 0.71)).all()
        one = kind.paddle_length * kind.thickness + np.pi * kind.thickness**2 / 4
        spot = np.pi * kind.marker_radius**2
        ink = kind.contrast * one * len(lines) + 2 * spot
        assert 0.93 * ink < image.sum() / 255 < ink


def test_an_image_depends_on_nothing_but_seed_split_and_index(tmp_path):
    task = build(SPEC, tmp_path)
    larger = build(SPEC.model_copy(update={"train": 90, "validation": 7}), tmp_path)
    rows = np.arange(60)
    (x, y), (u, v) = task.examples("train", rows), larger.examples("train", rows)
    assert (x == u).all()
    assert (y == v).all()
    assert (task.examples("test", rows[:20])[0] == larger.examples("test", rows[:20])[0]).all()
    other = build(SPEC.model_copy(update={"split_seed": 1}), tmp_path)
    assert not (x == other.examples("train", rows)[0]).all(dim=1).any()
    assert task.fingerprint != other.fingerprint
    made = layouts(rules(32, "easy"), stream(0, "train"), 37, 1)
    alone = np.zeros((1, 1024), np.uint8)
    draw(rules(32, "easy"), made, alone)
    np.testing.assert_array_equal(x[37, :, 0], alone[0] / np.float32(255))
    assert int(y[37]) == made.labels[0]


def test_bits_do_not_depend_on_the_number_of_workers():
    kind = rules(32, "easy")
    made = []
    for workers in (1, 3):
        images, labels = np.zeros((700, 1024), np.uint8), np.zeros(700, np.uint8)
        generate(kind, 11, images, labels, workers)
        made.append((images, labels))
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])


def best_threshold(values: np.ndarray, labels: np.ndarray) -> float:
    """The accuracy of the best rule "above a threshold" or "below" it."""
    signs = 2.0 * labels[np.argsort(values, kind="stable")] - 1
    above = signs.sum() - 2 * np.concatenate([[0], np.cumsum(signs)])
    return 0.5 + float(np.abs(above).max()) / (2 * len(labels))


def test_nothing_simple_tells_the_label():
    """Hard images at 32 pixels, the default. Of 3,000 coin flips the best of many thresholds finds
    about 51.5 %. Where the markers are tells a little, by the rules: ends of one contour tend to
    lie on one side of the middle."""
    kind, count = rules(32, "hard"), 3000
    made = layouts(kind, stream(0, "train"), 0, count)
    images = np.zeros((count, 1024), np.uint8)
    draw(kind, made, images)
    away = made.markers - 16
    statistics = {
        "brightness": (images.mean(axis=1), 0.54),
        "lit pixels": ((images > 0).sum(axis=1), 0.54),
        "paddles": (made.counts, 0.54),
        "first marker from the middle": (np.linalg.norm(away[:, 0], axis=1), 0.54),
        "second marker from the middle": (np.linalg.norm(away[:, 1], axis=1), 0.54),
        "distance of the markers": (np.linalg.norm(away[:, 0] - away[:, 1], axis=1), 0.55),
        "markers on one side": ((away[:, 0] * away[:, 1]).sum(axis=1), 0.6),
    }
    for name, (values, most) in statistics.items():
        assert best_threshold(values, made.labels) < most, name
    assert abs(made.labels.mean() - 0.5) < 0.03


def test_signed_scaling_and_provenance(tmp_path):
    unit, signed = (
        build(SPEC.model_copy(update={"scaling": scaling}), tmp_path)
        for scaling in ("unit", "signed")
    )
    rows = np.arange(5)
    a, b = unit.examples("validation", rows)[0], signed.examples("validation", rows)[0]
    assert (float(a.min()), float(a.max())) == (0.0, 1.0)
    np.testing.assert_allclose(b, 2 * a - 1, atol=1e-6)
    assert unit.fingerprint != signed.fingerprint
    assert "GENERATED" in unit.summary()["provenance"]
    path = unit.sample(tmp_path / "samples")
    assert path == Path(tmp_path / "samples" / "pathfinder_generated.png")
