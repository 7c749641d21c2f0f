"""Notes on standard error: what is waited for, and streams that nobody reads any more."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.records.store import Store
from harness.tools.notes import waiting

ROOT = Path(__file__).parents[2]
PIPE = """
from harness.tools.notes import say
for _ in range(3):
    say("to nobody")
print("done")
"""


def test_a_wait_that_takes_longer_says_what_for(capsys):
    with waiting("the data of digits", soon=0.0):
        end = time.monotonic() + 10
        while not (said := capsys.readouterr().err) and time.monotonic() < end:
            time.sleep(0.01)
    assert said == "harness: waiting: the data of digits\n"


def test_a_wait_that_is_over_soon_says_nothing(capsys):
    with waiting("the data of digits", soon=600.0):
        pass
    with pytest.raises(KeyboardInterrupt), waiting("the data of digits", soon=600.0):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_who_waits_for_a_lock_says_who_holds_it(tmp_path, monkeypatch):
    held, told, said = threading.Event(), threading.Event(), []
    monkeypatch.setattr("harness.records.lease.waiting", lambda what: waiting(what, soon=0.0))
    monkeypatch.setattr("harness.tools.notes.say", lambda text: (said.append(text), told.set()))

    def hold():
        with Store(tmp_path).lock("mlflow", "the mirror"):
            held.set()
            told.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    with Store(tmp_path).lock("mlflow", "the mirror", wait=True):
        pass
    holder.join()
    assert len(said) == 1
    assert said[0].startswith("waiting: the mirror is being run by process ")


def test_a_note_to_a_pipe_that_nobody_reads_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-c", PIPE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        child.stderr.close()
        assert child.stdout.read() == b"done\n"
        assert child.wait() == 0
