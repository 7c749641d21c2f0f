"""Folders that killed processes left; no Ray is needed."""

from harness.launch.local import folder as folders


def test_only_folders_whose_owner_is_gone_are_removed(tmp_path):
    alive, orphan, unmarked, other = (
        tmp_path / name for name in ("harness-ray-a", "harness-ray-b", "harness-ray-c", "other")
    )
    for folder in (alive, orphan, unmarked, other):
        folder.mkdir()
        (folder / "token").write_text("secret")
    folders.own(alive)
    for folder in (orphan, other):
        (folder / folders.OWNED).touch()
    folders.remove_orphans(tmp_path)
    assert sorted(tmp_path.iterdir()) == [alive, unmarked, other]
    assert (alive / "token").exists()
