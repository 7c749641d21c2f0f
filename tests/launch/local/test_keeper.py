"""The keeper of a folder, with processes that stand for Ray's; no Ray is needed."""

import os
import subprocess
import sys
import time

import pytest

from harness.launch.local import folder as folders
from harness.launch.local import keeper

SLEEP = "import sys, time; print('up', flush=True); time.sleep(600)"
DRIVER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from harness.launch.local.folder import private_folder
print(private_folder(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start():
    """Starts processes that sleep, and ends them."""
    started = []

    def begin(code, *arguments, **options):
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fdinfo"), reason="needs /proc")
def test_processes_of_the_folder_are_known_by_environment_or_by_what_they_write(tmp_path, start):
    log = tmp_path / "log"
    log.touch()
    marked, _ = start(SLEEP, env={**os.environ, keeper.MARK: str(tmp_path)})
    with log.open("a") as file:
        writer, _ = start(SLEEP, stderr=file)
    with log.open() as file:
        start(SLEEP, stdin=file)  # reads a log
    start(SLEEP, env={**os.environ, keeper.MARK: f"{tmp_path}-of-another"})
    start(SLEEP, str(log))  # names it
    assert sorted(keeper.processes(str(tmp_path))) == sorted([marked.pid, writer.pid])


def gone(condition):
    """Whether the condition comes true within half a minute."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_nothing_outlives_a_driver(end, start):
    parent = "/tmp"  # short, as Ray's sockets need it
    driver, folder = start(DRIVER, parent, stdin=subprocess.PIPE)
    assert folder.startswith(f"{parent}/{folders.PREFIX}")
    left, _ = start(SLEEP, env={**os.environ, keeper.MARK: folder})
    if end == "killed":
        assert os.path.exists(f"{folder}/token")
        driver.kill()
    else:
        driver.stdin.write("\n")
        driver.stdin.flush()
    driver.wait()
    assert gone(lambda: not os.path.exists(folder))
    assert gone(lambda: left.poll() is not None)
    assert gone(lambda: not keepers_of(folder))


def keepers_of(folder):
    """The keepers that still run for the folder."""
    import psutil

    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if folder in line and any("keeper" in part for part in line)]
