"""Interleaving, turns, medians, ranges and paired ratios, by a clock that only cases move."""

import pytest

from harness.bench.interleaved import Rounds, Spread, interleave


class FakeTime:
    """A clock, and calls that take scripted seconds of it, the last ones over and over."""

    def __init__(self):
        self.now, self.calls = 100.0, []

    def clock(self):
        return self.now

    def takes(self, name, *seconds):
        left = list(seconds)

        def call():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_cases_take_turns_and_the_first_call_does_not_count():
    time = FakeTime()
    cases = {"a": time.takes("a", 9, 1, 2, 6), "b": time.takes("b", 7, 4, 1, 2)}
    timed = interleave(cases, 3, clock=time.clock)
    assert time.calls == ["a", "b"] * 4
    assert timed.first == {"a": 9, "b": 7}
    assert timed.seconds == {"a": [1, 2, 6], "b": [4, 1, 2]}
    assert timed.spread("a") == Spread(2, 1, 6)


def test_ratios_are_paired_by_round_not_ratios_of_medians():
    timed = Rounds({"a": [1.0, 2.0, 6.0], "b": [4.0, 1.0, 2.0]}, {})
    assert timed.ratio("a", "b") == Spread(2.0, 0.25, 3.0)  # the medians' ratio would be 1
    assert timed.rate("a", 12.0) == Spread(6.0, 2.0, 12.0)
    # b does 8 units in 4, 1, 2 s, against a's 4 units in 1, 2, 6 s: 0.5, 4, 6.
    assert timed.share("b", 8.0, "a", 4.0) == Spread(4.0, 0.5, 6.0)


def test_a_short_case_is_called_until_its_turn_is_over():
    time = FakeTime()
    cases = {"short": time.takes("short", 1.0), "long": time.takes("long", 50.0)}
    timed = interleave(cases, 1, turn=5.0, clock=time.clock)
    assert time.calls == ["short", "long"] + ["short"] * 7 + ["long"]  # 1 + 2 + 4 calls
    assert timed.seconds == {"short": [1.0], "long": [50.0]}


def test_waiting_for_the_device_belongs_to_the_case():
    time = FakeTime()

    def wait():
        time.now += 10.0

    timed = interleave({"a": time.takes("a", 1.0)}, 2, wait=wait, clock=time.clock)
    assert timed.seconds["a"] == [11.0, 11.0]


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="nothing to measure"):
        interleave({}, 1)
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        interleave({"a": lambda: None}, 0)
