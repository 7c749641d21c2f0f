"""Which states of Mamba and Mamba-2 to keep, and whether to keep states at all or a basis of them.

All arms but `full` have two of 16 states a channel. In their own basis states go as they are: the best
by three scores, or by lot. In a free basis what stands in for the layer is balanced, and maps are
left whose cost is in the FLOPs: large in Mamba, where every channel has its own, and next to
nothing in Mamba-2.
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
FINAL = 2
OWN = ("mean_modes", "second_moment", "activation")
FREE = {"mamba": ("mean_lti", "second_moment"), "mamba2": ("second_moment",)}


def models(width: int) -> dict[str, Any]:
    """Both kinds, two blocks of them."""
    size: dict[str, Any] = {"blocks": 2, "width": width, "state_dim": 16}
    return {"mamba": MambaSpec(**size), "mamba2": Mamba2Spec(**size, head_dim=8)}


def arms(methods: tuple[str, ...], by_lot: bool) -> dict:
    """Truncations in training and after it, by each method."""
    shrink = InTrainingSpec(rule="fixed", final=FINAL, end=0.4)
    compress = PostHocSpec(state_dims=(FINAL,))
    found: dict = {"full": FullSpec(), "small": SmallSpec(state_dims=(FINAL,))}
    for how in methods:
        by = {"selective": how}
        found[f"in_training {how}"] = shrink.model_copy(update=by)
        found[f"post_hoc {how}"] = compress.model_copy(update=by)
    if by_lot:
        found["in_training random"] = shrink.model_copy(update={"keep": "random"})
        found["post_hoc random"] = compress.model_copy(update={"method": "random"})
    return found


def on(task: Any, training: TrainingSpec, width: int) -> tuple[Comparison, ...]:
    """Both kinds in both bases on a task."""
    found = []
    for kind, model in models(width).items():
        free = model.model_copy(update={"basis": "free"})
        common: dict[str, Any] = {"task": task, "training": training, "seeds": SEEDS}
        found += [
            Comparison(name=f"{task.name}_{kind}", model=model, arms=arms(OWN, True), **common),
            Comparison(
                name=f"{task.name}_{kind}_free", model=free, arms=arms(FREE[kind], False), **common
            ),
        ]
    return tuple(found)


suite = Suite(
    name="selective",
    description="Which states of a selective layer to keep, in its own basis or a free one?",
    comparisons=(
        *on(demo.digits.task, TrainingSpec(steps=600, batch_size=50, lr=0.01), 16),
        *on(
            TaskSpec(name="mqar", length=16, pairs=2, vocabulary=16),
            TrainingSpec(steps=1000, batch_size=64, lr=0.01),
            32,
        ),
    ),
)
