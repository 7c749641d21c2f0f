"""What the sinks print."""

import dataclasses
import errno
import io

import pytest

from harness.launch import Job, Outcome
from harness.launch.progress import (
    Ended,
    LineProgress,
    LiveProgress,
    Running,
    Snapshot,
    make_progress,
)
from harness.launch.progress.time_left import running_trial, time_left
from harness.launch.slot import Slot


def snapshot(eta=90.0):
    ended = (
        Ended("a", "digits full", 0, Outcome("completed", None, 12.0)),
        Ended("b", "digits full", 1, Outcome("failed", "no such thing", 3.0)),
    )
    running = (Running("c", "digits small", 2, 5.0, 1, 30, 100, 0.5, (8, 7), 11.0),)
    return Snapshot(ended, running, waiting=4, elapsed=20.0, eta=eta)


def test_lines_tell_each_event_once():
    stream = io.StringIO()
    sink = LineProgress(stream, every=0.0)
    sink.update(snapshot())
    sink.update(snapshot())
    lines = stream.getvalue().splitlines()
    assert lines[:3] == [
        "completed digits full, seed 0, after 12 s",
        "failed digits full, seed 1, after 3.0 s: no such thing",
        "started digits small, seed 2",
    ]
    summary = "[20 s] 1 completed, 1 running, 4 waiting, 1 failed; about 90 s left"
    detail = "  digits small, seed 2: step 30/100, metric 0.5, states [8, 7]"
    assert lines[3:] == [summary, detail] * 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_live_table_shows_what_runs_and_keeps_failures(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    sink = make_progress(stream)
    assert isinstance(sink.sink, LiveProgress)
    sink.update(snapshot())
    sink.close()
    text = stream.getvalue()
    assert "failed digits full, seed 1: no such thing" in text
    assert "30/100" in text
    assert "8 7" in text


def test_a_stream_that_is_no_terminal_gets_lines():
    assert isinstance(make_progress(io.StringIO()).sink, LineProgress)


def test_time_left_is_what_runs_plus_what_waits_over_the_slots():
    ended = [Ended("a", "x", 0, Outcome("completed", None, 10.0))]
    running = [Running("b", "x", 1, seconds=5.0, left=5.0), Running("c", "x", 2, seconds=4.0)]
    # Known whole trials: 10 and 5 + 5, so 6 are left of c; (5 + 6 + 3 x 10) / 2.
    assert time_left(ended, running, waiting=3, slots=2) == 20.5
    assert time_left([], [], waiting=3, slots=0) is None


def test_what_a_trial_waits_for_is_said_when_it_changes_and_once():
    stream = io.StringIO()
    sink = LineProgress(stream, every=60.0)
    sink.say("starting Ray")
    for reason in (
        "",
        "a is tried again in 1 s: busy",
        "a is tried again in 1 s: busy",
        "",
        "no node",
    ):
        sink.update(dataclasses.replace(snapshot(), ended=(), running=(), reason=reason))
    assert stream.getvalue().splitlines() == [
        "starting Ray",
        "waiting: a is tried again in 1 s: busy",
        "waiting: no node",
    ]


def test_the_live_table_says_what_is_waited_for(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    sink = make_progress(stream)
    sink.say("starting Ray")
    sink.update(dataclasses.replace(snapshot(), reason="no node has room"))
    sink.say("stopping: trials take a checkpoint")
    sink.close()
    text = stream.getvalue()
    assert all(f in text for f in ("starting Ray", "waiting: no node has room", "stopping: trials"))


def test_pending_starting_running_and_waiting_are_told_apart():
    trials = (
        Running("a", "x", 0, 5.0, has_worker=False),
        Running("b", "x", 1, 5.0),
        Running("c", "x", 2, 5.0),
        Running("d", "x", 3, 5.0, step=0, steps=100),
    )
    state = dataclasses.replace(snapshot(None), ended=(), running=trials, elsewhere=2)
    counts = "0 completed, 1 running, 2 starting, 1 pending, 4 waiting, 2 run by another launch"
    assert state.summary() == counts
    assert [trial.describe() for trial in trials[:2]] == ["pending", "starting"]


@pytest.mark.parametrize(
    ("slot", "state"),
    [
        ({"placed": False}, "pending"),
        ({}, "starting"),
        ({"since": -1000.0}, "pending"),  # Ray has other work
        ({"placed": False, "answered": True}, "starting"),
        ({"answered": True, "told": {"step": 0, "steps": 10}}, "running"),
    ],
)
def test_a_process_that_is_being_made_is_told_from_one_without_a_place(slot, state):
    of = Slot(None, 1, 0.0, job=Job("a", {}, "x"), **slot)
    assert running_trial(of, 1, 5.0).state == state


def test_what_another_launch_runs_is_said_where_nothing_runs_here():
    stream = io.StringIO()
    sink = LineProgress(stream, every=60.0)
    idle = dataclasses.replace(snapshot(), ended=(), running=(), elsewhere=2)
    elsewhere = Ended("b", "digits full", 1, Outcome("completed", None, 3.0, elsewhere=True))
    for state in (
        dataclasses.replace(idle, running=snapshot().running),
        idle,
        dataclasses.replace(idle, elsewhere=1, ended=(elsewhere,)),
    ):
        sink.update(state)
    assert stream.getvalue().splitlines() == [
        "started digits small, seed 2",
        "waiting for 2 trials that another launch runs",
        "completed digits full, seed 1, by another launch",
        "waiting for 1 trial that another launch runs",
    ]


class Broken(io.StringIO):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


def test_a_stream_that_breaks_ends_no_launch():
    sink = make_progress(Broken())
    sink.say("starting Ray")
    sink.update(snapshot())
    sink.close()
    assert sink.sink is None
