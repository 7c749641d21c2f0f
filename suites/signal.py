"""Balancing against the signal: metric against size, for each choice of Gramians.

On each task of the demo: train-then-compress without fine-tuning at five sizes and with it at two,
and truncation in training, within 40 % of the steps, at one; against small-from-scratch of these
sizes and against full size. `fashion` is the same on longer sequences, with fewer rows.
"""

from collections.abc import Sequence
from typing import Any

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)
from suites import demo

SIZES = (4, 6, 12, 20, 32)
TUNED = (6, 12)
TRAINED = 6
CALIBRATION = (8, 16, 32, 64, 128, 256, 512)
GRAMIANS: tuple[Any, ...] = ("white", "horizon", "signal", "task")
BOTH: tuple[Any, ...] = ("white", "signal")
SEEDS = tuple(range(8))


def arms(small: Sequence[int] = SIZES, tuned: Sequence[int] = TUNED) -> dict:
    """Full size, small from scratch of some sizes, and the ways to all sizes under all Gramians."""
    found: dict = {"full": FullSpec()}
    found |= {f"small {r}": SmallSpec(state_dims=(r,)) for r in small}
    for gramians in GRAMIANS:
        for r in SIZES:
            compress = PostHocSpec(state_dims=(r,), gramians=gramians)
            found[f"post_hoc {gramians} {r}"] = compress
            if r in tuned:
                steps = {"finetune_share": 0.1, "finetune_lr_factor": 1.0}
                found[f"tuned {gramians} {r}"] = compress.model_copy(update=steps)
        if gramians != "horizon":
            found[f"in_training {gramians} {TRAINED}"] = InTrainingSpec(
                rule="fixed", final=TRAINED, end=0.4, gramians=gramians
            )
    return found


def more_arms() -> dict:
    """How many calibration examples, and from which size and in which window the signal helps."""
    found: dict = {"full": FullSpec()}
    for n in CALIBRATION:
        found[f"task 12, {n} examples"] = PostHocSpec(
            state_dims=(12,), gramians="task", calibration=n
        )
    for gramians in BOTH:
        for r in (12, 20, 32):
            found[f"in_training {gramians} {r}"] = InTrainingSpec(
                rule="fixed", final=r, end=0.4, gramians=gramians
            )
    for gramians in (*BOTH, "task"):
        found[f"in_training {gramians} {TRAINED}, 10 %"] = InTrainingSpec(
            rule="fixed", final=TRAINED, gramians=gramians
        )
    return found


def by_input() -> dict:
    """What weighs B by the covariance of the inputs alone, and what balances an LRU as the real
    system that it is, beside the published truncation and the weightings of `arms`."""
    ways: dict = {
        "white": {},
        "real": {"realness": "real"},
        "input": {"gramians": "input"},
        "input/task": {"controllability": "input", "observability": "task"},
        "signal": {"gramians": "signal"},
        "task": {"gramians": "task"},
        "signal, real": {"gramians": "signal", "realness": "real"},
        "task, real": {"gramians": "task", "realness": "real"},
    }
    found: dict = {"full": FullSpec()}
    for r in TUNED:
        found[f"small {r}"] = SmallSpec(state_dims=(r,))
        for name, way in ways.items():
            compress = {"state_dims": (r,), **way}
            found[f"post_hoc {name} {r}"] = PostHocSpec.model_validate(compress)
            if "real" in name:
                refit = {**compress, "refit": "C"}
                found[f"post_hoc {name} {r}, C refitted"] = PostHocSpec.model_validate(refit)
    for name, way in ways.items():
        shrink = {"rule": "fixed", "final": TRAINED, "end": 0.4, **way}
        found[f"in_training {name} {TRAINED}"] = InTrainingSpec.model_validate(shrink)
    return found


def refits() -> dict:
    """With and without C refitted to the full layer's outputs; the rivals get the same chance."""
    found: dict = {"full": FullSpec()}
    ways = {name: {"gramians": name} for name in (*BOTH, "task")}
    ways |= {name: {"method": name} for name in ("last", "aire")}
    for r in (TRAINED, 12):
        found[f"small {r}"] = SmallSpec(state_dims=(r,))
        for name, way in ways.items():
            compress = PostHocSpec.model_validate({"state_dims": (r,), **way})
            found[f"{name} {r}"] = compress
            found[f"{name} {r}, C refitted"] = compress.model_copy(update={"refit": "C"})
    return found


def compared(like: Comparison, arms: dict) -> Comparison:
    """The demo's task, model and training with other arms."""
    return Comparison(
        task=like.task, model=like.model, training=like.training, arms=arms, seeds=SEEDS
    )


suite = Suite(
    name="signal",
    description="What does it change to balance against the signal instead of white noise?",
    comparisons=tuple(
        compared(like, arms()) for like in (demo.digits, demo.vowels, demo.pylib, demo.listops)
    ),
)

refit = Suite(
    name="signal.refit",
    description="What does it add to refit C to what the full layer gives on training sequences?",
    comparisons=tuple(
        compared(like, refits()) for like in (demo.digits, demo.vowels, demo.pylib, demo.listops)
    ),
)

inputs = Suite(
    name="signal.inputs",
    description="What does it change to weigh B by its inputs, or to balance a real system?",
    comparisons=tuple(
        compared(like, by_input()) for like in (demo.digits, demo.vowels, demo.pylib, demo.listops)
    ),
)

more = Suite(
    name="signal.more",
    description="How many examples does it take, and from which size does the signal help?",
    comparisons=tuple(compared(like, more_arms()) for like in (demo.digits, demo.vowels)),
)

fashion = Suite(
    name="signal.fashion",
    description="The same on 784 steps of Fashion-MNIST.",
    comparisons=(
        Comparison(
            task=TaskSpec(name="fashion", validation=1000, test=2000),
            model=LRUSpec(blocks=2, width=16, state_dim=64),
            training=TrainingSpec(steps=900, batch_size=32, lr=0.01, evaluate_every=300),
            arms=arms(small=(6, 12), tuned=()),
            seeds=SEEDS,
        ),
    ),
)
