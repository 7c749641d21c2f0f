"""The driver's loop and its signals, with a pool that works at once."""

import contextlib
import errno
import shutil
import signal
import time

import pytest

from harness.launch import Interrupted, Job, cadence, launch, under_way
from harness.launch.attempts import AVOID, Attempts
from harness.launch.pool import Slot
from harness.launch.under_way import Launch
from harness.records.store import Store, TrialDir
from harness.training.host.stops import Signals
from harness.training.trial import run_trial
from tests.launch.fakes import FakeJobs, Watcher, job, tiny


class FakePool:
    """One worker; jobs end as told by seed, at the next look: a list tells of each attempt."""

    autoscaler = None

    def want(self, waiting):
        pass

    def __init__(self, statuses=None, broken=False):
        self.statuses, self.broken = statuses or {}, broken
        self.slots, self.busy = [Slot(None, 1, 0.0)], []
        self.tried, self.nodes = [], []

    def check(self, job):
        pass

    def look_again(self):
        return []

    def ask_to_stop(self):
        self.busy = [slot for slot in self.busy if slot.not_before <= time.monotonic()]

    def slot_for(self, job, away=()):
        return None if self.busy or self.broken else self.slots[0]

    def can_spare(self, node_id, job):
        return False

    def name_of(self, node_id):
        return node_id

    def drained_for(self, job):
        return []

    def start(self, slot, job, store, *claim, not_before=0.0):
        slot.job, slot.not_before = job, not_before
        self.busy.append(slot)

    def wait(self, timeout):
        ended = [slot for slot in self.busy if slot.not_before <= time.monotonic()]
        if not ended:
            time.sleep(0.01)
        return ended

    def result(self, slot):
        self.busy.remove(slot)
        self.tried.append(slot.job.spec["seed"])
        status = self.statuses.get(slot.job.spec["seed"], "completed")
        return slot.job, status.pop(0) if isinstance(status, list) else status, "said so"


def all_of(jobs, pool, store, signals=None, sink=None, retries=0):
    run = Launch(pool, jobs, store, retries, sink or Watcher(), signals or Signals())
    return [(j.spec["seed"], o.status) for j, o in run.all(jobs.ready())]


class NeverReady(FakeJobs):
    """What is left needs what was left out."""

    def ready(self):
        return []


def test_a_launch_of_which_nothing_can_start_ends(tmp_path):
    jobs = NeverReady([job(tiny())])
    assert jobs.pending() == 1
    assert launch(jobs, tmp_path, address="127.0.0.1:1", progress=Watcher()) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", ["failed", "refused", "diverged", "fault"])
def test_what_waits_for_a_broken_prerequisite_is_not_awaited(tmp_path, status):
    jobs, sink = FakeJobs([job(tiny(0)), job(tiny(1))], [job(tiny(2))]), Watcher()
    ended = all_of(jobs, FakePool({0: status}), tmp_path, sink=sink)
    shown = {"refused": "failed", "fault": "faulted"}.get(status, status)
    assert ended == [(0, shown), (1, "completed")]
    assert (sink.snapshots[-1].waiting, sink.snapshots[-1].running) == (1, ())


@pytest.mark.parametrize(
    ("attempts", "status", "noted"),
    [
        (["fault", "completed"], "completed", 1),
        (["fault", "busy", "fault", "busy", "diverged"], "diverged", 2),
        (["fault", "fault", "fault"], "faulted", 3),
        (["refused"], "failed", None),
    ],
)
def test_only_faults_of_the_machine_are_tried_again(tmp_path, attempts, status, noted):
    jobs = FakeJobs([job(tiny(0))])
    assert all_of(jobs, FakePool({0: attempts}), tmp_path, retries=2) == [(0, status)]
    assert attempts == []
    failure = Store(tmp_path).trial(tiny(0).trial_id).failure()
    assert (failure and failure["attempt"]) == noted


def test_a_retried_trial_keeps_its_place_while_it_waits(tmp_path):
    """It does not stand behind what had not begun when it failed."""
    pool = FakePool({0: ["fault", "completed"]})
    jobs = FakeJobs([job(tiny(seed)) for seed in range(3)])
    ended = all_of(jobs, pool, tmp_path, retries=1)
    assert pool.tried == [0, 0, 1, 2]
    assert [seed for seed, _ in ended] == [0, 1, 2]


