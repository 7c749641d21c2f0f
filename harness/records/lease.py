"""Claims with leases and fencing: who runs a trial, on any storage, without locks.

A claim is one small object, changed by compare-and-set alone. Its owner renews it with a new random
beat every third of the lease's time. It may be taken over once its bytes have not changed for that
time on the observer's own monotonic clock, so that no two clocks are compared; at once if its
process is known to be dead, or by whom its owner was started and who knows that it is lost.

A taken-over owner may be frozen or cut off, and still come back. So each owner that took over
without being sure writes to a place of its own, numbered by its epoch, and the trial's result,
created once, names the place that counts.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from harness import environment
from harness.records.storage import Storage
from harness.tools.inputs import cut
from harness.tools.notes import waiting
from harness.tools.processes import Process, this_process

_Taken = TypeVar("_Taken")
_holding: set[str] = set()  # the owners that this process is
LOOK_EVERY = 0.2  # seconds between two looks at a claim that is awaited


@dataclass(frozen=True)
class Claim:
    """What the claim's object says. `held` turns false when its owner lets go."""

    owner: str
    epoch: int  # counts owners, from 1
    place: int  # number of the place that the owner writes to; 0 is the trial's own folder
    process: Process
    held: bool = True
    beat: str = ""

    def is_free(self) -> bool:
        """Whether nobody holds it: its owner let go, or is known to be dead."""
        if self.process == this_process():  # that may have failed to say that it let go
            return not self.held or self.owner not in _holding
        return not self.held or self.process.is_dead()

    def packed(self) -> bytes:
        """As stored, with a new beat."""
        return json.dumps(asdict(replace(self, beat=secrets.token_hex(8)))).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> Claim:
        """The claim that `packed` stored. Raises ValueError."""
        try:
            content = json.loads(data)
            claim = cls(**{**content, "process": Process(**content["process"])})
            whole = [type(claim.epoch), type(claim.place), type(claim.held)] == [int, int, bool]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"it is no claim ({cut(str(error))})") from None
        if not whole:
            raise ValueError("it is no claim")
        return claim


class Busy(RuntimeError):
    """Another process holds the claim."""


class ClaimLost(Busy):
    """This process held the claim, and another has taken it over, or ended the trial."""


class Watch:
    """An observer of claims: which have not changed for as long as a lease lasts.

    Only looks that follow each other closely count: while the observer slept, or could not reach
    the storage, the owner perhaps could not either.
    """

    def __init__(self) -> None:
        self.seconds: float = environment.LEASE_SECONDS.get()
        self.seen: dict[str, tuple[str, float, float]] = {}  # version, since when, last look

    def is_stale(self, key: str, version: str) -> bool:
        """Note the claim's version; whether it has been this one for a lease's time."""
        now = time.monotonic()
        known, since, looked = self.seen.get(key, ("", now, now))
        if known != version or now - looked > self.seconds / 2:
            since = now
        self.seen[key] = version, since, now
        return now - since >= self.seconds


class Lease:
    """A claim that this process holds, and renews until it lets go."""

    def __init__(self, storage: Storage, key: str, claim: Claim, version: str) -> None:
        self.storage, self.key, self.claim = storage, key, claim
        self.lost = threading.Event()
        self._version = version
        self._changing, self._over = threading.Lock(), threading.Event()
        self._every: float = environment.LEASE_SECONDS.get() / 3
        threading.Thread(target=self._renew, name=f"lease of {key}", daemon=True).start()

    def check(self) -> None:
        """Raise ClaimLost if the claim is known to be lost."""
        if self.lost.is_set():
            raise ClaimLost(f"{self.key} was taken over while {this_process()} did not renew it")

    def confirm(self) -> None:
        """Renew the claim now. Raises ClaimLost, or OSError."""
        self._swap(self.claim)
        self.check()

    def release(self) -> None:
        """Let go. A storage that fails then leaves the claim to be found stale."""
        self._over.set()
        _holding.discard(self.claim.owner)
        if not self.lost.is_set():
            with contextlib.suppress(OSError):
                self._swap(replace(self.claim, held=False))

    def _renew(self) -> None:
        while not self._over.wait(self._every) and not self.lost.is_set():
            # Nobody takes over while the storage fails for all; if only we are cut off, the next
            # swap tells.
            with contextlib.suppress(OSError):
                self._swap(self.claim)

    def _swap(self, claim: Claim) -> None:
        with self._changing:
            if self._over.is_set() and claim.held:
                return
            newer = self.storage.swap(self.key, claim.packed(), self._version)
            if newer is None:
                newer = self._ours()
            if newer is None:
                self.lost.set()
            else:
                self._version = newer

    def _ours(self) -> str | None:
        """The claim's version if it is still ours: the answer to a swap may have been lost."""
        stored = self.storage.read(self.key)
        if stored is None:
            return None
        try:
            there = Claim.unpacked(stored.data)
        except ValueError:
            return None
        same = (there.owner, there.epoch) == (self.claim.owner, self.claim.epoch)
        return stored.version if same else None


