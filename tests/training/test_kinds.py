"""Layers of other authors in trials: under every arm, by the command line, refused in one line."""

import re

import pytest

from harness.cli.app import execute
from harness.models import load
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.suite import load as load_suite
from harness.training.trial import run_trial

from .trials import assert_same, stops_of, table_of, trial_spec

KINDS = {
    "s5": {"kind": "s5", "hippo_blocks": 2},
    "s5 bilinear": {"kind": "s5", "conj_sym": False, "discretisation": "bilinear"},
    "s5 bidirectional": {"kind": "s5", "bidirectional": True},
    "s5 authors": {"kind": "s5", "block": "authors", "activation": "half_glu2"},
    "s4d": {"kind": "s4d"},
    "s4d authors": {"kind": "s4d", "block": "authors", "dropout_mask": "tied"},
    "s4d channels": {"kind": "s4d", "n_ssm": "channels", "init": "dfout_1", "backend": "fft"},
    "mamba": {"kind": "mamba"},
    "mamba backbone": {"kind": "mamba", "block": "backbone", "backend": "parallel"},
    "mamba free": {"kind": "mamba", "basis": "free", "state_dim": 6},
    "mamba2 free": {"kind": "mamba2", "basis": "free", "head_dim": 2, "groups": 2, "state_dim": 6},
    "mamba2": {"kind": "mamba2", "expand": 3, "head_dim": 2, "groups": 2},
    "mamba2 backbone": {"kind": "mamba2", "block": "backbone", "head_dim": 4},
}
QUICK = {"s5 bidirectional", "s4d", "mamba", "mamba free"}
QUICK_AND_SLOW = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS
]
REPORTED = {"s5 bidirectional"}
STACKS = {"s4d", "s4d channels", "s4d authors"}  # which take no static gain
TWO_WAYS = {"s5 bidirectional"}
LOOKING = {"task", "horizon", "in order", "refit", "gain", "within"}  # at data, or adding a gain
SELECTIVE = {"mamba", "mamba backbone", "mamba2", "mamba2 backbone"}  # which have no system
STAND_INS = {"mamba free": {"selective": "mean_lti"}, "mamba2 free": {"selective": "second_moment"}}
SYSTEM = {"hankel", "task", "horizon", "in order", "refit", "gain", "modal", "last", "aire"}
WITHOUT = {
    **{name: {"gain"} for name in STACKS},
    **dict.fromkeys(TWO_WAYS, LOOKING),
    **dict.fromkeys(SELECTIVE, SYSTEM),
    **{name: {*SYSTEM, "activation", "taylor", "drrqr"} for name in STAND_INS},
}
RANKED_BY = {"second", "activation", "taylor", "drrqr"}
SUITE = """
from harness.suite import *

shrink = InTrainingSpec(tau=0.1, end=0.5, count=2, **STAND_IN)
after = PostHocSpec(match="seed", to=shrink, **STAND_IN)
arms = {
    "full": FullSpec(),
    "in_training": shrink,
    "post_hoc": after,
    "tuned": after.model_copy(update={"finetune_steps": 8}),
    "small": SmallSpec(match="seed", to=shrink),
    "distill": DistillSpec(match="seed", to=shrink),
    "hankel": HankelRegularizedSpec(match="seed", to=shrink),
    "task": after.model_copy(update={"gramians": "task", "calibration": 32}),
    "horizon": after.model_copy(update={"gramians": "horizon", "calibration": 8}),
    "in order": after.model_copy(
        update={"gramians": "signal", "sweep": "in_order", "calibration": 32}
    ),
    "refit": after.model_copy(update={"refit": "C", "calibration": 32}),
    "second": after.model_copy(update={"selective": "second_moment"}),
    "activation": after.model_copy(update={"selective": "activation"}),
    "taylor": after.model_copy(update={"selective": "taylor", "calibration": 8}),
    "drrqr": after.model_copy(update={"selective": "drrqr"}),
    "common": PostHocSpec(tau=0.1, orders="common", **STAND_IN),
    "largest": PostHocSpec(tau=0.1, orders="largest", **STAND_IN),
    "within": PostHocSpec(max_loss=0.5, calibration=32, **STAND_IN),
    "gain": after.model_copy(update={"method": "singular_perturbation"}),
    **{m: after.model_copy(update={"method": m}) for m in ("modal", "random", "last", "aire")},
}
suite = Suite(
    name="kinds",
    comparisons=[
        Comparison(
            task=TaskSpec(name="digits"),
            model=ModelSpec(**{"state_dim": [6, 4], **MODEL}, blocks=2, width=4),
            training=TrainingSpec(steps=24, batch_size=20, evaluate_every=8, lr=0.01),
            arms={name: arm for name, arm in arms.items() if name not in WITHOUT},
            seeds=(0,),
        )
    ],
)
"""


