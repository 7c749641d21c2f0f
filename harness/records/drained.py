"""Nodes that are to get no trials: `drained/<node>` in the store, until somebody removes the mark.

For where Ray's own drain is out of reach: `ray://` clients, a job's prolog, a maintenance script.
"""

from __future__ import annotations

import re
import secrets

from harness.records.store import Store
from harness.tools.inputs import shown
from harness.tools.processes import this_process

_FOLDER = "drained/"
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}", re.ASCII)


def mark_drained(store: Store, node: str) -> bool:
    """Drain a node by its host name or address; false if it is drained already.

    Raises:
        ValueError: no node can have this name.
        OSError: the store fails.
    """
    # A bucket takes equal bytes for the answer to its own request, lost on the way.
    by = f"{this_process()} {secrets.token_hex(8)}"
    return store.storage.create(_key(node), by.encode()) is not None


def unmark_drained(store: Store, node: str) -> bool:
    """Give a node back to launches; false if it was not drained. Raises as `mark_drained`."""
    was = store.storage.exists(_key(node))
    store.storage.delete(_key(node))
    return was


def drained_nodes(store: Store) -> dict[str, float]:
    """The drained nodes, sorted, and since when, in seconds since the epoch by the store's clock.
    One listing. Raises OSError."""
    found = {one.key.removeprefix(_FOLDER): one.modified for one in store.storage.list(_FOLDER)}
    return dict(sorted(found.items()))


def is_name_of(mark: str, host: str, address: str) -> bool:
    """Whether a mark means the node of this host name and address. A host may be named with its
    domain in one place and without it in another."""
    if mark in (host, address):
        return True
    short = "." not in mark or "." not in host
    return short and bool(host) and mark.partition(".")[0] == host.partition(".")[0]


def _key(node: str) -> str:
    if not _NODE.fullmatch(node):
        raise ValueError(f"a node is named by its host name or address, not {shown(node)}")
    return f"{_FOLDER}{node}"


__all__ = ["drained_nodes", "is_name_of", "mark_drained", "unmark_drained"]
