"""Peak memory is that of the case: it holds what must be held, and grows with the sequence."""

from dataclasses import replace

import pytest

from harness.bench.shapes import SHAPES, Shape
from harness.bench.step_memory import Case, peaks

SHAPE = Shape("m", "", 16, 2048, 8, (64,), inputs=1)


def test_peaks_of_cases_in_children():
    longer = replace(SHAPE, length=4 * SHAPE.length)
    cases = [Case(shape, 64, "associative") for shape in (SHAPE, longer, SHAPE)]
    short, long, again = peaks(cases, "cpu", 1)
    states = 8 * 2048 * 64 * 8  # bytes of one complex64 (batch, length, N)
    assert 2 * states < short < 40 * states
    # What the C library keeps of freed memory differs by a fifth from run to run.
    assert 2.5 * short < long < 5 * short
    assert abs(again - short) < 0.25 * short  # what ran before leaves no trace


def test_a_child_that_fails_has_no_peak():
    assert peaks([Case(SHAPE, 64, "triton")], "cpu", 1) == [None]


@pytest.mark.slow
def test_a_long_sequence_through_six_blocks():
    """L 16,384, N 256, H 128, batch 2: within 4 GB, and less where states are rebuilt."""
    shape = Shape("long", "", 128, 16_384, 2, (256,), inputs=1, blocks=6)
    cases = [Case(shape, 256, "scan", remember) for remember in ("auto", "states", "boundaries")]
    auto, states, boundaries = peaks(cases, "cpu", 2)
    assert boundaries < 0.8 * states
    assert max(auto, states) < 4e9


@pytest.mark.slow
def test_boundaries_need_half_of_what_the_plain_recurrence_does():
    shape = SHAPES["listops"]
    cases = [Case(shape, 256, "reference"), Case(shape, 256, "scan", "boundaries")]
    plain, ours = peaks(cases, "cpu", 2)
    assert ours <= 0.5 * plain
