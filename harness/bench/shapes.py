"""The shapes at which training steps are measured, and the official code's times for them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.specs import LRUSpec
from harness.tasks.base import TaskInfo
from harness.tools.inputs import shown
from harness.training.costs.flops import step_flops


@dataclass(frozen=True)
class Shape:
    """Blocks of width H over L steps; `state_dims` are the sizes N, the full size first.

    inputs: real channels per step, or vocabulary: number of tokens; exactly one is set.
    """

    name: str
    title: str
    width: int
    length: int
    batch: int
    state_dims: tuple[int, ...]
    inputs: int | None = None
    vocabulary: int | None = None
    outputs: int = 10
    blocks: int = 1

    @property
    def info(self) -> TaskInfo:
        """The shape as a task that classifies."""
        return TaskInfo("classification", self.outputs, self.length, self.inputs, self.vocabulary)

    def model(self, state_dim: int, backend: str = "auto", remember: str = "auto") -> LRUSpec:
        """The model at one size N."""
        values = {"blocks": self.blocks, "width": self.width, "state_dim": state_dim}
        return LRUSpec.model_validate({**values, "backend": backend, "remember": remember})

    def flops(self, state_dim: int) -> float:
        """Analytic FLOPs of one training step, whatever the backend (design.md section 7)."""
        dims = [state_dim] * self.blocks
        return step_flops(self.model(state_dim), self.info, dims, self.batch)

    def associative_bytes(self, state_dim: int) -> float:
        """Bytes that the published scan must move in one training step, forward and backward.

        Every level of n elements (n = L, L/2, ... 2) reads and writes 3.5 n complex64 numbers
        forward: n in and n/2 out on the way up, n/2 + n/2 in and n out on the way down; the same
        backward, and n more for the gradient of Lambda. Products and sums within a level are
        taken as fused, and projections, mixer and optimizer are left out.
        """
        levels, n = 0, self.length
        while n > 1:
            levels, n = levels + n, n // 2
        return 8.0 * (3.5 + 4.5) * self.batch * state_dim * levels


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("smnist", "sMNIST", 8, 784, 50, (256, 47, 13), inputs=1),
        Shape("scifar", "sCIFAR", 512, 1024, 8, (384, 57), inputs=3),
        Shape("listops", "ListOps", 128, 2048, 8, (256,), vocabulary=18),
    )
}

# Milliseconds of the official JAX code for the same step: by shape and N.
OFFICIAL_SOURCE = (
    "official JAX code (CompreSSM release), one block, whole step with AdamW, float32, 2 cores; "
    "measured on another machine, not in this run"
)
OFFICIAL_MS: dict[tuple[str, int], float] = {
    ("smnist", 256): 821.0,
    ("smnist", 47): 176.0,
    ("smnist", 13): 45.0,
    ("scifar", 384): 1445.0,
    ("scifar", 57): 608.0,
    ("listops", 256): 867.0,
}


def pick_shapes(names: str | None) -> list[Shape]:
    """Shapes by comma-separated names; all shapes without names.

    Raises:
        ValueError: an unknown name.
    """
    return [SHAPES[name] for name in picked(names, tuple(SHAPES), "shape")]


def picked(text: str | None, known: tuple[str, ...], what: str) -> list[str]:
    """The names in a comma-separated text, each once; all known names without a text."""
    if text is None:
        return list(known)
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} {shown(name)}; there are {', '.join(known)}")
    return names
