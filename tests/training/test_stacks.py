"""Channels of their own orders in trials: trained, truncated, killed, resumed, stepped, reported.

They stand in for the layers of specs of kind `lru` (`tests.models.channel_layer`).
"""

import multiprocessing
import re
import signal
from statistics import mean

import pandas as pd
import pytest
import torch

from harness import tasks
from harness.cli.app import execute
from harness.models import load
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.reduction import decompositions
from harness.suite import load as load_suite
from harness.training.costs.flops import forward_flops, spectrum_flops, truncation_flops
from harness.training.trial import run_trial
from tests.models.channel_layer import Channels, stand_in

from .trials import assert_same, copy_source, run_in_child, stops_of, table_of, trial_spec

WIDTH = 4
MODEL = {"width": WIDTH, "state_dim": [8, 6], "dropout": 0.1}
SHORT = {"steps": 40, "evaluate_every": 10, "lr": 0.01}
WINDOW = {"kind": "in_training", "end": 0.6, "count": 3}


def spec_of(arm):
    return trial_spec(arm, model=MODEL, training=SHORT)


SPECS = {
    "full": spec_of({"kind": "full"}),
    "in_training": spec_of({**WINDOW, "tau": 0.05}),
    "sliced": spec_of({**WINDOW, "tau": 0.05, "moments": "slice", "keep": "random"}),
    "fixed": spec_of({**WINDOW, "rule": "fixed", "final": 2}),
    "pragmatic": spec_of(
        {**WINDOW, "rule": "pragmatic", "fraction": 0.7, "tolerance": 0.0, "end": 1.0}
    ),
    "post_hoc": spec_of({"kind": "post_hoc", "tau": 0.1, "scope": "global", "finetune_steps": 20}),
    "selected": spec_of({"kind": "post_hoc", "mean_dim": 3.5, "method": "last", "scope": "global"}),
    "hankel_regularized": spec_of({"kind": "hankel_regularized", "tau": 0.2}),
}


