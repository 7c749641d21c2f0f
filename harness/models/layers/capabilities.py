"""What only some layers can do: arms name what they need, specs what their layers offer.

Without torch, since a plan compares the two before any model exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from .selection import Selection

    # Eigenvalues (N,), B (N, H) as it stands before the input, C (H, N), complex128: of
    # h_k = diag(eigenvalues) h_{k-1} + B u_k, y_k = Re(C h_k).
    System = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class GivesSystem(Protocol):
    """It holds a diagonal linear system, and accepts another in its place.

    Or it holds a stack of S systems side by side, with a buffer `orders`, (S,) int64, the states of
    each: eigenvalues (S, N), B (S, N, I), C (S, O, N), padded to the largest order N, the
    layer's `state_dim`. I and O are the inputs and outputs of each, 1 if a system belongs to one
    channel. As a buffer, the orders are stored with the weights. `StateSpaceLayer` of
    `harness.reduction` lists all that a truncation needs.
    """

    def system(self) -> System:
        """The system as it is now, without gradients."""

    def assign(self, *system: torch.Tensor) -> None:
        """Take over (eigenvalues, B, C) of any order, a stack's new orders (S,) after them.

        `system` must then be what was assigned; parameters keep their names, and new ones are
        frozen if the old ones were.
        """


class GivesGradient(Protocol):
    """The loss can depend on its system."""

    def trainable_system(self) -> System:
        """`system`, differentiable in the parameters."""


class GivesSurrogate(Protocol):
    """It is selective: what its D recurrences of N states each do depends on the input, and only a
    system for its inputs' average can stand in for it (see `harness/reduction/selective`)."""

    rates: torch.Tensor  # A (D, N), negative

    def selection(self, u: torch.Tensor) -> Selection:
        """What its recurrences are for these inputs, (batch, length, H): their averages make a
        system. `keep_modes` then removes states from all of them."""


class CarriesMoments(Protocol):
    """It says what happens to an optimizer's moments when states change their basis: for which
    parameters they are transported, and for which they restart (see `GivesSystem`)."""

    transports: ClassVar[Mapping[str, tuple[str, str]]]
    restarts: ClassVar[tuple[str, ...]]


class TakesGain(Protocol):
    """It can add a static gain to its output, as a parameter `gain` (H, H) beside one named D."""

    def add_gain(self, gain: torch.Tensor) -> None:
        """Add Re(gain) u to the output; an earlier gain stays in place and adds."""


class SlicesModes(Protocol):
    """It can drop modes without changing the bits of the others."""

    def keep_modes(self, *modes: torch.Tensor) -> None:
        """Keep only these states, (r,) indices; for a stack (S, r), and its new orders."""


class Capability(Enum):
    """A protocol, with the words for a layer that has it and for one that lacks it."""

    SYSTEM = GivesSystem, "gives its system", "gives none"
    GRADIENT = GivesGradient, "differentiates its system", "does not"
    SURROGATE = GivesSurrogate, "gives a surrogate system", "gives none"
    MOMENTS = CarriesMoments, "carries an optimizer's moments", "carries none"
    GAIN = TakesGain, "takes a static gain", "takes none"
    MODES = SlicesModes, "slices its modes", "does not"

    def __init__(self, protocol: type, does: str, lacks: str):
        self.protocol, self.does, self.lacks = protocol, does, lacks

    @property
    def members(self) -> set[str]:
        """The attributes that a class needs for it."""
        methods = {name for name in vars(self.protocol) if not name.startswith("_")}
        return methods | set(self.protocol.__annotations__)


def capabilities(layer: type) -> frozenset[Capability]:
    """The capabilities of a class of layers, judged by its attributes."""
    return frozenset(one for one in Capability if one.members <= set(dir(layer)))
