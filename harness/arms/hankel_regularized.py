"""Training with a Hankel nuclear norm penalty, then truncation (arXiv 2403.14833; 2510.22951)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.models.layers.capabilities import Capability

from .base import Training, Turn
from .sized import SizedArm


class HankelRegularizedSpec(SizedArm):
    """Train at full size with `weight` times the Hankel nuclear norm in the loss (per layer the
    mean of its singular values), then truncate the selected model: by `tau`, at `state_dims`, or
    at the sizes of an in-training arm.

    `penalty`: `exact` differentiates through the decompositions, as Forgione et al. do;
    `adjoint` has the same value with its gradient in closed form; `modal` is a cheap upper bound,
    the sum of the modes' own norms.
    """

    shrinks: ClassVar[bool] = True
    from_best: ClassVar[bool] = True

    kind: Literal["hankel_regularized"]
    weight: Annotated[float, Field(gt=0.0)] = 0.01
    penalty: Literal["exact", "adjoint", "modal"] = "adjoint"
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None

    def _sources(self) -> dict[str, object]:
        return {"tau": self.tau, **super()._sources()}

    def events(self, steps: int) -> tuple[int, ...]:
        return (steps,)

    def acts(self, training: Training) -> tuple[tuple[int, str], ...]:
        # The penalty acts from the start; the size only at the end.
        how = f"{self.penalty} {self.weight!r}"
        return ((0, how), *super().acts(training))

    def ranks(self, systems: Sequence[Any], turn: Turn) -> list[int]:
        from harness.reduction import energy_rank

        if self.tau is not None:
            return [energy_rank(system.hsv, self.tau) for system in systems]
        return self.dims(len(systems))

    @property
    def needs(self) -> tuple[Capability, ...]:
        return (Capability.SYSTEM, Capability.GRADIENT)
