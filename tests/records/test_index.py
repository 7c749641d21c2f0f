"""The index: results without reading them, and never one that does not lie in the store."""

import secrets

import pyarrow as pa
import pytest

from harness.planning.estimate import measured_rates
from harness.planning.plan import Plan
from harness.records import index
from harness.records.checksums import KEY
from harness.records.collect import collect
from harness.records.files import write_json
from harness.records.index import Results, add_to_index, copy_of, read_index, tidy_index
from harness.records.schemas import table_bytes
from harness.records.store import Store
from harness.suite import Comparison, FullSpec, Suite, TaskSpec

from .conftest import end
from .test_collect import entry
from .test_damage import DAMAGES

PLAN = {"trials": [entry(one) for one in ("aa", "bb", "cc")]}


@pytest.fixture(params=["folder", "moto"])
def indexed(request, tmp_path):
    """A store with three ended trials and one that has begun, and their index."""
    moto = request.param == "moto"
    store = Store(
        f"{request.getfixturevalue('moto')}/{secrets.token_hex(4)}" if moto else tmp_path / "store"
    )
    for seed, trial_id in enumerate(("aa", "bb", "cc")):
        end(store, trial_id, seed=seed, test_metric=seed / 7, seconds_total=2.0, device="cpu")
    store.trial("dd").begin({"seed": 9}, {})
    collect(store, "demo", PLAN)
    return store


@pytest.fixture
def read(monkeypatch, indexed):
    """The keys of all trials' files that are read from now on."""
    kind, keys = type(indexed.storage), []
    whole = kind.read

    def reading(self, key, *rest):
        if key.startswith("trials/"):
            keys.append(key)
        return whole(self, key, *rest)

    monkeypatch.setattr(kind, "read", reading)
    return keys


def results(store, *trials):
    found = Results(store)
    return {one: found.result(one) for one in trials or ("aa", "bb", "cc", "dd", "none")}


def truth(store, *trials):
    return {one: store.trial(one).result() for one in trials or ("aa", "bb", "cc", "dd", "none")}


def test_it_gives_what_lies_there_without_reading_it(indexed, read):
    found = results(indexed)
    assert read == []
    assert found == truth(indexed)
    assert len(read) > 0  # the test sees what is read


def gone(store):
    store.trial("bb").storage.delete_all("trials/bb/")


def wiped(store):
    store.trial("bb").wipe()


def run_again(store):
    store.trial("bb").wipe()
    end(store, "bb", seed=1, status="diverged", test_metric=None)


def another(store):
    end(store, "ee", seed=4)


@pytest.mark.parametrize("change", [gone, wiped, run_again, another])
def test_a_copy_counts_only_while_its_result_is_the_one_that_was_copied(indexed, change):
    change(indexed)
    known = ("aa", "bb", "cc", "dd", "ee")
    assert results(indexed, *known) == truth(indexed, *known)
    found = Results(indexed)
    assert [found.ended(one) for one in known] == [indexed.trial(one).ended() for one in known]
    collect(indexed, "demo", PLAN)
    assert results(indexed, *known) == truth(indexed, *known)


def segments(store):
    return [f"index/{name}" for name in store.storage.children("index/")]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "link" not in name])
def test_whatever_becomes_of_a_segment_results_are_true(tmp_path, damage):
    store = Store(tmp_path)
    end(store, "aa")
    collect(store, "demo", {"trials": [entry("aa")]})
    (segment,) = segments(store)
    DAMAGES[damage](store.root / segment)
    assert results(store) == truth(store)
    collect(store, "demo", {"trials": [entry("aa")]})
    assert results(store) == truth(store)


def test_a_segment_of_a_newer_harness_is_left_alone(indexed):
    data = table_bytes(pa.table({"x": [1]}).replace_schema_metadata({"version": "2"}))
    indexed.storage.write(f"index/{index._name_of(data)}", data)
    assert results(indexed) == truth(indexed)
    assert index._name_of(data) not in read_index(indexed)[1]


def test_many_segments_become_one_without_what_is_stale(indexed, monkeypatch):
    for segment in segments(indexed):
        indexed.storage.delete(segment)
    for trial_id in ("aa", "bb", "cc"):
        add_to_index(indexed, copy_of(indexed, trial_id))
    indexed.storage.write("index/torn.parquet", b"torn")
    indexed.trial("bb").wipe()
    tidy_index(indexed)
    assert len(segments(indexed)) == 4
    monkeypatch.setattr(index, "SEGMENTS", 3)
    tidy_index(indexed)
    assert len(segments(indexed)) == 1
    assert {trial_id for trial_id, _ in read_index(indexed)[0]} == {"aa", "cc"}
    assert results(indexed) == truth(indexed)


def test_what_is_not_sound_is_not_copied(store):
    trial = end(store, "aa")
    old = {key: value for key, value in trial.result().items() if key != KEY}
    write_json(trial.path / "result.json", old)  # as before checksums
    end(store, "bb").path.joinpath("result.json").write_text("{}")
    assert [copy_of(store, one) for one in ("aa", "bb", "none")] == [{}, {}, {}]
    collect(store, "demo", {"trials": [entry("aa")]})
    assert not store.storage.children("index/")
    assert Results(store).result("aa") == old


def test_rates_of_a_store_come_from_it(indexed, read):
    rates = measured_rates(indexed)
    assert read == []
    assert rates == {"cpu": {"": 5e11, "digits": 5e11}}


def test_a_plan_reads_no_trial_and_sees_new_ones_when_told(indexed, read):
    """On a disk it sees them at once; in a bucket it is told of them, or looks."""
    comparison = Comparison(
        task=TaskSpec(name="digits"), arms={"full": FullSpec()}, seeds=tuple(range(4))
    )
    suite = Suite(name="planned", comparisons=(comparison,))
    ids = [row.spec.trial_id for row in Plan(suite, indexed).rows]
    for trial_id in ids[:2]:
        end(indexed, trial_id)
    collect(indexed, "planned", {"trials": [entry(one) for one in ids]})
    read.clear()
    plan = Plan(suite, indexed)
    states = [plan.state(row) for row in plan.rows]
    assert (states, read) == (["completed"] * 2 + ["missing"] * 2, [])
    end(indexed, ids[2], status="diverged")
    plan.found.learn(ids[2])
    assert [plan.state(row) for row in plan.rows][2:] == ["diverged", "missing"]
    end(indexed, ids[3], status="failed")
    plan.look()
    assert [plan.state(row) for row in plan.rows][2:] == ["diverged", "failed"]
    plan.forget(["failed"], plan.rows)
    assert plan.state(plan.rows[3]) == "missing"
    plan.wipe()
    assert plan.state(plan.rows[3]) == "missing"


def test_kept_states_are_known_from_the_listing(indexed, read):
    for step in (20, 3):
        indexed.trial("bb").save_fork(step, {}, {})
    indexed.trial("bb").hold_forks("study")
    found = Results(indexed)
    assert [found.forks(one) for one in ("aa", "bb", "none")] == [[], [3, 20], []]
    assert read == []
