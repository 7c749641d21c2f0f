"""Training with a Hankel nuclear norm penalty, then truncation (arXiv 2403.14833; 2510.22951)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.models.layers.capabilities import Capability
from harness.models.orders import each

from .base import EventKeys, Style
from .given import Event, StepWork, Training
from .sized import SizedArm
from .weighted import WeightedArm

if TYPE_CHECKING:
    from torch import Tensor, nn


class HankelRegularizedSpec(WeightedArm, SizedArm):
    """Train at full size with `weight` times the Hankel nuclear norm in the loss (per layer the
    mean of its singular values), then truncate the selected model: by `tau`, at `state_dims`, or
    at the sizes of another arm.

    `penalty`: `exact` differentiates through the decompositions, as Forgione et al. do;
    `adjoint` has the same value with its gradient in closed form; `modal` is a cheap upper bound,
    the sum of the modes' own norms.
    """

    title: ClassVar[str] = "Hankel-regularized, then cut"
    table_place: ClassVar[int] = 40
    style: ClassVar[Style | None] = Style("#D55E00", "P")
    from_best: ClassVar[bool] = True
    sizing: ClassVar[frozenset[str]] = SizedArm.sizing | {"tau"}

    kind: Literal["hankel_regularized"] = "hankel_regularized"
    weight: Annotated[float, Field(gt=0.0)] = 0.01
    penalty: Literal["exact", "adjoint", "modal"] = "adjoint"
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None

    def _sources(self) -> dict[str, object]:
        return {"tau": self.tau, **super()._sources()}

    @property
    def needs(self) -> tuple[Capability, ...]:
        return (Capability.SYSTEM, Capability.GRADIENT, *self.gain_needs)

    @property
    def needs_system_for(self) -> str | None:
        return ""  # to penalise

    def added_loss(self, model: nn.Module) -> Tensor | None:
        from harness.reduction import hankel_nuclear_norm

        return self.weight * hankel_nuclear_norm(model, method=self.penalty, realness=self.realness)

    def extra_flops(self, work: StepWork) -> float:
        from harness.reduction import regularizer_flops

        # Of the whole system for each that is stored.
        states = 2 if work.model.conjugates or self.realness == "real" else 1
        dims = [each(order, lambda n: states * n) for order in work.state_dims]
        return sum(regularizer_flops(n, work.model.width, self.penalty) for n in dims)

    def events(self, steps: int) -> tuple[int, ...]:
        return (steps,)

    def event_keys(self, training: Training) -> EventKeys:
        # The penalty acts from the start; the size only at the end.
        how = f"{self.penalty} {self.weight!r}" + (" real" if self.realness == "real" else "")
        size = self.model_dump_json()
        return ((0, how), *((step, size) for step in self.happens(training)))

    def ranks(self, systems: Sequence[Any], event: Event) -> list[Any]:
        if self.tau is not None:
            return [system.energy_rank(self.tau) for system in systems]
        return self.dims(len(systems))

    @property
    def recorded_tau(self) -> float | None:
        return self.tau
