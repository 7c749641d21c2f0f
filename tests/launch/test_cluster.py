"""Folders that killed processes left, and where `auto` looks; no Ray is needed."""

import pytest

from harness.launch import cluster


def test_only_folders_whose_owner_is_gone_are_removed(tmp_path):
    alive, orphan, unmarked, other = (
        tmp_path / name for name in ("harness-ray-a", "harness-ray-b", "harness-ray-c", "other")
    )
    for folder in (alive, orphan, unmarked, other):
        folder.mkdir()
        (folder / "token").write_text("secret")
    cluster._own(alive)
    for folder in (orphan, other):
        (folder / cluster.OWNED).touch()
    cluster._remove_orphans(tmp_path)
    assert sorted(tmp_path.iterdir()) == [alive, unmarked, other]
    assert (alive / "token").exists()


@pytest.fixture
def auto(tmp_path, monkeypatch):
    """An environment without any Ray; the folder in which one would leave its note."""
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


def test_auto_without_a_cluster_is_refused(auto):
    with pytest.raises(ValueError, match=r"^no Ray cluster runs on this machine \(address auto\)$"):
        cluster._probe("auto")


def test_auto_finds_what_ray_was_told_or_noted(auto, monkeypatch):
    (auto / "ray_current_cluster").write_text("127.0.0.1:1\n")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:1$"):
        cluster._probe("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:2$"):
        cluster._probe("auto")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("a:1", "a", 1), ("ray://a", "a", 10001), ("ray://a:5", "a", 5), ("[::1]:6379", "::1", 6379)],
)
def test_addresses_are_host_and_port(address, host, port):
    assert cluster._split(address) == (host, port)
