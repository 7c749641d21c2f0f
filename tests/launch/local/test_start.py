"""A Ray that does not start: one line says why, and nothing of it stays."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.launch.local import keeper

ROOT = Path(__file__).parents[3]
START = """
import resource, sys
from harness.launch.local import own_ray
from harness.launch.local.folder import private_folder
import psutil

private_folder()
files = int(sys.argv[1])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
try:
    with own_ray(1):
        print("up")
except ValueError as error:
    print(error)
print([p.cmdline()[3:4] for p in psutil.Process().children(recursive=True)])
"""


@pytest.mark.parametrize(
    ("files", "seconds", "says"),
    [
        (40, "600", r"its gcs_server ended with code -6 \(.*Too many open files\)"),
        (0, "1", "it was not up after 1 s; HARNESS_RAY_START_SECONDS may allow more"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_no_process(files, seconds, says):
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", START, str(files)],
        cwd=ROOT,
        env={**fresh, "HARNESS_RAY_START_SECONDS": seconds},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said, left = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said.startswith("Ray does not start on this machine: ")
    assert re.search(says, said), (said, done.stderr)
    assert left == f"[['{keeper.__file__}']]"