@pytest.fixture(autouse=True)
def channels(monkeypatch):
    stand_in(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trial of every arm that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        patch.setenv("HARNESS_DEVICE", "cpu")
        store = Store.open(tmp_path_factory.mktemp("whole"))
        for spec in SPECS.values():
            assert run_trial(spec, store)["status"] == "completed"
    return store


def record(store, name):
    return store.trial(SPECS[name].trial_id).result()["record"]


@pytest.mark.parametrize("name", SPECS)
def test_a_record_says_the_orders_their_largest_mean_and_total(name, whole):
    found = record(whole, name)
    orders = found["orders"]
    assert [len(block) for block in orders] == [WIDTH, WIDTH]
    assert found["state_dims"] == [max(block) for block in orders]
    assert found["state_dim_mean"] == mean(mean(block) for block in orders)
    assert found["state_dim_total"] == sum(map(sum, orders))
    ragged = any(len(set(block)) > 1 for block in orders)
    assert ragged == (
        name in {"in_training", "sliced", "post_hoc", "selected", "hankel_regularized"}
    )
    assert load(whole.trial(SPECS[name].trial_id).path).state_dims == found["state_dims"]


def test_every_event_says_the_orders_that_it_left(whole):
    rows = table_of(whole, SPECS["in_training"].trial_id, "truncations")
    now = {0: [8] * WIDTH, 1: [6] * WIDTH}
    assert {8, 16} <= {row["step"] for row in rows} <= {8, 16, 24}
    for row in rows:
        before, after = now[row["block"]], row["orders_after"]
        assert (row["dim_before"], row["dim_after"]) == (max(before), max(after))
        assert all(r <= n for r, n in zip(after, before, strict=True))
        now[row["block"]] = after
    assert [now[0], now[1]] == record(whole, "in_training")["orders"]


def test_a_rollback_brings_the_orders_back(whole):
    rows = table_of(whole, SPECS["pragmatic"].trial_id, "truncations")
    undone = [row for row in rows if row["dim_after"] > row["dim_before"]]
    assert undone
    for row in undone:
        earlier = [
            one for one in rows if one["block"] == row["block"] and one["step"] < row["step"]
        ]
        assert row["dim_after"] == earlier[-1]["dim_before"]
        assert row["orders_after"] == [row["dim_after"]] * WIDTH


def test_spectra_split_into_those_of_the_systems(whole):
    model = load(whole.trial(SPECS["selected"].trial_id).path)
    last = table_of(whole, SPECS["selected"].trial_id, "spectra")[-2:]
    for row, block in zip(last, decompositions(model), strict=True):
        assert tuple(row["orders"]) == block.order
        parts = torch.tensor(row["hankel_singular_values"], dtype=torch.float64).split(
            row["orders"]
        )
        shares = torch.tensor(row["mode_shares"], dtype=torch.float64).split(row["orders"])
        for hsv, share, one in zip(parts, shares, block.systems, strict=True):
            torch.testing.assert_close(hsv, one.hsv, rtol=1e-6, atol=1e-12)
            assert bool((hsv.diff() <= 0).all())
            assert float(share.sum()) == pytest.approx(float(hsv.sum()))


def test_flops_are_those_of_the_real_orders(whole):
    spec = SPECS["in_training"]
    info, batch = spec.task.info, spec.training.batch_size
    rows = table_of(whole, spec.trial_id, "truncations")
    now, expected, cost, done = [[8] * WIDTH, [6] * WIDTH], 0.0, 0.0, 0
    for step in (8, 16, 24, 40):
        # Each channel's own states: 16 FLOPs of each, beside what does not depend on them.
        states = 3 * batch * info.length * 16 * sum(map(sum, now))
        other = 3 * batch * forward_flops(Channels(**MODEL), info, [0, 0])
        expected += (step - done) * (states + other)
        done = step
        if step < 40:
            cost += sum(spectrum_flops(n, 1) for block in now for n in block)
        for row in (one for one in rows if one["step"] == step):
            old, new = now[row["block"]], row["orders_after"]
            cost += sum(truncation_flops(n, r, 1) for n, r in zip(old, new, strict=True) if r < n)
            now[row["block"]] = new
    found = record(whole, "in_training")
    assert found["train_flops"] == pytest.approx(expected, rel=1e-9)
    assert found["flops_method"] - found["train_flops"] == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize("name", SPECS)
def test_stopped_at_every_boundary_it_ends_bit_identical(name, whole, store):
    spec = SPECS[name]
    copy_source(spec, whole, store)
    assert stops_of(spec, store) >= (0 if name == "selected" else 1)
    assert_same(store, whole, spec.trial_id)


def channels_in_child(spec_json, root, passed):
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        run_in_child(spec_json, root, passed)


def test_killed_it_ends_bit_identical(whole, store):
    spec = SPECS["in_training"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.training.trial", "torch._dynamo"])
    killed = 0
    for boundaries in (3, None):
        passed = context.Semaphore(0)
        child = context.Process(
            target=channels_in_child, args=(spec.model_dump_json(), store.root, passed)
        )
        child.start()
        for _ in range(boundaries or 0):
            assert passed.acquire(timeout=60)
        if boundaries:
            child.kill()
        child.join(60)
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= 1
    assert store.trial(spec.trial_id).result()["record"]["restarts"] >= 1
    assert_same(store, whole, spec.trial_id)


@pytest.mark.parametrize("name", ["in_training", "post_hoc"])
def test_recurrent_mode_is_the_parallel_form(name, whole):
    model = load(whole.trial(SPECS[name].trial_id).path).double()
    task = tasks.build(SPECS[name].task)
    x = task.examples("validation", range(3))[0].double()
    with torch.no_grad():
        logits = model(x)
    state = model.initial_state(3)
    for step in x.unbind(1):
        found, state = model.step(step, state)
    torch.testing.assert_close(found, logits, rtol=1e-9, atol=1e-9)
    states = 8 * WIDTH * sum(model.state_dims)  # complex64 of every channel, padding included
    assert record(whole, name)["state_bytes"] == states + 4 * WIDTH


SUITE = """
from harness.suite import *

shrink = InTrainingSpec(kind="in_training", tau=0.05, end=0.5, count=2)
suite = Suite(
    name="channels",
    comparisons=[
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(width=4, state_dim=8),
            training=TrainingSpec(steps=40, batch_size=20, evaluate_every=10, lr=0.01),
            arms={
                "full": FullSpec(kind="full"),
                "in_training": shrink,
                "small": SmallSpec(kind="small", match="seed", to=shrink),
            },
            seeds=(0, 1),
        )
    ],
)
"""


def test_a_suite_of_them_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    (tmp_path / "channels.py").write_text(SUITE)
    store = Store.open(tmp_path / "store")
    suite = load_suite(str(tmp_path / "channels.py"))
    for _ in range(2):  # the sizes of `small` are known after the first round
        for row in Plan(suite, store).rows:
            if row.spec is not None:
                run_trial(row.spec, store)
    assert execute(["run", str(tmp_path / "channels.py")]) == 0
    assert execute(["table", "channels"]) == 0
    said = capsys.readouterr().out
    trials = pd.read_parquet(store.suite("channels").folder / "trials.parquet").set_index(
        ["role", "seed"]
    )
    for seed in (0, 1):
        ours, small = trials.loc[("in_training", seed)], trials.loc[("small", seed)]
        assert list(small.state_dims) == [round(sum(one) / len(one)) for one in ours.orders]
    shown = trials.loc["in_training"].state_dim_mean.mean()
    assert re.search(rf"in_training.* {shown:.1f} ", said)
    folder = store.suite("channels").folder
    assert {"state_dim.png", "rank_stability.png"} <= {
        p.name for p in (folder / "figures").iterdir()
    }
    page = (folder / "index.html").read_text()
    assert re.search(r"8 → \d \(mean \d\.\d\)", page)
    stability = pd.read_parquet(folder / "rank_stability.parquet")
    assert stability.overlap.between(0, 1).all()
    assert set(stability[stability.end <= 10].states) >= {8 * 4}
