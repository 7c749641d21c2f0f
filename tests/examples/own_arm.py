"""An arm of your own: truncate when the validation metric has stalled.

harness run own_arm.py
"""

from typing import Literal

import harness
from harness.arms import Arm
from harness.models.layers.capabilities import Capability
from harness.reduction import energy_rank
from harness.suite import Comparison, FullSpec, LRUSpec, Suite, TaskSpec, TrainingSpec


@harness.arm
class Stalled(Arm):
    """Balanced truncation, discarding `tau` of the Hankel energy of each block, whenever
    `patience` evaluations in a row have brought nothing better."""

    kind: Literal["stalled"] = "stalled"
    tau: float = 0.2
    patience: int = 2

    @property
    def needs(self):
        """What the layers must be able to do, checked before anything starts."""
        return (Capability.SYSTEM, Capability.MOMENTS)

    @property
    def truncation_options(self):
        return {"moments": "transport"}

    def ranks(self, systems, event):
        """For each block the order to truncate to, from its Hankel singular values."""
        return [energy_rank(system.hsv, self.tau) for system in systems]

    def after_evaluation(self, here, value):
        """`here.memory` is the arm's own; it survives a checkpoint, as JSON."""
        best = here.memory.get("best")
        if best is None or here.sign * value > here.sign * best:
            here.memory.update(best=value, waited=0)
            return
        here.memory["waited"] += 1
        if here.memory["waited"] >= self.patience:
            here.memory["waited"] = 0
            here.truncate()


suite = Suite(
    name="own_arm",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=8, state_dim=16),
            training=TrainingSpec(steps=120, evaluate_every=5, lr=0.02),
            arms={"full": FullSpec(), "stalled": Stalled(patience=1)},
            seeds=(0, 1),
        ),
    ),
)
