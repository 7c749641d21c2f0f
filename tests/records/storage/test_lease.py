"""Claims: one owner at a time, taken over from the dead and the silent, and harmless zombies."""

import contextlib
import json
import multiprocessing
import threading
import time
from dataclasses import replace

import pytest

from harness.records import lease as lease_module
from harness.records.lease import (
    Busy,
    Claim,
    ClaimLost,
    Lease,
    Watch,
    acquire,
    claim_key,
    silent_owner,
)
from harness.tools.processes import Process, this_process

from .test_storage import race

KEY, WHAT = claim_key("trial-ab"), "trial ab"
ELSEWHERE = Process("another machine", "elsewhere", 1, "1")


@pytest.fixture
def brief(monkeypatch):
    """A lease of a second."""
    monkeypatch.setenv("HARNESS_LEASE_SECONDS", "1")


@pytest.fixture
def clock(monkeypatch):
    """The observer's clock, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: now[0])
    return now


def held_elsewhere(storage, **changes):
    """A claim that a process of another machine holds."""
    claim = replace(Claim("them", 1, 0, ELSEWHERE), **changes)
    return storage.create(KEY, claim.packed())


def claim_in(storage):
    return Claim.unpacked(storage.read(KEY).data)


@contextlib.contextmanager
def taken(storage, **options):
    lease = acquire(storage, KEY, WHAT, **options)
    try:
        yield lease
    finally:
        lease.release()


def test_one_of_many_holds_a_claim(storage):
    def attempt(number):
        try:
            return acquire(storage, KEY, WHAT, owner=str(number))
        except Busy:
            return None

    (won,) = race(attempt)
    assert claim_in(storage).owner == won.claim.owner
    won.release()
    assert not claim_in(storage).held
    with taken(storage) as after:
        assert (after.claim.epoch, after.claim.place) == (2, 0)


def test_who_holds_it_is_named(storage):
    held_elsewhere(storage)
    with pytest.raises(Busy, match="trial ab is being run by process 1 on elsewhere"):
        acquire(storage, KEY, WHAT)


def die_holding(storage):
    acquire(storage, KEY, WHAT)


def test_the_dead_hold_nothing(tmp_path):
    from harness.records.storage import Folder

    storage = Folder(tmp_path)
    child = multiprocessing.get_context("fork").Process(target=die_holding, args=(storage,))
    child.start()
    child.join()
    assert claim_in(storage).held
    assert silent_owner(storage, KEY, Watch()) == ""
    with taken(storage) as lease:  # at once, and in the same place, since it writes no more
        assert (lease.claim.epoch, lease.claim.place) == (2, 0)


def test_a_process_number_used_again_is_another_process(storage):
    me = this_process()
    held_elsewhere(storage, process=replace(me, started="before"))
    with taken(storage) as lease:
        assert lease.claim.place == 0
    assert not me.is_dead()


def test_the_silent_are_taken_over_and_write_elsewhere(storage, clock):
    held_elsewhere(storage)
    watch = Watch()
    for _ in range(4):  # looks that follow each other
        with pytest.raises(Busy):
            acquire(storage, KEY, WHAT, watch=watch)
        clock[0] += 9.0
    with taken(storage, watch=watch) as lease:
        assert (lease.claim.epoch, lease.claim.place) == (2, 2)


def test_a_beat_in_time_keeps_a_claim(storage, clock):
    version, watch = held_elsewhere(storage), Watch()
    for _ in range(10):
        clock[0] += 14.0
        version = storage.swap(KEY, Claim("them", 1, 0, ELSEWHERE).packed(), version)
        assert silent_owner(storage, KEY, watch) is None


def test_time_in_which_nobody_looked_does_not_count(storage, clock):
    """The storage may have been away for all: then the owner could not renew its claim either."""
    held_elsewhere(storage)
    watch = Watch()
    assert silent_owner(storage, KEY, watch) is None
    clock[0] += 1000.0
    assert silent_owner(storage, KEY, watch) is None
    for _ in range(3):
        clock[0] += 11.0
        found = silent_owner(storage, KEY, watch)
    assert found == "them"


def test_a_launch_takes_over_at_once_from_its_own_lost_worker(storage):
    held_elsewhere(storage)
    with pytest.raises(Busy):
        acquire(storage, KEY, WHAT, instead_of="somebody else")
    with taken(storage, instead_of="them") as lease:
        assert (lease.claim.epoch, lease.claim.place) == (2, 2)


def test_a_zombie_stops_and_changes_nothing(storage, brief, monkeypatch):
    zombie = acquire(storage, KEY, WHAT, owner="zombie")
    zombie._over.set()  # it is frozen: it renews nothing
    with taken(storage, instead_of="zombie") as lease:
        zombie._over.clear()
        with pytest.raises(ClaimLost, match="was taken over while process"):
            zombie.confirm()
        with pytest.raises(ClaimLost):
            zombie.check()
        zombie.release()
        lease.confirm()
        assert claim_in(storage).owner == lease.claim.owner


def test_a_claim_is_renewed_while_it_is_held(storage, brief):
    with taken(storage) as lease:
        watch, end = Watch(), time.monotonic() + 2.0
        beats = set()
        while time.monotonic() < end:
            assert silent_owner(storage, KEY, watch) is None
            beats.add(claim_in(storage).beat)
            time.sleep(0.05)
        assert len(beats) > 3
        lease.check()


def test_a_storage_that_fails_for_a_while_loses_no_claim(storage, brief, monkeypatch):
    with taken(storage) as lease:
        swap, failing = type(storage).swap, threading.Event()

        def away(self, *arguments):
            failing.set()
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(type(storage), "swap", away)
        assert failing.wait(10)
        monkeypatch.setattr(type(storage), "swap", swap)
        lease.confirm()


def test_a_renewal_whose_answer_was_lost_loses_no_claim(storage):
    with taken(storage) as lease:
        storage.swap(KEY, lease.claim.packed(), lease._version)  # it arrived, we never heard
        lease.confirm()
        lease.confirm()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"owner": 1}'])
def test_what_is_no_claim_is_refused(storage, content):
    storage.create(KEY, content.encode())
    with pytest.raises(ValueError, match="is damaged: it is no claim") as caught:
        acquire(storage, KEY, WHAT)
    assert f"{KEY} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_claim_has_no_secrets_and_few_bytes(storage):
    """At 1,000 workers that renew every 10 s these are 100 requests a second, 30 kB/s."""
    with taken(storage):
        data = storage.read(KEY).data
    assert len(data) < 300
    assert set(json.loads(data)) == {"owner", "epoch", "place", "process", "held", "beat"}


def test_a_lease_ends_its_thread(tmp_path):
    from harness.records.storage import Folder

    with taken(Folder(tmp_path)) as lease:
        assert isinstance(lease, Lease)
        (thread,) = (t for t in threading.enumerate() if t.name == f"lease of {KEY}")
        assert thread.daemon
    thread.join(5)
    assert not thread.is_alive()
