"""Hosts and launches that do not fit: refused in a line before anything is written, or left out."""

import shutil
from pathlib import Path

import pytest

import harness

from .cluster import Run, is_plain
from .outcome import SUITE, assert_idle, assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PACKAGE = Path(harness.__file__).parent
CHECKPOINTS = {"HARNESS_CHECKPOINT_SECONDS": "1"}


def with_package(package):
    """Words before a command on a host that has this folder as the harness."""
    return "bash", "-c", f'mount --bind {package} {PACKAGE} && exec "$0" "$@"'


def none(cluster):
    """A folder that stands for no package, also where another one is installed."""
    folder = cluster.site.folder / "none"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'harness'\")")
    return folder


def another(cluster):
    """The package with another line in it."""
    folder = cluster.site.folder / "other"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "protocols.py").open("a") as file:
        file.write("\nANOTHER = True\n")
    return folder


def joined(cluster, *before, **more):
    host = cluster.add_worker(*before, **more)
    cluster.until(lambda: cluster.has_joined(host), f"{host.name} to join")
    cluster.workers.append(host)
    return host


def refusal(run):
    """The one line, after those that say what it was at; nothing has been written."""
    assert run.code(120) == 2, run.cluster.said()
    assert is_plain(run.said), run.said
    assert not run.store.has_records()
    notes = ("connecting to Ray at", "asking ")
    (said,) = [line for line in run.said.splitlines() if not line.startswith(notes)]
    return said


def test_a_host_without_the_package_and_one_with_another_commit_are_named(cluster):
    lacking = joined(cluster, *with_package(none(cluster)))
    differing = joined(cluster, *with_package(another(cluster)))
    said = refusal(Run(cluster, SUITE))
    assert f"{lacking.name} ({lacking.address}): " in said
    assert "ModuleNotFoundError: No module named 'harness" in said
    assert f"{differing.name} ({differing.address}): another harness, " in said


@pytest.mark.parametrize(
    ("package", "reason"),
    [(none, "No module named 'harness'"), (another, "another harness, ")],
    ids=["none", "another"],
)
def test_a_host_that_joins_later_without_our_package_gets_no_trials(
    cluster, undisturbed, package, reason
):
    run = Run(cluster, SUITE, **CHECKPOINTS)
    run.trial_under_way()
    host = cluster.add_worker(*with_package(package(cluster)))
    run.until(lambda: f"({host.address}) gets no more trials" in run.said, "its quarantine")
    assert run.code() == 0, cluster.said()
    assert_whole(run, undisturbed)
    assert is_plain(run.said), run.said
    assert reason in run.said


CLOCK = """
import os
import time

OFF = float(os.environ["TESTS_CLOCK"])
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + OFF
time.time_ns = lambda: real_ns() + int(OFF * 1e9)
"""


@pytest.fixture
def clock_off_by(cluster):
    """`clock_off_by(seconds)`: a host on which Python's clock is off. That of the whole host cannot
    be: faketime breaks the timed waits of Python's threads, and of Ray's."""
    folder = cluster.site.folder / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)
    path = f"{folder}:{cluster.variables['PYTHONPATH']}"
    return lambda seconds: joined(cluster, PYTHONPATH=path, TESTS_CLOCK=str(seconds))


def test_clocks_that_are_off_change_nothing(cluster, undisturbed, clock_off_by):
    ahead, behind = clock_off_by(90 * 60), clock_off_by(-90 * 60)
    run = Run(cluster, SUITE, **CHECKPOINTS)
    run.until(lambda: {ahead.name, behind.name} <= run.seen_on, "trials on both")
    for one in ahead.processes():  # its trial is taken over by a host with another clock
        if one.name() == "raylet":
            one.kill()
    assert run.code() == 0, cluster.said()
    assert_whole(run, undisturbed)
    assert is_plain(run.said), run.said
    assert_idle(run)


def test_a_host_whose_disk_is_full(cluster, undisturbed):
    host = joined(cluster, disk="300m")
    run = Run(cluster, SUITE, **CHECKPOINTS)
    run.trial_under_way()
    full = host.run("dd", "if=/dev/zero", f"of={cluster.site.own}/fill", "bs=1M")
    assert "No space left" in full.stderr
    assert run.code() == 0, cluster.said()
    assert_whole(run, undisturbed)
    assert is_plain(run.said), run.said


def test_tokens_and_two_launches_at_once(cluster, undisturbed):
    home = cluster.site.folder / "stranger"
    wrong = home / ".harness" / "token"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("b" * 64)
    other = {"HOME": str(home), "RAY_AUTH_TOKEN_PATH": str(wrong)}
    stranger = cluster.add_worker(**other)
    said = refusal(Run(cluster, SUITE, name="wrong", **other))
    assert f"does not accept the token in {wrong}: it was started with another" in said
    said = refusal(Run(cluster, SUITE, name="none", RAY_AUTH_MODE="disabled"))
    assert "asks for a token: set RAY_AUTH_MODE=token" in said
    runs = [
        Run(cluster, SUITE, "--concurrency", "1", name=f"run {host.name}", on=host, **CHECKPOINTS)
        for host in cluster.workers
    ]
    assert [run.code() for run in runs] == [0, 0], cluster.said()
    runs[0].results |= runs[1].results
    assert_whole(runs[0], undisturbed)
    assert all(is_plain(run.said) for run in runs), cluster.said()
    assert all("by another launch" in run.said for run in runs)
    assert not cluster.has_joined(stranger)
