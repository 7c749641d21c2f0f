"""Stopping a launch on an own Ray: no process stays, no folder, and the store goes on."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

from harness.launch.local.folder import remove_orphans
from harness.records.store import Store
from harness.training.trial import Execution, Interrupted, run_trial
from tests.launch.fakes import tiny

ROOT = Path(__file__).parents[2]
STEPS = 100_000  # more than any test waits for
DRIVER = f"""
import signal, sys
from pathlib import Path
from harness.launch import Interrupted, launch
from tests.launch.fakes import FakeJobs, Watcher, job, tiny

def show(snapshot):
    if snapshot.done and any(trial.step for trial in snapshot.running):
        print("under way", flush=True)

jobs = FakeJobs([job(tiny(0)), job(tiny(1, steps={STEPS}))], [job(tiny(2))])
try:
    launch(jobs, Path(sys.argv[1]), concurrency=1, progress=Watcher(show))
except Interrupted as interrupted:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what comes once it is over
    print("interrupted", [o.status for _, o in interrupted.outcomes], flush=True)
    sys.exit(130)
"""


def ctrl_c(driver):
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the whole group


def ctrl_c_twice(driver):
    ctrl_c(driver)
    time.sleep(0.05)
    ctrl_c(driver)


def ctrl_c_until_it_hurts(driver):
    for pause in (1.2, 0.3, 0.3, 0.3):
        ctrl_c(driver)
        time.sleep(pause)


def sigterm(driver):
    driver.terminate()


def hang_up(driver):
    os.close(driver.terminal)  # the kernel tells the whole group, as far as it listens
    driver.terminal = None


@pytest.fixture
def under_way(tmp_path):
    """A driver in the middle of its second trial, its children, and the folder of its Ray."""
    # Without the token of a Ray that an earlier test ran in this process.
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    terminal, end = pty.openpty()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        cwd=ROOT,
        env=fresh,
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(end, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    driver.terminal = terminal
    children = []
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "under way\n", driver.communicate()
        children = psutil.Process(driver.pid).children(recursive=True)
        tokens = [c.environ().get("RAY_AUTH_TOKEN_PATH") for c in children]
        yield driver, children, next(Path(t).parent for t in tokens if t)
    finally:
        for process in (driver, *children):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        driver.communicate()
        if driver.terminal is not None:
            os.close(driver.terminal)


def named(children, part):
    """Those of the processes whose command line holds this."""
    return [child for child in children if part in " ".join(child.cmdline())]


def check_that_it_stops(under_way, stop):
    """It stops within seconds, keeps what had ended, and leaves neither process nor folder."""
    driver, children, folder = under_way
    assert all(named(children, part) for part in ("gcs_server", "raylet", "ray::TrialWorker"))
    start = time.monotonic()
    stop(driver)
    out, _ = driver.communicate(timeout=40)
    assert driver.returncode == 130
    assert time.monotonic() - start < 20
    assert out.splitlines()[-1] == "interrupted ['completed']"
    _, alive = psutil.wait_procs(children, timeout=2)
    assert not alive
    assert not folder.exists()


@pytest.mark.parametrize(
    "stop", [ctrl_c_twice, hang_up, pytest.param(sigterm, marks=pytest.mark.slow)]
)
def test_a_stop_leaves_no_process_and_a_store_that_goes_on(tmp_path, under_way, stop):
    folder = under_way[2]
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    check_that_it_stops(under_way, stop)

    store, spec = Store(tmp_path), tiny(1, steps=STEPS)
    trial = store.trial(spec.trial_id)
    assert trial.result() is None
    assert store.trial(tiny(2).trial_id).spec() is None
    told = []
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(progress=told.append, stop=lambda: bool(told)))
    assert told[0]["step"] > 1
    assert trial.load_checkpoint()[1]["restarts"] == 1


@pytest.mark.slow
def test_an_impatient_stop_leaves_no_process(under_way):
    check_that_it_stops(under_way, ctrl_c_until_it_hurts)


def test_a_killed_driver_leaves_neither_process_nor_folder(under_way):
    driver, children, folder = under_way
    lasting = ("gcs_server", "raylet/raylet", "ray::TrialWorker", "ray::DashboardAgent", "keeper")
    assert all(named(children, part) for part in lasting)
    remove_orphans(folder.parent)
    assert folder.exists()
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    # Who adopts the dead may leave them in the table for a while.
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not folder.exists()
