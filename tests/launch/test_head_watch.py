"""Losing the head of a cluster, pretended and real."""

import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness.launch import Lost, head_watch
from harness.launch.head_watch import HeadWatch, watched
from harness.launch.under_way import Launch
from harness.records.store import Store
from harness.training.host.stops import Signals
from tests.cli.test_process import HARNESS, PATHS
from tests.launch.fakes import FakeJobs, Watcher, job, tiny
from tests.launch.test_two_launches import SUITE
from tests.launch.test_under_way import FakePool


def test_an_answer_ends_a_silence_and_none_is_a_loss(monkeypatch):
    monkeypatch.setattr(head_watch, "ASK_EVERY", 0.01)
    monkeypatch.setattr(head_watch, "SILENCE", 0.2)
    answers, gone = [["first"]], threading.Event()

    def ask():
        if gone.is_set():
            threading.Event().wait()
        if len(answers) == 3:
            answers.append(["fourth"])
            raise ConnectionError("try again")
        answers.append([str(len(answers))])
        return answers[-1]

    with watched(ask) as watch:
        while len(answers) < 6:
            assert not watch.is_lost
            time.sleep(0.01)
        assert watch.nodes in answers[4:]
        gone.set()
        deadline = time.monotonic() + 20
        while not watch.is_lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watch.is_lost


def test_an_answered_question_is_closed_also_after_one_that_failed(monkeypatch):
    monkeypatch.setattr(head_watch, "ASK_EVERY", 0.0)
    asked = []

    def ask():
        asked.append(None)
        if len(asked) == 3:
            assert watch.asked_at is not None
            raise ConnectionError("try again")
        if len(asked) == 5:
            watch.over.set()
        return [len(asked)]

    watch = HeadWatch(ask)
    watch.run()
    assert watch.nodes == [5]
    assert watch.asked_at is None


def test_a_head_that_only_raises_is_lost(monkeypatch):
    monkeypatch.setattr(head_watch, "ASK_EVERY", 0.0)
    monkeypatch.setattr(head_watch, "SILENCE", 0.0)
    asked = []

    def ask():
        asked.append(None)
        if len(asked) > 1:
            watch.over.set()
            raise ConnectionError("no head")
        return []

    watch = HeadWatch(ask)
    watch.run()
    assert watch.is_lost


def test_a_pause_of_the_driver_is_no_silence_of_the_head(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(head_watch.time, "monotonic", lambda: now[0])
    watch = HeadWatch(list)
    watch.asked_at, lost = 0.0, []
    for seconds in (1, 100, 5, 5, 5, 6):  # it was stopped for 100 s
        now[0] += seconds
        lost.append(watch.is_lost)
    assert lost == [False] * 5 + [True]


def test_a_launch_that_lost_the_head_ends_and_keeps_what_it_has(tmp_path):
    jobs, sink = FakeJobs([job(tiny(0)), job(tiny(1))]), Watcher()
    lost = lambda: len(jobs.outcomes) == 1  # noqa: E731
    with pytest.raises(Lost) as caught:
        Launch(FakePool(), jobs, tmp_path, 0, sink, Signals(), lost).all(jobs.ready())
    assert [outcome.status for _, outcome in caught.value.outcomes] == ["completed"]
    assert sink.said == ["the head of the Ray cluster no longer answers", "stopping"]


@pytest.mark.slow
def test_a_run_whose_head_is_killed_says_how_to_go_on(tmp_path, head):
    (tmp_path / "shared.py").write_text(SUITE.replace("steps=300", "steps=200_000"))
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    command = ["run", "shared.py", "--store", "store", "--address", head.address]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    environment = {**kept, **head.variables, "PYTHONPATH": PATHS, "HARNESS_CHECKPOINT_SECONDS": "0"}
    with log.open("w") as stream:
        run = subprocess.Popen(
            [*HARNESS, *command], cwd=tmp_path, env=environment, stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + 240
        while not list(store.root.glob("trials/*/checkpoint/*.safetensors")):
            assert run.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        os.kill(head.gcs, signal.SIGKILL)
        # It has 20 s for the silence, 5 between questions, 10 for checkpoints, and tables to write.
        code = run.wait(timeout=120)
    finally:
        run.kill()
        run.wait()
    said = log.read_text()
    assert code == 3, said
    assert "the head of the Ray cluster no longer answers" in said
    assert "ended before a trial had ended" in said
    going_on = r"what was done is kept. Once the cluster is up again: Go on with: .*run shared\.py"
    assert re.search(going_on, said)
    assert not re.search(r"Traceback|\[.* [EC] \d+|0x[0-9a-f]{6}", said), said
    assert list(store.root.glob("trials/*/checkpoint/*.safetensors"))
