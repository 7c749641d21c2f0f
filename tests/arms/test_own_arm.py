"""A whole new arm, defined here alone: it goes through a trial, a kill and a report as ours do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pandas as pd
import pytest
import torch
from pydantic import Field

from harness.arms import ARM_UNION, Arm, Style
from harness.planning.estimate import estimated_flops
from harness.records.store import Store
from harness.report import looks
from harness.report.comparison.compare import compare
from harness.report.presentation import arm_name
from harness.suite import Comparison, FullSpec, SmallSpec, TrialSpec
from harness.suite.fork_family import common_steps
from harness.training.costs.flops import step_flops
from harness.training.trial import run_trial
from tests.report.conftest import make_trial
from tests.training.trials import assert_same, stops_of, table_of, trial_spec

PENALTY_FLOPS = 1_000


class StalledSpec(Arm):
    """Halve the states whenever validation has not improved for `patience` evaluations, down to
    `least`; weights are kept small on the way."""

    title: ClassVar[str] = "halved when stalled"
    style: ClassVar[Style | None] = Style("#112233", "*")
    table_place: ClassVar[int] = 15

    kind: Literal["stalled"] = "stalled"
    patience: Annotated[int, Field(ge=1)] = 1
    least: Annotated[int, Field(ge=1)] = 4
    weight: Annotated[float, Field(ge=0.0)] = 1e-3

    @property
    def chooses_sizes(self):
        return True

    def check(self, trial):
        super().check(trial)
        if self.least > min(trial.model.state_dims):
            raise ValueError(f"arm.least {self.least} is more than the model has")

    def added_loss(self, model):
        return self.weight * sum(p.square().sum() for p in model.parameters() if p.requires_grad)

    def extra_flops(self, work):
        return float(PENALTY_FLOPS * len(work.state_dims))

    def ranks(self, systems, event):
        return [max(self.least, len(system.hsv) // 2) for system in systems]

    def after_evaluation(self, here, value):
        best = here.memory.get("best")
        if best is None or here.sign * value > here.sign * best:
            here.memory.update(best=value, waited=0)
            return
        here.memory["waited"] += 1
        if here.memory["waited"] >= self.patience:
            here.memory["waited"] = 0
            here.truncate()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.delenv("HARNESS_THREADS", raising=False)
    threads = torch.get_num_threads()
    ARM_UNION.add(StalledSpec)
    yield
    del ARM_UNION.specs["stalled"]
    ARM_UNION._adapter = None
    torch.set_num_threads(threads)


def stores(folder):
    return (Store.open(folder / name) for name in ("whole", "stopped"))


@pytest.mark.parametrize("protocol", ["strict", "published"])
def test_it_truncates_where_validation_has_stalled_and_resumes_with_the_same_bits(
    protocol, tmp_path
):
    spec = trial_spec({"kind": "stalled"}, training={"evaluate_every": 10, "protocol": protocol})
    whole, stopped = stores(tmp_path)
    result = run_trial(spec, whole)
    assert result["status"] == "completed", result["message"]
    cuts = table_of(whole, spec.trial_id, "truncations")
    assert [(row["dim_before"], row["dim_after"]) for row in cuts[:2]] == [(16, 8), (12, 6)]
    values = {}  # the evaluations, each before the cut that may follow it
    for row in table_of(whole, spec.trial_id, "curves"):
        if (row["split"], row["metric"]) == ("validation", "accuracy"):
            values.setdefault(row["step"], row["value"])
    best, stalled = -1.0, []
    for step, value in values.items():
        if value <= best:
            stalled.append(step)
        best = max(best, value)
    assert {row["step"] for row in cuts} <= set(stalled)
    assert {row["step"] for row in cuts} == set(stalled[: len({row["step"] for row in cuts})])
    assert {(row["val_before"], row["step"]) for row in cuts} <= {(v, s) for s, v in values.items()}
    assert result["record"]["state_dims"] == [4, 4]
    assert stops_of(spec, stopped) > 5
    assert_same(whole, stopped, spec.trial_id)


def test_its_term_is_in_the_gradients_and_not_in_the_loss(tmp_path):
    """The first batch has the same loss with and without; what follows differs."""
    with_term, without = stores(tmp_path)
    training = {"steps": 2, "evaluate_every": 1}
    arms = [{"kind": "stalled", "weight": weight} for weight in (10.0, 0.0)]
    specs = [trial_spec(arm, training=training) for arm in arms]
    losses = []
    for spec, store in zip(specs, (with_term, without), strict=True):
        run_trial(spec, store)
        rows = table_of(store, spec.trial_id, "curves")
        losses.append([row["value"] for row in rows if row["metric"] == "loss"])
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_its_flops_are_estimated_and_counted(tmp_path):
    spec = trial_spec({"kind": "stalled"}, training={"steps": 20, "evaluate_every": 20})
    record = run_trial(spec, Store.open(tmp_path))["record"]
    step = step_flops(spec.model, spec.task.info, (16, 12), 20) + 2 * PENALTY_FLOPS
    assert record["train_flops"] == 20 * int(step)
    assert estimated_flops(spec) == 20 * step


def test_it_shares_no_step_that_it_takes_otherwise():
    full = trial_spec({"kind": "full"})
    assert common_steps(full, trial_spec({"kind": "stalled"})) == 0

    class WatchingSpec(StalledSpec):
        kind: Literal["watching"] = "watching"
        added_loss = Arm.added_loss

    ARM_UNION.add(WatchingSpec)
    try:
        watching = [trial_spec({"kind": "watching", "patience": n}) for n in (1, 2)]
        # The first evaluation, at step 20, is the first at which it may truncate.
        assert common_steps(full, watching[0]) == 20
        assert common_steps(*watching) == 20
        assert common_steps(watching[0], watching[0]) == 120
    finally:
        del ARM_UNION.specs["watching"]
        ARM_UNION._adapter = None


def test_it_checks_its_model_and_lends_its_sizes():
    with pytest.raises(ValueError, match=r"arm\.least 13 is more than the model has"):
        trial_spec({"kind": "stalled", "least": 13})
    stalled = StalledSpec(patience=2)
    small = SmallSpec(match="mean", to=stalled)
    assert SmallSpec.model_validate_json(small.model_dump_json()).to == stalled
    comparison = Comparison(
        task={"name": "digits"}, arms={"full": FullSpec(), "mine": stalled, "small": small}
    )
    assert comparison.matched_label("small", small) == "mine"
    with pytest.raises(ValueError, match="matches a stalled arm that is not in the comparison"):
        Comparison(task={"name": "digits"}, arms={"full": FullSpec(), "small": small})
    assert small.with_sizes([[4, 3], [4, 2]], blocks=2).state_dims == (3, 3)


def test_its_kind_is_in_its_identity():
    spec = trial_spec({"kind": "stalled"})
    assert '"arm":{"kind":"stalled"}' in canonical_of(spec)
    assert spec.trial_id != trial_spec({"kind": "full"}).trial_id


def canonical_of(spec):
    from harness.suite import canonical

    return canonical(TrialSpec.model_validate(spec))


def test_the_report_calls_and_draws_it_as_it_says():
    roles = ("stalled", "in_training", "of_a_lost_plug_in", "full", "post_hoc")
    trials = [make_trial(role, seed, 0.8, matches=None if role == "full" else "in_training")
              for role in roles for seed in (0, 1)]  # fmt: skip
    comparison = compare(pd.DataFrame(trials))
    ordered = ["full", "in_training", "stalled", "post_hoc", "of_a_lost_plug_in"]
    assert list(comparison.arm) == ordered
    names = [arm_name(arm) for arm in ("stalled", "of_a_lost_plug_in")]
    assert names == ["halved when stalled", "of a lost plug in"]
    styles = looks.styles_of(comparison)
    assert styles["stalled"] == Style("#112233", "*")
    assert styles["of_a_lost_plug_in"] in looks.OTHER_STYLES


def test_the_example_of_the_readme_is_an_arm(tmp_path):
    text = (Path(__file__).parents[2] / "harness" / "arms" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    ARM_UNION.add(names["HalvedWhenStalled"])
    try:
        spec = trial_spec({"kind": "halved_when_stalled"}, training={"evaluate_every": 10})
        result = run_trial(spec, Store.open(tmp_path))
        assert result["status"] == "completed", result["message"]
        assert result["record"]["state_dim_total"] < 28
    finally:
        del ARM_UNION.specs["halved_when_stalled"]
        ARM_UNION._adapter = None
