"""Code of other people, as text: one small plug-in of each kind."""

ARM = """
from typing import Literal
import harness
from harness.arms import Arm

@harness.arm
class Halve(Arm):
    kind: Literal["halve"] = "halve"
    share: float = 0.5

    @property
    def needs(self):
        return ()  # so that it validates beside `Through`, which gives no system

    def events(self, steps):
        return (steps // 2,)

    def ranks(self, systems, event):
        return [max(1, int(self.share * len(one.hsv))) for one in systems]
"""

TASK = """
from typing import ClassVar, Literal
import harness
from harness.tasks import TaskInfo, TaskSpecBase
from harness.tasks.images.digits import Digits

@harness.task
class MineSpec(TaskSpecBase):
    family: ClassVar = "own"
    metric: ClassVar = "accuracy"
    origin: ClassVar = "digits under another name"
    implementation: ClassVar = Digits
    name: Literal["mine"] = "mine"

    @property
    def info(self):
        return TaskInfo("classification", outputs=10, length=64, inputs=1)
"""

LAYER = """
from torch import nn
import harness
from harness.models.layers.base import Layer, LayerState, check_state_dim

@harness.layer
class Through(Layer):
    kind = "through"

    def __init__(self, width: int, state_dim: int, factor: float = 1.0):
        super().__init__()
        self.weight, self.factor, self.size = nn.Linear(width, width), factor, state_dim

    @staticmethod
    def layer_flops(spec, state_dim):
        return 2 * spec.width * spec.width

    @property
    def state_dim(self):
        return self.size

    def forward(self, u):
        return self.factor * self.weight(u)

    def initial_state(self, sequences, device=None):
        return LayerState((self.weight.weight.new_zeros(sequences, 1, device=device),))

    def step(self, u, state):
        return self(u), state

    def resize(self, state_dim):
        check_state_dim(state_dim)
        self.size = state_dim
"""

SUITE = """
from harness.suite import *

suite = Suite(
    name="mine",
    comparisons=(
        Comparison(
            task=TaskSpec(name=TASK),
            model=ModelSpec(kind=LAYER, blocks=1, width=4, state_dim=4),
            training=TrainingSpec(steps=20, batch_size=20, evaluate_every=10),
            arms={"row": ARM},
            seeds=(0, 1),
        ),
    ),
)
"""


def suite(task="digits", layer="lru", arm="full", plugins=()):
    """A suite's text that uses these kinds."""
    listed = f"plugins={list(plugins)!r}, name=" if plugins else "name="
    text = SUITE.replace("TASK", repr(task)).replace("LAYER", repr(layer))
    return text.replace("ARM", repr({"kind": arm})).replace("name=", listed, 1)
