"""Ask and tell: the same study gives the same suggestions, and what has ended stays so."""

import os
import signal
import warnings

import pytest
from optuna.trial import TrialState
from sqlalchemy import Engine, event

from harness.records.lease import Busy
from harness.records.store import Store
from harness.tune import Budget, Study
from harness.tune.search.ask_and_tell import open_search
from harness.tune.search.suggest import GENERATION, sobol, suggest

from .conftest import fields
from .driving import drive, end, score

KINDS = [
    {"sampler": "tpe"},
    {"sampler": "tpe", "goal": "pareto", "minimise_state_dim": False},
    {"sampler": "nsga2"},
    {"sampler": "nsga2", "goal": "pareto"},
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: " ".join(map(str, k.values())))


@kinds
def test_batches_of_enqueued_sobol_and_sampled_candidates(make_study, store, kind):
    study = make_study(**kind)
    asked = drive(study, None, store, batches=4)
    assert [a.number for a, _ in asked] == list(range(12))
    assert [a.origin for a, _ in asked] == ["enqueued", *["sobol"] * 3, *["sampler"] * 8]
    assert asked[0][0].params == study.enqueued()[0]
    assert [a.params for a, _ in asked[1:4]] == sobol(study)
    arms = [study.arm(a.params) for a, _ in asked]
    assert len({arm.model_dump_json() for arm in arms}) == 12  # nothing is asked twice
    assert asked[5][1] == "failed"
    assert {state for _, state in asked} >= {"complete", "failed"}
    assert (store.root / "optuna.db").is_file()


@kinds
def test_the_order_and_the_moment_of_tells_do_not_matter(make_study, tmp_path, kind):
    study = make_study(**kind)
    forward = drive(study, None, Store(tmp_path / "one"), batches=4)
    assert drive(study, None, Store(tmp_path / "two"), batches=4, order=-1) == forward


@kinds
def test_what_became_of_its_own_batch_does_not_change_a_suggestion(make_study, store, kind):
    study = make_study(**kind)
    drive(study, None, store, batches=5)
    with open_search(study, None, store) as search:
        before = search._trials()
        ended = suggest(study, before, 14, 12)
        assert ended.params == search.batch(4)[2].params
        # What an earlier batch came to does change it.
        assert suggest(study, before, 14, 0).params != ended.params


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_another_seed_searches_elsewhere(make_study, tmp_path, sampler):
    one = drive(make_study(sampler=sampler), None, Store(tmp_path / "one"))
    two = drive(make_study(sampler=sampler, sampler_seed=1), None, Store(tmp_path / "two"))
    assert all(a.params != b.params for (a, _), (b, _) in zip(one[1:], two[1:], strict=True))


def test_tpe_goes_to_where_it_is_good(make_study, store):
    budget = Budget(candidates=40)
    study = make_study(goal="pareto", sampler="tpe", startup=8, batch=4, enqueue=(), budget=budget)
    with open_search(study, None, store) as search:
        for k in range(10):
            for a in search.batch(k):
                accuracy, _ = score(a.params)
                search.tell(a.number, (accuracy, 1e9))  # cost alike: one objective counts
        found = [score(a.params)[0] for k in range(10) for a in search.batch(k)]
    assert sum(found[-8:]) / 8 > sum(found[:8]) / 8 + 0.03


def test_nsga2_breeds_from_what_was_told(make_study, store):
    study = make_study(sampler="nsga2", goal="pareto")
    drive(study, None, store, batches=5)
    with open_search(study, None, store) as search:
        trials = search._trials()
    generations = [t.system_attrs[GENERATION] for t in trials]
    assert generations == sorted(generations)
    assert generations[:4] == [0] * 4  # the enqueued and the Sobol points
    assert generations[-1] >= 2
    parents = {(k, v) for t in trials[:6] for k, v in t.params.items() if isinstance(v, float)}
    children = [t.params.items() for t, g in zip(trials, generations, strict=True) if g == 1]
    related = [child for child in children if parents & set(child)]  # the others mutated
    assert len(related) > len(children) / 2


# A kill at any moment


def killed_in_its_second_write(study, url, store):
    """Drive the study in a child that is killed as it commits its second write; whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    code = 1
    try:
        writes = []
        warnings.simplefilter("error")

        @event.listens_for(Engine, "after_cursor_execute")
        def note(connection, cursor, statement, *_):
            if statement.split()[0] in ("INSERT", "UPDATE", "CREATE"):
                connection.info["wrote"] = True

        @event.listens_for(Engine, "commit")
        def kill(connection):
            if connection.info.pop("wrote", False):
                writes.append(connection)
                if len(writes) == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        drive(study, url, store)
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=["tpe", "nsga2"])
def test_a_study_killed_at_every_write_is_as_if_undisturbed(make_study, tmp_path, kind):
    """Each child commits one transaction and dies with the next whole but uncommitted."""
    study = make_study(**kind)
    undisturbed = drive(study, None, Store(tmp_path / "calm"))
    store = Store(tmp_path / "killed")
    kills = 0
    while killed_in_its_second_write(study, None, store):
        kills += 1
        assert kills < 60
    assert kills > 20  # for each of nine candidates one to be asked, one or more to end
    assert drive(study, None, store) == undisturbed


def test_a_batch_asked_in_part_is_asked_on(make_study, tmp_path):
    study = make_study()
    calm, store = drive(study, None, Store(tmp_path / "calm")), Store(tmp_path / "killed")
    drive(study, None, store, batches=2)
    with open_search(study, None, store) as search:
        search._ask(6, 6)
        end(search, study, search.batch(1)[0])  # told again: nothing happens
    assert drive(study, None, store) == calm


# Ends


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A search whose first batch is asked, and whose candidate 0 is complete."""
    store = Store(tmp_path_factory.mktemp("ends"))
    with open_search(Study(**fields()), None, store) as search:
        search.batch(0)
        search.tell(0, (1e9,), -0.01)
        yield search


