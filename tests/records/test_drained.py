"""Marks of drained nodes, in a folder and in a bucket."""

import secrets

import pytest

from harness.records.drained import drained_nodes, is_name_of, mark_drained, unmark_drained
from harness.records.store import Store


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_mark_is_made_once_and_holds_until_it_is_removed(kind, request, tmp_path):
    address = str(tmp_path / "store")
    if kind == "bucket":
        address = f"{request.getfixturevalue('moto')}/{secrets.token_hex(4)}"
    store = Store(address)
    assert drained_nodes(store) == {}
    nodes = ("gpu-8.lab.example", "10.0.0.7", "fe80::1")
    assert [mark_drained(store, node) for node in nodes] == [True] * 3
    assert not mark_drained(store, "10.0.0.7")
    assert list(drained_nodes(Store(address))) == sorted(nodes)
    assert not store.has_records()
    assert [unmark_drained(store, "10.0.0.7") for _ in range(2)] == [True, False]
    assert list(drained_nodes(store)) == ["fe80::1", "gpu-8.lab.example"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "é", "a" * 300, ".tmp-x"])
def test_what_is_no_name_of_a_node_is_refused(tmp_path, name):
    for change in (mark_drained, unmark_drained):
        with pytest.raises(ValueError, match="a node is named by its host name or address, not "):
            change(Store(tmp_path), name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mark", "means"),
    [
        ("gpu-7", True),
        ("gpu-7.lab.example", True),
        ("10.0.0.7", True),
        ("gpu-8", False),
        ("gpu-77", False),
        ("10.0.0.77", False),
        ("10", False),
    ],
)
def test_a_host_has_a_name_with_and_without_domain_and_an_address(mark, means):
    assert is_name_of(mark, "gpu-7", "10.0.0.7") == means


def test_two_domains_are_two_hosts():
    assert is_name_of("gpu-7", "gpu-7.lab.example", "10.0.0.7")
    assert not is_name_of("gpu-7.far.example", "gpu-7.lab.example", "10.0.0.7")
