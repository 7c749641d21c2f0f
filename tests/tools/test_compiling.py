"""Loops compiled by numba in places where nothing can be kept, or what was kept is broken.

Each case is a process of its own, and a nested loop as in the scans.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOP = """
import numpy as np
from harness.tools.compiling import compiled

@compiled
def add(into, x):
    for k in range(into.shape[0]):
        into[k] += 0.1 * x[k]

@compiled
def total(x):
    into = np.zeros(3)
    for row in x:
        add(into, row)
    return into.sum() / 3.0

if __name__ == "__main__":
    print(total(np.arange(12.0).reshape(4, 3)).hex())
"""
# As a user whom the system does not know, as in a container: once all that numba loads late, which
# such a user may not be able to read, is there.
STRANGER = """
import os, runpy, sys
import numba
source = open(sys.argv[1]).read().replace("@compiled", "@numba.njit").split("if __name__")[0]
space = {"numba": numba}
exec(source, space)
space["total"](space["np"].ones((2, 3)))
if os.getuid() == 0:
    os.setgid(54321)
    os.setuid(54321)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
# Where a file may hold a hundred bytes.
FULL = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
runpy.run_path(sys.argv[1], run_name="__main__")
"""
# With a numba that keeps its caches in another way.
OTHER = """
import runpy, sys
import numba.core.caching
del numba.core.caching.UserWideCacheLocator
runpy.run_path(sys.argv[1], run_name="__main__")
"""
RIGHT = sum(0.1 * k for k in range(12)) / 3


@pytest.fixture(scope="module")
def place():
    """A folder that anybody may read, with the loop in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "code").mkdir()
        (folder / "code" / "loop.py").write_text(LOOP)
        (folder / "code" / "stranger.py").write_text(STRANGER)
        (folder / "work").mkdir()
        yield folder


def run(place, script="loop.py", home="", **variables):
    """Run the loop: its output and what it said. `home` "" leaves HOME away."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables} | ({"HOME": home} if home else {})
    done = subprocess.run(
        [sys.executable, str(place / "code" / script), str(place / "code" / "loop.py")],
        cwd=place / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float.fromhex(done.stdout) == pytest.approx(RIGHT, rel=1e-12)
    return done.stdout, done.stderr.splitlines()


@pytest.fixture(scope="module")
def said_once(place):
    """What it prints where all is well; what was kept of it stays in `kept`."""
    said, notes = run(place, NUMBA_CACHE_DIR=str(place / "cache"))
    assert notes == []
    shutil.copytree(place / "cache", place / "kept")
    return said


@pytest.fixture
def right(place, said_once):
    """The same, with the cache as it was then."""
    shutil.rmtree(place / "cache")
    shutil.copytree(place / "kept", place / "cache")
    return said_once


@pytest.mark.parametrize("home", [*[""] * (os.getuid() == 0), "/nonexistent"])
@pytest.mark.parametrize("cache", [None, "a file"])
def test_code_and_home_that_cannot_be_written(place, right, home, cache):
    variables = {"NUMBA_CACHE_DIR": str(place / "code" / "loop.py")} if cache else {}
    (place / "code").chmod(0o555)
    (place / "work").chmod(0o777)
    said, notes = run(place, "stranger.py", home, **variables)
    (place / "code").chmod(0o755)
    assert said == right
    assert len(notes) == 1
    assert notes[0].startswith("harness: what numba compiles cannot be kept on disk, so it is")
    assert list((place / "work").iterdir()) == []  # above all no folder called `~`


@pytest.mark.parametrize(("suffix", "share"), [(".nbi", 0.0), (".nbi", 0.5), (".nbc", 0.5)])
def test_what_was_kept_and_is_cut_short_is_made_again(place, right, suffix, share):
    files = [p for p in (place / "cache").rglob("*") if p.suffix == suffix]
    assert len(files) == 2
    for file in files:
        os.truncate(file, int(share * file.stat().st_size))
    said, notes = run(place, NUMBA_CACHE_DIR=str(place / "cache"))
    assert said == right
    assert len(notes) == 1
    assert run(place, NUMBA_CACHE_DIR=str(place / "cache")) == (right, [])


def test_a_place_that_is_lost_while_it_compiles(place, right):
    """The folder is there and can be written, and the files in it cannot: a full disk, say."""
    (place / "code" / "full.py").write_text(FULL)
    said, notes = run(place, "full.py", NUMBA_CACHE_DIR=str(place / "work"))
    assert said == right
    assert len(notes) == 1


def test_a_numba_whose_private_parts_are_others(place, right):
    (place / "code" / "other.py").write_text(OTHER)
    said, notes = run(place, "other.py", NUMBA_CACHE_DIR=str(place / "cache"))
    assert said == right
    assert len(notes) == 1


def test_nothing_is_compiled_in_another_way():
    found = [f for f in (ROOT / "harness").rglob("*.py") if "njit" in f.read_text()]
    assert found == [ROOT / "harness" / "tools" / "compiling.py"]
