"""How much memory there is."""

import pytest

from harness.tasks.storage import capacity as room


@pytest.mark.parametrize(
    ("line", "name", "value", "limited"),
    [
        ("0::/a/b", "a/memory.max", "12345678", True),
        ("0::/a/b", "memory.max", "12345678", True),
        ("0::/a/b", "a/b/memory.max", "max", False),
        ("5:memory:/c", "memory/c/memory.limit_in_bytes", "12345678", True),
        ("5:cpu,memory:/c", "memory/memory.limit_in_bytes", "12345678", True),
        ("5:cpu:/c", "memory/c/memory.limit_in_bytes", "12345678", False),
    ],
)
def test_a_control_group_limits_what_there_is(tmp_path, monkeypatch, line, name, value, limited):
    import psutil

    groups = tmp_path / "groups"
    (groups / name).parent.mkdir(parents=True)
    (groups / name).write_text(value)
    (tmp_path / "cgroup").write_text(f"{line}\n")
    monkeypatch.setattr(room, "CGROUPS", groups)
    monkeypatch.setattr(room, "OWN_CGROUP", tmp_path / "cgroup")
    swap = psutil.swap_memory().total
    assert (room.machine_memory() == 12345678 + swap) is limited