def test_the_longest_of_a_stage_goes_first_and_a_retried_one_before_all(tmp_path):
    works = {0: (0, 5.0), 1: (1, 90.0), 2: (0, 7.0), 3: (0, 7.0)}
    first = [job(tiny(seed), stage=stage, work=work) for seed, (stage, work) in works.items()]
    later = job(tiny(4), work=6.0)
    pool = FakePool({2: ["fault", "completed"]})

    jobs = FakeJobs(first)
    jobs.ready = lambda: _once(jobs, later)
    all_of(jobs, pool, tmp_path, retries=1)
    assert pool.tried == [2, 2, 3, 4, 0, 1]


def _once(jobs, later):
    """The stages of `jobs`; and when the first job has ended, `later`."""
    if jobs.outcomes and later.trial_id not in jobs.open | {*jobs.outcomes}:
        jobs.open.add(later.trial_id)
        return [later]
    return FakeJobs.ready(jobs)


LOST = "the node was lost (10.0.0.3)"


@pytest.mark.parametrize(("message", "pauses"), [(LOST, False), ("the disk is full", True)])
def test_only_what_the_same_machine_may_repeat_waits(message, pauses):
    attempts = Attempts(3)
    now = time.monotonic()
    attempts.begin("a", now)
    assert attempts.failed(Job("a", {"seed": 7}, "tiny"), message)
    assert attempts.why["a"].startswith("tiny, seed 7 is tried again ")
    assert (attempts.begin("a", now) > time.monotonic()) == pauses


class Pair(FakePool):
    """Two nodes with a worker each; what runs on node `bad` fails."""

    def __init__(self, message):
        super().__init__()
        self.slots = [Slot(None, 1, 0.0, node_id=node) for node in ("bad", "good")]
        self.message, self.banned, self.places = message, set(), []

    def slot_for(self, job, away=()):
        free = [one for one in self.slots if one not in self.busy and one.node_id not in away]
        return next((one for one in free if one.node_id not in self.banned), None)

    def can_spare(self, node_id, job):
        return bool(self.others({node_id}))

    def others(self, away):
        return {slot.node_id for slot in self.slots} - set(away) - self.banned

    def suspect(self, node_id, job):
        pass

    def ban(self, node_id):
        self.banned.add(node_id)
        return node_id

    def start(self, slot, job, store, *claim, not_before=0.0):
        super().start(slot, job, store, *claim, not_before=not_before)
        self.places.append((job.spec["seed"], slot.node_id))

    def wait(self, timeout):
        return super().wait(timeout)[:1]  # the other goes on for a while

    def result(self, slot):
        self.busy.remove(slot)
        return slot.job, *(("fault", self.message) if slot.node_id == "bad" else ("completed", ""))


def test_a_trial_goes_on_elsewhere_than_on_the_node_that_failed_it(tmp_path):
    """And before any that has not begun; those still use the node meanwhile."""
    jobs, pool = FakeJobs([job(tiny(seed)) for seed in range(3)]), Pair("a full disk")
    ended = all_of(jobs, pool, tmp_path, retries=3)
    assert dict(ended) == dict.fromkeys(range(3), "completed")
    assert pool.places[:4] == [(0, "bad"), (1, "good"), (2, "bad"), (0, "good")]


def test_nothing_more_is_tried_on_a_node_that_was_lost(tmp_path):
    jobs, pool = FakeJobs([job(tiny(seed)) for seed in range(3)]), Pair(LOST)
    all_of(jobs, pool, tmp_path, retries=1)
    assert [node for _, node in pool.places] == ["bad", "good", "good", "good"]


def test_a_node_whose_worker_cannot_be_reached_is_doubted(tmp_path):
    """Ray says so seconds before it knows that the node is lost."""
    pool = Pair("the worker cannot be reached: its connection broke")
    pool.suspect = lambda node_id, job: pool.banned.add(node_id)
    all_of(FakeJobs([job(tiny(seed)) for seed in range(3)]), pool, tmp_path, retries=1)
    assert [node for _, node in pool.places] == ["bad", "good", "good", "good"]


def test_the_only_node_is_tried_again(tmp_path):
    pool = FakePool({0: ["fault", "completed"]})
    pool.slots[0].node_id = "only"
    assert all_of(FakeJobs([job(tiny(0))]), pool, tmp_path, retries=1) == [(0, "completed")]


def test_a_trial_is_not_kept_away_for_ever(monkeypatch):
    attempts, pool, slot = Attempts(3), Pair(""), Slot(None, 1, 0.0, node_id="bad")
    attempts.leave("a", slot)
    wanted, now = Job("a", {}, "a"), time.monotonic()
    assert attempts.away(pool, wanted, now) == {"bad"}
    assert attempts.away(pool, wanted, now + AVOID + 1) == set()


