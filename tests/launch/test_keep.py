"""`--keep`: a run that has lost its head waits for a new one, and begins again."""

import os
import subprocess
import sys
import time

import pytest

from harness.launch import keep
from harness.records.store import Store
from tests.cli.test_process import HARNESS, PATHS

from .test_head_watch import SUITE


class Replaced(Exception):
    """This process would be another now."""


@pytest.fixture
def looks(monkeypatch, capsys):
    """What is seen at each look: whether a head answers, and the output of `doctor`."""
    seen, waited, begun = [], [], []

    def check(address):
        if not seen[0][0]:
            seen.pop(0)
            raise ValueError("no Ray cluster answers")

    def doctor(command, **_):
        _, code, out = seen.pop(0)
        return subprocess.CompletedProcess(command, code, out, "")

    def replace(program, arguments):
        begun.append(arguments)
        raise Replaced

    monkeypatch.setattr(keep, "check_address", check)
    monkeypatch.setattr(keep.subprocess, "run", doctor)
    monkeypatch.setattr(keep.time, "sleep", waited.append)
    monkeypatch.setattr(keep.os, "execv", replace)
    monkeypatch.setattr(sys, "argv", ["harness", "run", "demo", "--keep"])
    return seen, waited, begun


def test_the_command_begins_again_once_a_head_with_nodes_answers(looks, capsys):
    seen, waited, begun = looks
    seen += [
        (False, 0, ""), (False, 0, ""),  # no head
        (True, 0, ""),  # a head without nodes
        (True, 3, "node a: 1 CPUs"),  # a node that is unfit
        (True, 0, "node a: 1 CPUs"),
    ]  # fmt: skip
    with pytest.raises(Replaced):
        keep.main("head:6379", "run", "demo", "--keep")
    assert waited == [keep.LOOK_EVERY] * 4
    assert begun == [[sys.executable, "-m", "harness", "run", "demo", "--keep"]]
    said = capsys.readouterr().err
    assert "waiting for a new head at head:6379" in said
    assert said.endswith("the cluster at head:6379 answers again\n")


def test_the_process_that_lost_its_head_does_not_wait_itself(looks):
    _, waited, begun = looks
    with pytest.raises(Replaced):
        keep.go_on_when_back("head:6379")
    assert begun == [
        [sys.executable, "-m", "harness.launch.keep", "head:6379", "run", "demo", "--keep"]
    ]
    assert waited == []


def test_ctrl_c_ends_the_wait(looks, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    seen, _, begun = looks
    seen.append((False, 0, ""))
    monkeypatch.setattr(keep.time, "sleep", interrupt)
    with pytest.raises(SystemExit) as caught:
        keep.main("head:6379", "run", "demo")
    assert caught.value.code == 130
    assert begun == []


@pytest.mark.slow
def test_a_run_goes_on_with_a_new_head(tmp_path, heads):
    """The whole thing: the head is killed, another one starts at its address, the suite ends."""
    (tmp_path / "shared.py").write_text(SUITE.replace("steps=300", "steps=3_000"))
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    first = heads()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    environment = {
        **kept,
        **first.variables,
        "PYTHONPATH": PATHS,
        "HARNESS_CHECKPOINT_SECONDS": "0",
    }
    command = ["run", "shared.py", "--store", "store", "--address", first.address, "--keep"]
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
        first.end()
        deadline = time.monotonic() + 120
        while "waiting for a new head" not in log.read_text():
            assert run.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        heads(at=first.address)
        assert run.wait(timeout=400) == 0, log.read_text()
    finally:
        run.kill()
        run.wait()
    assert "answers again" in log.read_text()
    assert "digits: accuracy" in log.read_text()
