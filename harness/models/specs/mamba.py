"""The spec of Mamba."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from harness.spec import StateDim, StateDims

from .s5 import Step
from .selective import SelectiveSpec

WIDTH_A_RANK = 16  # dt_rank "auto" is a sixteenth of the width, rounded up


class MambaSpec(SelectiveSpec):
    """Mamba (Gu and Dao 2023, arXiv 2312.00752), the first: `expand` x width channels, each with a
    real diagonal system of `state_dim` states (their d_state) whose steps, inputs and outputs
    depend on the sequence; `conv` is the width of the causal convolution ahead of it (d_conv),
    `dt_rank` that of the projection to the steps (`auto`: a sixteenth of the width, rounded up).
    New steps lie between `dt_min` and `dt_max`, and not below `dt_floor`.

    `block` and `basis`: see `SelectiveSpec`; `backend`: `harness.models.scans.selective`.
    """

    implementation: ClassVar[str] = "harness.models.layers.mamba:Mamba"

    kind: Literal["mamba"] = "mamba"
    state_dim: StateDim | StateDims = 16
    expand: Annotated[int, Field(ge=1, le=64)] = 2
    conv: Annotated[int, Field(ge=1, le=64)] = 4
    dt_rank: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = "auto"
    dt_min: Step = 0.001
    dt_max: Step = 0.1
    dt_floor: Step = 1e-4
    block: Literal["authors", "backbone"] = "authors"
    basis: Literal["own", "free"] = "own"
    backend: Literal["auto", "reference", "parallel", "scan", "triton"] = "auto"

    @model_validator(mode="after")
    def _rank_fits(self) -> MambaSpec:
        if self.rank > self.channels:
            raise ValueError(
                f"dt_rank {self.dt_rank} is above the {self.channels} channels, expand x width"
            )
        return self

    @property
    def rank(self) -> int:
        """R, the rank of the projection to the steps."""
        return -(-self.width // WIDTH_A_RANK) if self.dt_rank == "auto" else self.dt_rank

    def check_device(self, device: str) -> None:
        """As in the base; imports torch only for a backend that needs one."""
        if self.backend in ("scan", "triton"):
            from ..scans.selective import choose

            try:
                choose(self.backend, device=device)
            except ValueError as error:
                raise ValueError(f"model.{error}") from error

    def layer_flops(self, state_dim: int) -> int:
        """The products: 4 H D into two branches, 2 D (R + 2 N) and 2 R D for steps, B and C, and
        2 D H out. Per state and channel 6 for dt A, the recurrence and <C, h>; per channel 2 `conv`
        for the convolution and 4 for dt x, D x and the gate. Activations count nothing. In a free
        basis, after a truncation, B and C are M features, and maps cost 4 M per state and channel.
        """
        H, D, R, N = self.width, self.channels, self.rank, state_dim
        M = self.features(state_dim)
        products = 6 * H * D + 2 * D * (R + 2 * M) + 2 * R * D
        maps = 4 * M * N * D if N < M else 0
        return products + maps + 6 * N * D + (2 * self.conv + 4) * D

    def layer_parameters(self, state_dim: int) -> int:
        """In and out; the convolution; the projections to steps, B and C; A and D."""
        H, D, R, N = self.width, self.channels, self.rank, state_dim
        return 3 * H * D + (self.conv + 1) * D + (2 * R + 2 * N + 1) * D + N * D + D