def claim_key(name: str) -> str:
    """The key of the claim of this name: in a folder of its own, which is soon swept."""
    return f".claims/{name}/claim.json"


def acquire(
    storage: Storage,
    key: str,
    what: str,
    *,
    owner: str | None = None,
    instead_of: str | None = None,
    watch: Watch | None = None,
) -> Lease:
    """Take the claim at `key`.

    A claim that is held is taken over if its process is known to be dead, if `watch` has seen it
    stale, or if its owner is `instead_of`, whom the caller knows to be lost.

    Raises:
        Busy: another process holds it.
        ValueError: the object there is no claim.
    """
    me = Claim(owner or secrets.token_hex(8), 1, 0, this_process())
    _holding.add(me.owner)  # before anybody can see the claim
    try:
        lease = _take(storage, key, what, me, instead_of, watch)
    except BaseException:
        _holding.discard(me.owner)
        raise
    storage.sweep(key.rpartition("/")[0])
    return lease


def _take(
    storage: Storage, key: str, what: str, me: Claim, instead_of: str | None, watch: Watch | None
) -> Lease:
    while True:
        stored = storage.read(key)
        if stored is None:
            version = storage.create(key, me.packed())
            if version is not None:
                return Lease(storage, key, me, version)
            continue
        try:
            held = Claim.unpacked(stored.data)
        except ValueError as error:
            raise ValueError(f"{storage.place(key)} is damaged: {error}; remove it") from None
        next_one = _successor(held, me, instead_of, watch, key, stored.version)
        if next_one is None:
            raise Busy(f"{what} is being run by {cut(str(held.process))}")
        version = storage.swap(key, next_one.packed(), stored.version)
        if version is not None:
            return Lease(storage, key, next_one, version)


def silent_owner(storage: Storage, key: str, watch: Watch) -> str | None:
    """Whom to `acquire` the claim `instead_of`, which is nobody, "", if it is free anyway; None if
    its owner may live. Raises ValueError if the object there is no claim."""
    stored = storage.read(key)
    if stored is None:
        return ""
    claim = Claim.unpacked(stored.data)
    if claim.is_free():
        return ""
    return claim.owner if watch.is_stale(key, stored.version) else None


def _successor(
    held: Claim, me: Claim, instead_of: str | None, watch: Watch | None, key: str, version: str
) -> Claim | None:
    """The claim to put in the place of this one; None if its owner may live."""
    epoch = held.epoch + 1
    if held.is_free():  # it writes no more, so its place is, too
        return replace(me, epoch=epoch, place=held.place)
    if held.owner == instead_of or (watch is not None and watch.is_stale(key, version)):
        return replace(me, epoch=epoch, place=epoch)
    return None


@contextlib.contextmanager
def held(
    storage: Storage,
    key: str,
    what: str,
    *,
    owner: str | None = None,
    instead_of: str | None = None,
    watch: Watch | None = None,
) -> Iterator[Lease]:
    """Hold the claim at `key` for the block; see `acquire`."""
    lease = acquire(storage, key, what, owner=owner, instead_of=instead_of, watch=watch)
    try:
        yield lease
    finally:
        lease.release()


def when_free(take: Callable[[Watch], _Taken]) -> _Taken:
    """What `take` returns, called again until it raises Busy no more; people are told."""
    watch = Watch()
    try:
        return take(watch)
    except Busy as busy:
        with waiting(str(busy)):
            while True:
                time.sleep(LOOK_EVERY)
                with contextlib.suppress(Busy):
                    return take(watch)


__all__ = [
    "Busy",
    "Claim",
    "ClaimLost",
    "Lease",
    "Watch",
    "acquire",
    "claim_key",
    "held",
    "silent_owner",
    "when_free",
]
