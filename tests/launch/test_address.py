"""What an address is, and where `auto` looks; no Ray is needed."""

import pytest

from harness.launch.address import _split, check_address


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
        check_address("auto")


def test_auto_finds_what_ray_was_told_or_noted(auto, monkeypatch):
    (auto / "ray_current_cluster").write_text("127.0.0.1:1\n")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:1$"):
        check_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:2$"):
        check_address("auto")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("a:1", "a", 1), ("ray://a", "a", 10001), ("ray://a:5", "a", 5), ("[::1]:6379", "::1", 6379)],
)
def test_addresses_are_host_and_port(address, host, port):
    assert _split(address) == (host, port)