def test_a_trial_that_was_told_to_go_goes_on_and_that_is_no_attempt(tmp_path):
    jobs, pool = (
        FakeJobs([job(tiny(0))]),
        FakePool({0: ["interrupted", "interrupted", "completed"]}),
    )
    assert all_of(jobs, pool, tmp_path, retries=0) == [(0, "completed")]
    assert Store(tmp_path).trial(tiny(0).trial_id).failure() is None


@pytest.fixture
def quick(monkeypatch):
    """Looks at the trials of other launches, and what is shown, at every turn of the loop."""
    monkeypatch.setattr(under_way, "ELSEWHERE_EVERY", 0.0)
    monkeypatch.setattr(under_way, "SHOW_EVERY", 0.0)
    monkeypatch.setattr(cadence, "SHARE", 1.0)


@pytest.mark.usefixtures("quick")
def test_a_trial_that_another_launch_lets_go_of_is_run_here(tmp_path):
    """However often it was busy, that was no attempt; it is not tried while the other has it."""
    jobs, held, sink = FakeJobs([job(tiny(0)), job(tiny(1))]), contextlib.ExitStack(), Watcher()
    held.enter_context(Store(tmp_path).trial(tiny(0).trial_id).claim())
    statuses = ["busy", "busy", "fault", "completed"]
    sink.callback = lambda snapshot: snapshot.done and held.close()
    pool = FakePool({0: statuses})
    ended = all_of(jobs, pool, tmp_path, sink=sink, retries=1)
    assert ended == [(1, "completed"), (0, "completed")]
    assert statuses == []
    assert "waiting for 1 trial that another launch runs" in {s.waits for s in sink.snapshots}
    assert Store(tmp_path).trial(tiny(0).trial_id).failure()["attempt"] == 1


