"""A shared store: what one user makes, another of its group can go on with."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import traceback
from pathlib import Path

import pytest
import torch

from harness.records.files import make_shared, write_json
from harness.records.store import Store

from .conftest import end

OTHER_USER, GROUP = 65_533, 65_534


def modes(root):
    """Permission bits of everything below a folder, links aside."""
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}


@pytest.fixture
def shared():
    """A store in a setgid folder of a group, made by a user whose umask is 002."""
    folder = Path(tempfile.mkdtemp())  # pytest's folders are for their owner only
    folder.chmod(0o755)
    yield made(folder / "store")
    shutil.rmtree(folder)


def made(root):
    root.mkdir()
    os.chmod(root, 0o2775)
    before = os.umask(0o002)
    try:
        store = Store.open(root)
        with store.trial("ab").claim() as trial:
            trial.save_checkpoint({"w": torch.ones(1)}, {})
            trial.note_spent(1.0, 0)
            trial.save_fork(3, {"w": torch.ones(1)}, {})
            trial.hold_forks("study")
        end(store, "cd").save_model({"w": torch.ones(1)}, {})
        write_json(store.suite("demo").folder / "plan.json", {})
        make_shared(root / "optuna.db")
    finally:
        os.umask(before)
    return store


def test_permissions_follow_the_umask_and_the_group_the_folder(shared):
    for path, mode in modes(shared.root).items():
        assert mode == (0o2775 if path.is_dir() else 0o664), path
        assert path.stat().st_gid == shared.root.stat().st_gid


def test_a_private_umask_keeps_a_store_private(tmp_path):
    before = os.umask(0o077)
    try:
        store = Store.open(tmp_path / "mine")
        with store.trial("ab").claim() as trial:
            trial.save_checkpoint({"w": torch.ones(1)}, {})
    finally:
        os.umask(before)
    for path, mode in modes(store.root).items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_another_user_of_the_group_goes_on(shared):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for path in (shared.root, *shared.root.rglob("*")):
        os.chown(path, -1, GROUP)  # clears no setgid bit of a folder
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(OTHER_USER)
            os.umask(0o002)
            with shared.trial("ab").claim() as trial:
                trial.save_checkpoint({"w": torch.zeros(1)}, {})
                trial.drop_checkpoint()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (shared.trial("ab").path / "checkpoint").exists()
    with shared.trial("ab").claim():  # and the first user after them
        pass
