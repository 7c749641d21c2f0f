"""Killed, or out of room, at every change that a trial makes to files: it goes on to the same bits.

Each point is a fork that dies there, or a disk that is full from there on, and then the trial is
run to its end and compared with one that nobody disturbed. By default every fifth point is tried;
`make test-slow` tries all.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.app import execute
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.training.trial import Execution, Fork, run_trial
from tests.faults import changes, full_from, killed_at, leftovers

from .trials import assert_same

EVERY = 5


def tiny(arm, steps=4):
    return TrialSpec(
        task={"name": "digits"},
        model={"blocks": 1, "width": 4, "state_dim": 8},
        training={"steps": steps, "batch_size": 10, "evaluate_every": 2},
        arm=arm,
    )


FULL = tiny({"kind": "full"})
CUT = tiny({"kind": "in_training", "tau": 0.3, "start": 0.5, "end": 1.0, "count": 1})
KINDS = {
    "in_training": (CUT, {}),
    "post_hoc": (tiny({"kind": "post_hoc", "tau": 0.3, "finetune_steps": 2}), {}),
    "keeps a state": (FULL, {"keep_at": (1,)}),
    "forked": (CUT, {"fork": Fork(FULL.trial_id, 1)}),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A store with what other trials need: the full trial, and its state after step 1."""
    store = Store.open(tmp_path_factory.mktemp("before") / "store")
    run_trial(FULL, store, Execution(keep_at=(1,)))
    return store


@pytest.fixture(scope="module")
def whole(before, tmp_path_factory):
    """Per kind: a store with the trial undisturbed, and how many changes that made."""

    @functools.cache
    def made(kind):
        root = fresh(kind, before, tmp_path_factory.mktemp("whole"))
        return Store.open(root), len(changes(root, lambda: run(kind, root)))

    return made


def fresh(kind, before, folder):
    """The path of a store in which the trial of this kind can begin."""
    root = Path(folder) / "store"
    if kind in ("post_hoc", "forked"):
        shutil.copytree(before.root, root)
    return root


def run(kind, root):
    spec, setting = KINDS[kind]
    return run_trial(spec, Store.open(root), Execution(checkpoint_seconds=0.0, **setting))


def assert_as_if_nothing_had_been(kind, root, undisturbed):
    spec, _ = KINDS[kind]
    assert_same(Store.open(root), undisturbed, spec.trial_id)
    assert Store.open(root).trial(spec.trial_id).damage() == []
    assert leftovers(root) == []
    assert files(root) == files(undisturbed.root)


def files(root):
    """All paths but those of claims, which count their owners."""
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    return [path for path in found if not path.startswith(".claims/")]


def points(kind, count, every):
    """Each kind begins at another point, so that together they meet every sort of change."""
    return range(list(KINDS).index(kind) % every, count, every)


def kill_at_points(kind, before, whole, tmp_path, every):
    undisturbed, count = whole(kind)
    assert count > 40
    for k in points(kind, count, every):
        root = fresh(kind, before, tmp_path / str(k))
        assert killed_at(k, root, lambda root=root: run(kind, root))
        run(kind, root)
        assert_as_if_nothing_had_been(kind, root, undisturbed)
        shutil.rmtree(tmp_path / str(k))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_change_to_a_file_it_ends_bit_identical(kind, before, whole, tmp_path):
    kill_at_points(kind, before, whole, tmp_path, EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_change_to_a_file_it_ends_bit_identical(kind, before, whole, tmp_path):
    kill_at_points(kind, before, whole, tmp_path, 1)


@pytest.mark.parametrize("kind", ["in_training"])
def test_killed_while_it_is_forgotten_it_can_be_run_again(kind, before, whole, tmp_path):
    """`--retry` wipes a trial: a kill in the middle leaves one that runs again from its start."""
    undisturbed, _ = whole(kind)
    spec, _ = KINDS[kind]

    def wipe(root):
        with Store.open(root).trial(spec.trial_id).claim() as folder:
            folder.wipe()

    done = shutil.copytree(undisturbed.root, tmp_path / "done")
    count = len(changes(done, lambda: wipe(done)))
    for k in range(count):
        root = shutil.copytree(undisturbed.root, tmp_path / str(k))
        assert killed_at(k, root, lambda root=root: wipe(root))
        run(kind, root)
        assert_as_if_nothing_had_been(kind, root, undisturbed)


def trial_command(tmp_path, root):
    (tmp_path / "spec.json").write_text(CUT.model_dump_json())
    return ["trial", str(tmp_path / "spec.json"), "--store", str(root)]


def full_at_points(whole, tmp_path, monkeypatch, capsys, every):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    undisturbed, count = whole("in_training")
    refusals = 0
    for k in range(0, count, every):
        root = tmp_path / str(k)
        command = trial_command(tmp_path, root)
        with full_from(k, root) as refused:
            code = execute(command)
        out, err = capsys.readouterr()
        if refused and not Store(root).trial(CUT.trial_id).ended():
            refusals += 1
            assert code == 2, (k, err)
            assert out == ""
            assert err.startswith("harness: ")
            assert err.endswith("No space left on device\n")
            assert err.count("\n") == 1
        else:
            assert code == 0
        assert execute(command) == 0
        said = capsys.readouterr().out.splitlines()[-1]
        assert json.loads(said)["status"] == "completed"
        assert_as_if_nothing_had_been("in_training", root, undisturbed)
    assert refusals > count / every / 2


def test_a_disk_that_fills_at_any_change_loses_nothing(whole, tmp_path, monkeypatch, capsys):
    full_at_points(whole, tmp_path, monkeypatch, capsys, EVERY)


@pytest.mark.slow
def test_a_disk_that_fills_at_every_change_loses_nothing(whole, tmp_path, monkeypatch, capsys):
    full_at_points(whole, tmp_path, monkeypatch, capsys, 1)


SMALL_DISK = """
mount -t tmpfs -o size=24k none {root} || exit 77
{harness}; echo "first: $?"
mount -o remount,size=10m {root} && {harness}; echo "second: $?"
cp -r {root} {copy}
"""


def test_a_real_disk_that_is_full(whole, tmp_path, monkeypatch):
    """Six pages of a file system in memory, in a mount namespace of its own; then room again."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount a small file system")
    undisturbed, _ = whole("in_training")
    root, copy = tmp_path / "store", tmp_path / "copy"
    root.mkdir()
    command = trial_command(tmp_path, root)
    start = "from harness.cli.app import main; main()"
    harness = subprocess.list2cmdline([sys.executable, "-c", start, *command])
    script = SMALL_DISK.format(root=root, copy=copy, harness=harness)
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, cwd=Path.cwd()
    )
    if done.returncode == 77:
        pytest.skip("no mount namespace is to be had here")
    assert "first: 2\n" in done.stdout, done.stderr
    assert "second: 0\n" in done.stdout, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("No space left on device\n")
    assert_as_if_nothing_had_been("in_training", copy, undisturbed)
