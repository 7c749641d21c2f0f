"""Folders that killed processes left; no Ray is needed."""

import os

from harness.launch.local import folder as folders


def test_only_folders_whose_owner_is_gone_are_removed(tmp_path):
    names = ("harness-ray-a", "harness-ray-b", "harness-ray-c", "harness-ray-d", "other")
    alive, orphan, unmarked, forgotten, other = (tmp_path / name for name in names)
    for folder in (alive, orphan, unmarked, forgotten, other):
        folder.mkdir()
        (folder / "token").write_text("secret")
    folders.own(alive)
    for folder in (orphan, other):
        (folder / folders.OWNED).touch()
    os.utime(forgotten, (0, 0))
    folders.remove_orphans(tmp_path)
    assert sorted(tmp_path.iterdir()) == [alive, unmarked, other]
    assert (alive / "token").exists()
