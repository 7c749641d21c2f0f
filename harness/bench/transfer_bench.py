"""`harness bench transfer`: what a truncation that looked at one input loses on others."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from harness import tasks
from harness.api.stores import StoreLike, open_store
from harness.api.suites import SuiteLike, suite_of
from harness.planning.plan import Plan
from harness.reduction import Calibration, decompositions, layers, truncate
from harness.reduction.weighting.calibration import undisturbed
from harness.reduction.weighting.choice import Gramians
from harness.reduction.weighting.error import output_errors
from harness.report.statistics.intervals import mean_interval, paired_difference
from harness.suite import TrialSpec
from harness.tasks.base import Task
from harness.training.calibration import Examples
from harness.training.step.objective import loss_under

from .text_table import paragraph, table

ORDER = 12  # states that are kept
EXAMPLES = 256  # to calibrate on, and as many to measure on
LONGER = 4  # sequences put one after another
GRAMIANS: tuple[Gramians, ...] = get_args(Gramians)
HEADER = ("task", "input", "gramians", "models", "output error", "agreement %", "over white")

Input = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def shuffled(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every sequence with its steps in another order: the same values, another spectrum."""
    mixed = [one[torch.randperm(len(one), generator=generator)] for one in x]
    return torch.stack(mixed)


def noise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """White noise of each channel's mean and deviation; of tokens, any that occur, at random."""
    if not x.is_floating_point():
        occurring = x.unique()
        return occurring[torch.randint(len(occurring), x.shape, generator=generator)]
    mean, deviation = x.mean((0, 1)), x.std((0, 1))
    return mean + deviation * torch.randn(x.shape, generator=generator)


def longer(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Four sequences one after another."""
    whole = x[: len(x) // LONGER * LONGER]
    return whole.reshape(-1, LONGER * x.shape[1], *x.shape[2:])


INPUTS: dict[str, Input] = {
    "as calibrated": lambda x, generator: x,
    "4 in a row": longer,
    "shuffled steps": shuffled,
    "white noise": noise,
}


@dataclass(frozen=True)
class Loss:
    """What one truncation of one model loses on one input."""

    task: str
    input: str
    gramians: str
    seed: int
    output_error: float  # of a layer's output, a mean over blocks
    agreement: float  # share of answers that are the full model's


def measure(suite: SuiteLike, store: StoreLike = None, order: int = ORDER) -> dict[str, Any]:
    """Truncate every completed model of the suite's arm `full` under each choice of Gramians, by
    training examples, and run it on validation examples and on what is made from these; JSON.

    Raises:
        ValueError: no store, a store without such models, or an order larger than a model.
    """
    view, found = open_store(store), suite_of(suite)
    losses: list[Loss] = []
    for spec in _full_trials(Plan(found, view.store)):
        losses += losses_of(view.load_model(spec.trial_id), spec, order)
    if not losses:
        raise ValueError(
            f"{view.store.address} holds no completed model of arm 'full' of suite {found.name} on "
            f"a classification task: harness run {found.name}"
        )
    return {"bench": "transfer", "suite": found.name, "order": order, "rows": summarise(losses)}


def _full_trials(plan: Plan) -> Iterator[TrialSpec]:
    seen: set[str] = set()
    for row in plan.rows:
        spec = row.spec
        if spec is None or row.role.kind != "full" or spec.trial_id in seen:
            continue
        seen.add(spec.trial_id)
        result = plan.result(spec.trial_id)
        if (
            result is not None
            and result["status"] == "completed"
            and spec.task.info.kind != "regression"
        ):
            yield spec


def losses_of(model: nn.Module, spec: TrialSpec, order: int) -> list[Loss]:
    """What the truncations of one trained model lose."""
    task = tasks.build(spec.task)
    calibration = _calibration(task, spec)
    white, every = decompositions(model), dict(enumerate(layers(model)))
    held = np.arange(min(EXAMPLES, task.sizes["validation"]))
    x, _ = task.examples("validation", held)
    given = {name: make(x, torch.Generator().manual_seed(spec.seed))
             for name, make in INPUTS.items()}  # fmt: skip
    answers = {name: _answers(model, one) for name, one in given.items()}
    found = []
    for gramians in GRAMIANS:
        small = copy.deepcopy(model)
        done = truncate(small, state_dims=order, gramians=gramians, calibration=calibration)
        changed = dict(
            zip((i for i, one in enumerate(white) if one.order != order), done, strict=True)
        )
        for name, one in given.items():
            batches = one.split(spec.training.batch_size)
            errors = output_errors(model, every, dict(enumerate(white)), changed, batches)
            agreement = (_answers(small, one) == answers[name]).double().mean()
            error = fmean(errors.get(i, 0.0) for i in every)
            found.append(Loss(task.name, name, gramians, spec.seed, error, float(agreement)))
    return found


def _calibration(task: Task, spec: TrialSpec) -> Calibration:
    drawn = np.random.default_rng(spec.seed).permutation(task.sizes["train"])[:EXAMPLES]
    batches = Examples(task, drawn, spec.training.batch_size, torch.device("cpu"))
    loss = loss_under(spec, task.info)
    return Calibration(batches, (), loss, task.info.length, spec.seed)


@torch.no_grad()
def _answers(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The most likely class of every sequence, or of every step."""
    with undisturbed(model):
        return torch.cat([model(part).argmax(-1) for part in x.split(EXAMPLES // LONGER)])


def summarise(losses: list[Loss]) -> list[dict[str, Any]]:
    """One row per task, input and Gramians, over the models."""
    groups: dict[tuple[str, str, str], list[Loss]] = defaultdict(list)
    for loss in losses:
        groups[loss.task, loss.input, loss.gramians].append(loss)
    rows = []
    for (task, given, gramians), of in groups.items():
        white = groups[task, given, "white"]
        agreement = [100 * one.agreement for one in of]
        over = paired_difference(agreement, [100 * one.agreement for one in white])
        error = mean_interval([one.output_error for one in of])
        rows.append(
            {
                "task": task,
                "input": given,
                "gramians": gramians,
                "models": len(of),
                "output_error": error._asdict(),
                "agreement": mean_interval(agreement)._asdict(),
                "over_white": None if gramians == "white" else over._asdict(),
            }
        )
    return sorted(rows, key=lambda row: (row["task"], list(INPUTS).index(row["input"])))


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    rows = [
        [
            row["task"], row["input"], row["gramians"], str(row["models"]),
            _interval(row["output_error"], 3), _interval(row["agreement"], 1),
            _interval(row["over_white"], 1, sign="+"),
        ]
        for row in result["rows"]
    ]  # fmt: skip
    return [
        *table(HEADER, rows, left=3),
        "",
        *paragraph(
            f"Models of arm full of suite {result['suite']}, truncated to {result['order']} states "
            f"a block without fine-tuning, calibrated on {EXAMPLES} training examples. Means over "
            "models with 95 % intervals. output error: ||y - y_r|| / ||y|| of a layer's output on "
            "what it hears in the full model, a mean over blocks; agreement: answers that are the "
            "full model's; over white: the difference in agreement, paired by model. Inputs are "
            "validation examples, and what is made from them: four in a row, steps in another "
            "order, white noise of the same mean and deviation (of tokens: drawn at random)."
        ),
    ]


def _interval(given: dict[str, float] | None, digits: int, sign: str = "") -> str:
    if given is None:
        return "-"
    half = given["high"] - given["mean"]
    return f"{given['mean']:{sign}.{digits}f} ± {half:.{digits}f}"
