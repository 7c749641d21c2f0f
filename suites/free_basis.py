"""Whether to remove states of Mamba and Mamba-2 as they are, or to change their basis first.

All arms but `full` have two of 16 states a channel. In a free basis what stands in for the layer is
balanced, and maps are left whose cost is in the FLOPs: large in Mamba, where every channel has its
own, and next to nothing in Mamba-2. `full` is the same model in both bases.
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

SEEDS = (0, 1, 2)
FINAL = 2
OWN = ("mean_modes", "second_moment")
FREE = {"mamba": ("mean_lti", "second_moment"), "mamba2": ("second_moment",)}


def models(width: int) -> dict[str, Any]:
    """Both kinds, two blocks of them."""
    size: dict[str, Any] = {"blocks": 2, "width": width, "state_dim": 16}
    return {"mamba": MambaSpec(**size), "mamba2": Mamba2Spec(**size, head_dim=8)}


def arms(methods: tuple[str, ...]) -> dict:
    """Truncations in training and after it, by each method."""
    shrink = InTrainingSpec(rule="fixed", final=FINAL, end=0.4)
    compress = PostHocSpec(state_dims=(FINAL,))
    found: dict = {"full": FullSpec(), "small": SmallSpec(state_dims=(FINAL,))}
    for how in methods:
        by = {"selective": how}
        found[f"in_training {how}"] = shrink.model_copy(update=by)
        found[f"post_hoc {how}"] = compress.model_copy(update=by)
    return found


def on(task: Any, training: TrainingSpec, width: int) -> tuple[Comparison, ...]:
    """Both kinds in both bases on a task."""
    found = []
    for kind, model in models(width).items():
        free = model.model_copy(update={"basis": "free"})
        common: dict[str, Any] = {"task": task, "training": training, "seeds": SEEDS}
        found += [
            Comparison(name=f"{task.name}_{kind}", model=model, arms=arms(OWN), **common),
            Comparison(
                name=f"{task.name}_{kind}_free", model=free, arms=arms(FREE[kind]), **common
            ),
        ]
    return tuple(found)


suite = Suite(
    name="free_basis",
    description="Should a selective layer lose states as they are, or a basis of them?",
    comparisons=(
        *on(demo.digits.task, TrainingSpec(steps=600, batch_size=50, lr=0.01), 16),
        *on(
            TaskSpec(name="mqar", length=16, pairs=2, vocabulary=16),
            TrainingSpec(steps=600, batch_size=64, lr=0.01),
            32,
        ),
    ),
)