def test_an_end_told_twice_is_one(make_study, store):
    with open_search(make_study(), None, store) as search:
        search.batch(0)
        told_twice(search)


def told_twice(search):
    search.tell(0, (1e9,), -0.01)
    search.tell(0, (1e9,), -0.01)
    search.stop(1, 0.2, "weak")
    search.stop(1, 0.2, "weak")
    search.fail(2, "diverged")
    search.fail(2, "diverged")
    assert [search.state(n) for n in range(3)] == ["complete", "stopped", "failed"]
    trials = search._trials()
    assert trials[0].constraints == {"deficit beyond the margin": -0.01}
    assert trials[1].user_attrs["why"] == "weak"
    assert trials[1].state == TrialState.PRUNED
    assert trials[2].user_attrs["why"] == "diverged"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.tell(0, (2e9,), -0.01), r"complete with \[1.*\]: it cannot end as complete"),
        (lambda s: s.stop(0, 0.1, "weak"), "candidate 0 is complete .* cannot end as stopped"),
        (lambda s: s.fail(0, "x"), "candidate 0 is complete .* cannot end as failed"),
        (lambda s: s.tell(1, (float("nan"),), 0.0), "needs finite values of train_flops"),
        (lambda s: s.tell(1, (1e9, 2e9), 0.0), "needs finite values of train_flops"),
        (lambda s: s.tell(1, (1e9,)), "constrained study was told a constraint of None"),
        (lambda s: s.tell(1, (1e9,), float("nan")), "told a constraint of nan"),
        (lambda s: s.tell(7, (1e9,), 0.0), "no candidate 7; 3 were asked"),
        (lambda s: s.state(-1), "no candidate -1"),
        (lambda s: s.batch(1), "candidate 1 has not ended: 3 cannot be asked"),
        (lambda s: s.batch(2), "candidate 1 has not ended"),
    ],
)
def test_another_end_and_what_cannot_be_are_refused(search, call, said):
    with pytest.raises(ValueError, match=said):
        call(search)
    assert search.asked == 3


def test_pareto_has_no_constraint_and_stops_nothing(make_study, store):
    with open_search(make_study(goal="pareto"), None, store) as search:
        search.batch(0)
        with pytest.raises(ValueError, match="only candidates of a constrained study"):
            search.stop(0, 0.1, "weak")
        with pytest.raises(ValueError, match="pareto study was told a constraint"):
            search.tell(0, (0.9, 1e9), 0.1)


def test_a_batch_that_skips_one_is_refused(make_study, store):
    with open_search(make_study(), None, store) as search:
        with pytest.raises(ValueError, match="candidate 0 has not ended: 0 cannot be asked"):
            search.batch(1)
        assert search.asked == 0


# One study, one driver


def test_another_study_of_the_same_name_is_refused(make_study, store):
    drive(make_study(), None, store, batches=1)
    tau = make_study().space.model_dump() | {"tau": {"low": 0.01, "high": 0.4, "log": True}}
    with (
        pytest.raises(ValueError, match=r"timing: batch is 3 there and 9 here \(and 1 more\)"),
        open_search(make_study(space=tau, batch=9), None, store),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"space\.tau\.high is 0.5 there and 0.4 here"),
        open_search(make_study(space=tau), None, store),
    ):
        pass
    with open_search(make_study(finalists=1), None, store) as search:
        assert search.asked == 3


def test_a_study_of_someone_else_is_refused(make_study, store):
    import optuna

    store.root.mkdir()
    url = f"sqlite:///{store.root}/optuna.db"
    optuna.create_study(storage=url, study_name="timing", directions=["minimize", "minimize"])
    with (
        pytest.raises(ValueError, match="a study timing that is none of the harness"),
        open_search(make_study(), None, store),
    ):
        pass


def test_a_second_driver_is_refused(make_study, store):
    with (
        open_search(make_study(), None, store),
        pytest.raises(Busy, match=f"study timing is being run by process {os.getpid()} on "),
        open_search(make_study(), None, store),
    ):
        pass
    with open_search(make_study(), None, store), open_search(make_study(name="b"), None, store):
        pass  # another study of the same store


@pytest.mark.slow
@kinds
def test_bookkeeping_of_500_candidates(make_study, store, kind):
    """Ask and tell take 0.3 s at most per candidate, on average and at the end."""
    import time

    study = make_study(**kind, startup=8, batch=4)
    seconds = []
    with open_search(study, None, store) as search:
        for k in range(125):
            begun = time.perf_counter()
            for asked in search.batch(k):
                end(search, study, asked)
            seconds.append((time.perf_counter() - begun) / 4)
    assert max(sum(seconds) / 125, sum(seconds[-10:]) / 10) <= 0.3
