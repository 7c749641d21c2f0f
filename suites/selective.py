"""What the choice of states is worth in Mamba and Mamba-2: Hankel shares of the systems that stand
in for a layer, three rivals, and chance, at one size.

`post_hoc` shows the choice alone, without fine-tuning; `in_training` what training makes good.
`mqar` was set so that states decide: on other seeds (100 to 102), by validation, five full models
of these widths of five learnt it, and of small ones of the size that is left one of five. On the
suite's own seeds that holds for Mamba-2 alone. In training all goes in one cut, so that nothing but
the choice differs.
"""

from typing import Any

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    Mamba2Spec,
    MambaSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)
from suites import demo

SEEDS = (0, 1, 2, 3, 4)
STATES, KEPT = 16, 2
LOOKS: dict[str, Any] = {"calibration": 128}
CHOICES: dict[str, Any] = {
    "mean_modes": {},
    "second_moment": {"selective": "second_moment"},
    "activation": {"selective": "activation"},
    "taylor": {"selective": "taylor"},
    "drrqr": {"selective": "drrqr"},
}


def arms(more: tuple[int, ...]) -> dict:
    """Every choice of `KEPT` states, after training and in it; of more, after it."""
    cuts: dict[str, Any] = {
        "post_hoc": PostHocSpec(state_dims=(KEPT,), **LOOKS),
        **{f"post_hoc to {n}": PostHocSpec(state_dims=(n,), **LOOKS) for n in more},
        "in_training": InTrainingSpec(rule="fixed", final=KEPT, end=0.4, count=1, **LOOKS),
    }
    found: dict = {"full": FullSpec(), "small": SmallSpec(state_dims=(KEPT,))}
    for when, arm in cuts.items():
        chance = {"keep" if when == "in_training" else "method": "random"}
        for name, change in (CHOICES | {"random": chance}).items():
            found[f"{when} {name}"] = arm.model_copy(update=change)
    return found


def on(
    task: Any, training: TrainingSpec, width: int, more: tuple[int, ...] = ()
) -> tuple[Comparison, ...]:
    """Both kinds on a task, Mamba at this width."""
    size: dict[str, Any] = {"blocks": 2, "state_dim": STATES}
    models = {
        "mamba": MambaSpec(width=width, **size),
        "mamba2": Mamba2Spec(width=16, head_dim=8, **size),
    }
    return tuple(
        Comparison(
            name=f"{task.name}_{kind}",
            task=task,
            model=model,
            training=training,
            arms=arms(more),
            seeds=SEEDS,
        )
        for kind, model in models.items()
    )


suite = Suite(
    name="selective",
    description="What is it worth which states of a selective layer stay?",
    comparisons=(
        *on(demo.digits.task, TrainingSpec(steps=300, batch_size=50, lr=0.01), 16),
        *on(
            TaskSpec(name="mqar", length=24, pairs=6, vocabulary=16),
            TrainingSpec(steps=600, batch_size=64, lr=0.01),
            32,
            more=(4,),
        ),
    ),
)
