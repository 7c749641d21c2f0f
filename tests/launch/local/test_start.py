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

# Another version of Ray, in which something private is not there, or not as it was.
OTHER = """
import os, sys
from harness.launch.local import own_ray
from harness.launch.local.folder import private_folder

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{private_folder()}/token"}
import psutil
from ray._private.node import Node

def missing(method, first):  # for our node alone; `first` the method does its work
    def replaced(self, *arguments, **options):
        if first or type(self) is Node:
            method(self, *arguments, **options)
        if type(self) is not Node:
            raise AttributeError("'Head' object has no attribute '_renamed'")
    return replaced

if sys.argv[1] == "module":
    sys.modules["ray._private.parameter"] = None
else:
    Node.start_ray_processes = missing(Node.start_ray_processes, first=True)
    Node.kill_all_processes = missing(Node.kill_all_processes, first=False)
with own_ray(1) as ray:
    print(ray.get(ray.remote(lambda: 6 * 7).remote()))
print([p.cmdline()[3:4] for p in psutil.Process().children(recursive=True)])
"""


def run(code, *arguments, **variables):
    """A process of its own, without what the user has set for Ray."""
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**fresh, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("files", "seconds", "says"),
    [
        # Most times it also leaves words, not always: it dies wherever it is by then.
        (40, "600", r"its gcs_server ended with code -6( \(.*Too many open files\))?\Z"),
        (0, "1", r"it was not up after 1 s; HARNESS_RAY_START_SECONDS may allow more\Z"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_no_process(files, seconds, says):
    done = run(START, str(files), HARNESS_RAY_START_SECONDS=seconds)
    said, left = done.stdout.splitlines()
    assert said.startswith("Ray does not start on this machine: ")
    assert re.search(says, said), (said, done.stderr)
    assert left == f"[['{keeper.__file__}']]"


@pytest.mark.parametrize("change", ["method", pytest.param("module", marks=pytest.mark.slow)])
def test_a_ray_whose_private_parts_are_others_is_started_plainly(change):
    done = run(OTHER, change)
    assert done.stdout.splitlines() == ["42", f"[['{keeper.__file__}']]"]
    assert "is started as it starts itself" in done.stderr