def suite_of(name, folder, **change):
    path = folder / "kinds.py"
    text = SUITE.replace("MODEL", repr({**KINDS[name], **change}))
    text = text.replace("STAND_IN", repr(STAND_INS.get(name, {})))
    selective = name in SELECTIVE or name in STAND_INS
    without = WITHOUT.get(name, set()) | (set() if selective else RANKED_BY)
    path.write_text(text.replace("WITHOUT", repr(without)))
    return path


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_a_suite_of_every_arm(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    path, store = suite_of(name, tmp_path), Store.open(tmp_path / "store")
    suite, records = load_suite(str(path)), {}
    for _ in range(2):  # matched sizes are known after the first round
        for row in Plan(suite, store).rows:
            if row.spec is not None:
                found = run_trial(row.spec, store)
                assert found["status"] == "completed", (row.role.label, found["message"])
                records[row.role.label] = found["record"]
    assert set(records) == set(suite.comparisons[0].arms)
    shrunk = records["in_training"]
    assert shrunk["state_dim_mean"] < 5
    for label, record in records.items():
        if label not in ("full", "within", "common", "largest"):
            assert record["state_dim_mean"] <= shrunk["state_dim_mean"] + 0.5, label  # rounded
        model = load(store.trial(record["trial_id"]).path)
        assert model.state_dims == record["state_dims"]
        maps = [b.numel() for name, b in model.named_buffers() if name.endswith("_map")]
        assert record["parameters"] == sum(p.numel() for p in model.parameters()) + sum(maps)
        if name in TWO_WAYS:
            assert record["step_latency_seconds"] is record["state_bytes"] is None
        else:
            assert model.initial_state(1).bytes == record["state_bytes"]
    if name in STACKS or name in STAND_INS:
        assert all(len(set(block)) == 1 for block in records["common"]["orders"])
        assert all(len(set(block)) == 1 for block in records["largest"]["orders"])
        assert records["common"]["state_dims"] <= records["largest"]["state_dims"]
    if name not in REPORTED:
        return
    assert execute(["run", str(path)]) == 0
    assert execute(["table", "kinds"]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"\n +{label} +", said) for label in records)


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_stopped_at_every_boundary_it_ends_bit_identical(name, tmp_path):
    arm = {"kind": "in_training", "tau": 0.05, "end": 0.6, "count": 3, **STAND_INS.get(name, {})}
    training = {"steps": 40, "evaluate_every": 10, "lr": 0.01}
    spec = trial_spec(arm, model={**KINDS[name], "dropout": 0.1}, training=training)
    whole, store = (Store.open(tmp_path / one) for one in ("whole", "stopped"))
    run_trial(spec, whole)
    assert table_of(whole, spec.trial_id, "truncations")
    assert stops_of(spec, store) >= 1
    empty = {"spectra"} if name in SELECTIVE or name in STAND_INS else ()
    assert_same(store, whole, spec.trial_id, empty=("truncations", *empty))


REFUSED = {
    "not divisible": ({"hippo_blocks": 3}, {}, "state_dim 4 is not divisible by hippo_blocks 3"),
    "steps": ({"dt_min": 0.2}, {}, "dt_max 0.1 must not be below dt_min 0.2"),
    "gain": (
        {"bidirectional": True},
        {"kind": "post_hoc", "tau": 0.1, "method": "singular_perturbation"},
        "arm post_hoc needs a layer that takes a static gain; s5 takes none",
    ),
    "data": (
        {"bidirectional": True},
        {"kind": "in_training", "gramians": "signal"},
        "an in_training arm that looks at data needs a causal model; s5 is bidirectional",
    ),
    "discretisation": ({"discretisation": "euler"}, {}, r"discretisation\s+Input should be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_starts(case):
    model, arm, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        trial_spec(arm or {"kind": "full"}, model={"kind": "s5", "state_dim": [6, 4], **model})


def test_the_next_token_is_not_for_who_has_read_it():
    task = {"name": "pylib", "window": 16}
    with pytest.raises(ValueError, match="task pylib predicts the next token, which a bidir"):
        TrialSpec(task=task, model={"kind": "s5", "bidirectional": True}, arm={"kind": "full"})


def test_by_the_command_line_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    path = suite_of("s5", tmp_path, hippo_blocks=3)
    assert execute(["run", str(path)]) == 2
    err = capsys.readouterr().err
    assert "state_dim 4 is not divisible by hippo_blocks 3" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_an_unstable_system_ends_its_trial_and_names_the_block(tmp_path, monkeypatch):
    from harness.models.layers.s5 import S5

    drawn = []

    def of(spec, state_dim, make=S5.of):
        layer = make(spec, state_dim)
        drawn.append(layer)
        if len(drawn) == 2:
            layer.Lambda_re.data[1] = 0.01
        return layer

    monkeypatch.setattr(S5, "of", of)
    model = {"kind": "s5", "clip_eigs": False}
    spec = trial_spec({"kind": "full"}, model=model, training={"steps": 4, "evaluate_every": 4})
    found = run_trial(spec, Store.open(tmp_path / "store"))
    assert found["status"] == "diverged"
    assert re.search(r"block 1: every \|eigenvalue\| must be below 1", found["message"])


def test_a_model_of_other_sizes_keeps_as_many_blocks_of_hippo_as_divide_them():
    arm = {"kind": "small", "state_dims": [6, 9]}
    spec = trial_spec(arm, model={"kind": "s5", "state_dim": [16, 12], "hippo_blocks": 4})
    assert spec.resolved().model.hippo_blocks == 3
    assert spec.resolved().model.state_dims == (6, 9)
