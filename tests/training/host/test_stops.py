"""Signals that ask to stop: in what order, answered at once, and from a terminal that is gone."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.training.host import stops
from harness.training.host.stops import Signals, stoppable

ROOT = Path(__file__).parents[3]


def test_a_second_signal_is_an_echo_unless_it_comes_later(monkeypatch):
    signals = Signals()
    signals.watched = True
    signals._handle(signal.SIGTERM, None)
    signals._handle(signal.SIGTERM, None)
    assert (signals.asked, signals.urgent) == (True, False)
    monkeypatch.setattr(stops, "ECHO", 0.0)
    signals._handle(signal.SIGTERM, None)
    assert signals.urgent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_nobody_watches_is_interrupted_once(monkeypatch, number):
    monkeypatch.setattr(stops, "ECHO", 0.0)
    before = signal.getsignal(number)
    reached = []

    def start():
        with stoppable(Signals()):
            try:
                signal.raise_signal(number)
                reached.append("first")
            finally:  # the clearing up, which no other may cut short
                signal.raise_signal(number)
                reached.append("cleared")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached == ["cleared"]
    assert signal.getsignal(number) is before


def test_an_abrupt_stop_is_the_second_signal(monkeypatch):
    monkeypatch.setattr(stops, "ECHO", 0.0)
    signals = Signals(abrupt=True)
    signals.watched = True
    signals._handle(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        signals._handle(signal.SIGINT, None)


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(Signals()):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


ANSWERED = """
import ctypes, signal, sys
from harness.training.host.stops import Signals, stoppable
try:
    with stoppable(Signals("stopping: said at once")):
        print("up", flush=True)
        ctypes.CDLL(None).sleep(%d)  # deep in C, as Ray's start is: no handler of Python's can run
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
CLOSED = """
import os, sys, time
from harness.tools.notes import say
from harness.training.host.stops import Signals, stoppable
if os.fork():
    os.wait()
    sys.exit()
os.setsid()
terminal = os.open(os.ttyname(0), os.O_RDWR)  # which makes it the session's own
with stoppable(Signals()) as signals:
    signals.watched = True
    print("up", flush=True)
    while not signals.asked:
        time.sleep(0.05)
    print("to nobody", flush=True)
    say("to nobody")
    with open(sys.argv[1], "w") as file:
        file.write("done")
"""


def process(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, **options)


def test_a_signal_is_answered_while_no_handler_can_run():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with process(ANSWERED % 600, **pipes) as child:
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        assert child.stderr.readline() == "harness: stopping: said at once\n"
        child.kill()


def test_a_terminal_that_closes_is_a_stop_and_what_is_written_to_it_is_no_error(tmp_path):
    master, slave = pty.openpty()
    child = process(CLOSED, str(tmp_path / "end"), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    assert b"up" in os.read(master, 100)
    os.close(master)
    child.wait()
    end = time.monotonic() + 30
    while not (tmp_path / "end").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "end").read_text() == "done"