@pytest.mark.usefixtures("quick")
def test_the_result_of_another_launch_is_taken(tmp_path, monkeypatch):
    """Also of a trial that this launch had not begun: no worker gets it."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    store, sink = Store(tmp_path), Watcher()
    for seed in (1, 2):
        run_trial(tiny(seed), store)
    jobs, pool = FakeJobs([job(tiny(seed)) for seed in range(3)]), FakePool({0: ["busy"]})
    with store.trial(tiny(0).trial_id).claim():

        def end_elsewhere(snapshot):
            if snapshot.elsewhere and not (held := store.trial(tiny(0).trial_id)).ended():
                shutil.copytree(store.trial(tiny(1).trial_id).path, held.path)

        sink.callback = end_elsewhere
        ended = all_of(jobs, pool, tmp_path, sink=sink)
    # The copy is another trial's record, which is damage and not an outcome.
    assert ended == [(1, "completed"), (2, "completed"), (0, "failed")]
    assert "damaged" in jobs.outcomes[tiny(0).trial_id].message
    assert all(outcome.elsewhere for outcome in jobs.outcomes.values())
    seconds = store.trial(tiny(1).trial_id).result()["record"]["seconds_spent"]
    assert jobs.outcomes[tiny(1).trial_id].seconds == seconds


def test_a_full_disk_that_cannot_note_a_failure_does_not_end_the_launch(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "failure.json")

    monkeypatch.setattr(TrialDir, "write_failure", full)
    jobs, pool, sink = FakeJobs([job(tiny(0))]), FakePool({0: ["fault", "completed"]}), Watcher()
    assert all_of(jobs, pool, tmp_path, sink=sink, retries=1) == [(0, "completed")]
    assert "cannot be noted: failure.json: No space left on device" in " ".join(sink.said)


def test_jobs_for_which_every_node_was_lost_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(under_way, "NODES_WAIT", 0.0)
    jobs = FakeJobs([job(tiny(0)), job(tiny(1))], [job(tiny(2))])
    assert all_of(jobs, FakePool(broken=True), tmp_path) == [(0, "faulted"), (1, "faulted")]
    assert "no node could hold it" in jobs.outcomes[tiny(0).trial_id].message


def test_a_node_is_not_given_up_while_something_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(under_way, "NODES_WAIT", 0.0)
    jobs = FakeJobs([job(tiny(seed)) for seed in range(3)])
    assert all_of(jobs, FakePool(), tmp_path) == [(seed, "completed") for seed in range(3)]


def test_a_stop_keeps_what_had_ended_and_starts_nothing_more(tmp_path):
    signals = Signals()
    signals.watched = True

    def stop(snapshot):
        if snapshot.running:
            signals._handle(signal.SIGINT, None)

    jobs = FakeJobs([job(tiny(0)), job(tiny(1))])
    with pytest.raises(Interrupted) as stopped:
        all_of(jobs, FakePool(), tmp_path, signals, Watcher(stop))
    assert [j.spec["seed"] for j, _ in stopped.value.outcomes] == [0]


class Deaf(FakePool):
    """Its worker does not come to an end."""

    def wait(self, timeout):
        time.sleep(timeout)
        return []


@pytest.mark.parametrize(("urgent", "least", "most"), [(False, 0.5, 5.0), (True, 0.0, 0.5)])
def test_a_stop_waits_a_little_unless_it_is_urgent(tmp_path, monkeypatch, urgent, least, most):
    monkeypatch.setattr(under_way, "GRACE", 0.6)
    monkeypatch.setattr(under_way, "TICK", 0.01)
    signals, start = Signals(), []

    def stop(snapshot):
        signals.asked, signals.urgent = True, urgent
        start.append(time.monotonic())

    with pytest.raises(Interrupted):
        all_of(FakeJobs([job(tiny())]), Deaf(), tmp_path, signals, Watcher(stop))
    assert least < time.monotonic() - start[-1] < most


def test_a_stop_is_answered_and_a_wait_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(under_way, "SHOW_EVERY", 0.0)
    signals, sink = Signals(), Watcher()
    sink.callback = lambda snapshot: snapshot.reason and setattr(signals, "asked", True)
    with pytest.raises(Interrupted):
        all_of(FakeJobs([job(tiny(0))]), FakePool({0: "fault"}), tmp_path, signals, sink, retries=3)
    reason = "tiny 0, seed 0 is tried again in 0.5 s: said so"
    assert {s.reason for s in sink.snapshots} == {"", reason}
    assert sink.said == ["stopping"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("the node was lost (10.0.0.3)", ["tiny 0, seed 0 is tried again now: {message}"]),
        ("the worker cannot be reached: it broke", []),  # a snapshot tells while it waits
    ],
)
def test_what_happened_is_said_with_its_node(tmp_path, message, said):
    pool, sink = Pair(message), Watcher()
    all_of(FakeJobs([job(tiny(0))]), pool, tmp_path, Signals(), sink, retries=3)
    assert [one for one in sink.said if "tried again" in one] == [
        one.format(message=message) for one in said
    ]
    failure = Store(tmp_path).trial(tiny(0).trial_id).failure()["message"]
    assert failure == message + ("" if said else " (bad)")


def test_a_job_for_which_there_is_no_room_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(under_way, "NODES_WAIT", 0.6)
    sink = Watcher()
    all_of(FakeJobs([job(tiny(0), cpus=4)]), FakePool(broken=True), tmp_path, sink=sink)
    assert "no node has room for 4 CPUs and 0 GPUs" in sink.snapshots[0].reason


def test_looks_through_a_large_plan_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cadence, "SHARE", 0.001)
    looks = []

    class Large(FakeJobs):
        def pending(self):
            looks.append(time.monotonic())
            time.sleep(0.01)
            return 0

    class Slow(FakePool):
        def wait(self, timeout):
            time.sleep(0.001)
            return list(self.busy) if time.monotonic() - start > 3 else []

    start = time.monotonic()
    assert all_of(Large([job(tiny(0))]), Slow(), tmp_path) == [(0, "completed")]
    assert len(looks) <= 3  # 10 ms each are a thousandth of 10 s; the last one is at the end


@pytest.mark.parametrize("concurrency", [0, -1, 10**9])
def test_a_concurrency_that_nobody_has_is_refused(tmp_path, concurrency):
    with pytest.raises(ValueError, match="concurrency must be from 1 to 10000, not"):
        launch(FakeJobs([job(tiny())]), tmp_path, concurrency=concurrency, progress=Watcher())


@pytest.mark.parametrize("name", ["HARNESS_THREADS", "HARNESS_RAY_START_SECONDS"])
def test_a_variable_that_says_nothing_is_refused_before_ray_starts(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "100000000")
    sink = Watcher()
    with pytest.raises(ValueError, match=f"^{name} must be a .* to .*, not '100000000'$"):
        launch(FakeJobs([job(tiny())]), tmp_path, progress=sink)
    assert sink.said == []
