"""What a worker makes of a trial, without Ray."""

import errno
import os
import subprocess
import sys
from subprocess import PIPE

import pytest

from harness.launch.checksum import code
from harness.launch.ray_errors import UNFIT
from harness.launch.worker import TrialWorker
from harness.records.store import Store
from tests.cli.test_process import PATHS
from tests.launch.fakes import tiny


@pytest.fixture
def outcome_of(tmp_path, monkeypatch):
    """Runs a tiny trial in a worker that has so much of a GPU (pretended)."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")

    def outcome(store=tmp_path, gpus=1.0):
        return TrialWorker().run(tiny().model_dump(mode="json"), str(store), gpus, {})

    return outcome


@pytest.mark.parametrize(("gpus", "share", "exclusive"), [(1.0, 1.0, True), (0.25, 0.25, False)])
def test_only_a_whole_gpu_is_exclusive(tmp_path, outcome_of, gpus, share, exclusive):
    assert outcome_of(gpus=gpus) == ("completed", None)
    record = Store(tmp_path).trial(tiny().trial_id).result()["record"]
    assert (record["device_share"], record["exclusive"]) == (share, exclusive)


def test_a_store_that_the_node_does_not_see_is_said(tmp_path, outcome_of):
    status, message = outcome_of(tmp_path / "elsewhere")
    assert status == "refused"
    assert f"does not see the store {tmp_path / 'elsewhere'}" in message
    assert not (tmp_path / "elsewhere").exists()


def test_a_trial_that_another_process_runs_is_busy(tmp_path, outcome_of):
    with Store(tmp_path).trial(tiny().trial_id).claim():
        status, message = outcome_of()
    assert status == "busy"
    assert "is being run by process" in message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "fault"),
        (OSError(errno.EIO, "Input/output error"), "fault"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "fault"),
        (PermissionError(errno.EACCES, "Permission denied", "/store"), "refused"),
        (OSError(errno.EROFS, "Read-only file system", "/store"), "refused"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/store"), "refused"),
        (MemoryError("no more"), "fault"),
        (RuntimeError("CUDA error: uncorrectable ECC error"), "fault"),
        (RuntimeError("can't start new thread"), "fault"),
        (RuntimeError("shapes do not match\nhere"), "refused"),
        (ValueError("cannot run as asked"), "refused"),
    ],
)
def test_the_machine_is_blamed_for_its_own_failings_only(monkeypatch, outcome_of, error, status):
    def fail(*_):
        raise error

    monkeypatch.setattr("harness.training.trial.run_trial", fail)
    said, message = outcome_of()
    assert said == status
    assert str(error).splitlines()[0] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ImportError("numba needs NumPy 2"), "refused"),
        (ValueError("no such backend"), "refused"),
        (MemoryError("no more"), "fault"),
        (OSError(errno.ENOSPC, "No space left on device"), "fault"),
    ],
)
def test_a_worker_that_cannot_get_ready_says_why_of_every_trial(
    monkeypatch, outcome_of, error, status
):
    def fail():
        raise error

    monkeypatch.setattr("harness.models.scans.warm_up", fail)
    for _ in range(2):
        said, message = outcome_of()
        assert said == status
        assert message.startswith("no worker can start on node ")
        assert str(error) in message


TOLD = """
import os, signal, sys, threading, time
from harness.launch.notice import heed_sigterm

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ray does
told = threading.Event()
heed_sigterm(told)
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lambda: (told.wait(), print("told", flush=True), lock.release())).start()
print("ready", flush=True)
lock.acquire()  # the main thread waits in C
print("alive", flush=True)
"""


def test_sigterm_is_heard_while_the_main_thread_waits_in_c():
    with subprocess.Popen(
        [sys.executable, "-c", TOLD],
        env={**os.environ, "PYTHONPATH": PATHS},
        stdout=PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "told\nalive\n"
    assert process.returncode == 0


def test_a_worker_that_was_told_to_go_begins_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    worker = TrialWorker()
    worker.stop()
    assert worker.run(tiny().model_dump(mode="json"), str(tmp_path), 0.0, {}) == (
        "interrupted",
        None,
    )
    assert not list(tmp_path.iterdir())


def test_a_worker_with_another_harness_takes_no_trial(tmp_path):
    spec = tiny().model_dump(mode="json")
    status, message = TrialWorker(code="0123456789ab").run(spec, str(tmp_path), 0.0, {})
    assert status == "refused"
    assert message.startswith(UNFIT)
    assert f"another harness, {code()}, than that of the launch, 0123456789ab" in message
    assert not list(tmp_path.iterdir())
    assert TrialWorker(code=code()).run(spec, str(tmp_path), 0.0, {})[0] == "completed"
