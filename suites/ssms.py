"""Each kind of state-space model on four tasks: truncated in training, after it, or small from the
start.

Sizes are states as they are stored: of an LRU and S5 those of a block, of S4D, Mamba and Mamba-2
those of every channel. Each is cut to a quarter (Mamba) or an eighth (the others) in four equal
cuts within 40 % of the steps. `mqar` is the task on which the states decide: what is not
remembered cannot be recalled.
"""

from typing import Any

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    Mamba2Spec,
    MambaSpec,
    PostHocSpec,
    S4DSpec,
    S5Spec,
    SmallSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)
from suites import demo

SEEDS = (0, 1, 2)
TUNED = {"finetune_share": 0.1, "finetune_lr_factor": 1.0}


def models(blocks: int, width: int) -> dict[str, tuple[Any, int]]:
    """The kinds at this depth and width, and to how many states each is cut."""
    size: dict[str, Any] = {"blocks": blocks, "width": width}
    return {
        "lru": (LRUSpec(state_dim=64, **size), 8),
        "s5": (S5Spec(state_dim=32, **size), 4),
        "s4d": (S4DSpec(state_dim=16, **size), 2),
        "mamba": (MambaSpec(state_dim=16, **size), 4),
        "mamba2": (Mamba2Spec(state_dim=16, head_dim=8, **size), 4),
    }


def arms(final: int, weighted: bool) -> dict:
    """The ways to `final` states; with Gramians of the signal where a layer has a system."""
    compress = PostHocSpec(state_dims=(final,))
    shrink = InTrainingSpec(rule="fixed", final=final, end=0.4)
    found: dict = {
        "full": FullSpec(),
        "in_training": shrink,
        "post_hoc": compress,
        "post_hoc tuned": compress.model_copy(update=TUNED),
        "small": SmallSpec(state_dims=(final,)),
    }
    if weighted:
        signal = {"gramians": "signal"}
        found["in_training signal"] = shrink.model_copy(update=signal)
        found["post_hoc signal"] = compress.model_copy(update=signal)
    return found


def on(task: Any, training: TrainingSpec, blocks: int, width: int) -> tuple[Comparison, ...]:
    """All kinds of models on a task."""
    return tuple(
        Comparison(
            name=f"{task.name}_{kind}",
            task=task,
            model=model,
            training=training,
            arms=arms(final, weighted="mamba" not in kind),
            seeds=SEEDS,
        )
        for kind, (model, final) in models(blocks, width).items()
    )


suite = Suite(
    name="ssms",
    description="Does a truncation in training keep what each kind of model has learnt?",
    comparisons=(
        *on(demo.digits.task, TrainingSpec(steps=600, batch_size=50, lr=0.01), 2, 16),
        *on(
            TaskSpec(name="mqar", length=16, pairs=2, vocabulary=16),
            TrainingSpec(steps=1000, batch_size=64, lr=0.01),
            2,
            32,
        ),
        *on(demo.listops.task, TrainingSpec(steps=600, batch_size=32, lr=0.01), 2, 16),
        *on(demo.pylib.task, TrainingSpec(steps=400, batch_size=16, lr=0.01), 1, 32),
    ),
)
