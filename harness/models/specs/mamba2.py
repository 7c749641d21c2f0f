"""The spec of Mamba-2."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from harness.spec import StateDim, StateDims

from .s5 import Step
from .selective import SelectiveSpec

HEAD_DIM = 64  # the authors' channels of a head


class Mamba2Spec(SelectiveSpec):
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): `expand` x width channels in heads of `head_dim`
    (`auto`: 64, or the largest number below it that divides the channels), each head with a decay
    that changes with the sequence, and each channel with `state_dim` states (their d_state). Inputs
    and outputs of the states, which change too, are common to the heads of each of so many
    `groups`. `conv` is the width of the causal convolution (d_conv). New steps lie between `dt_min`
    and `dt_max`, and not below `dt_floor`. `block` and `basis`: see `SelectiveSpec`; `backend`:
    `harness.models.scans.ssd`.
    """

    implementation: ClassVar[str] = "harness.models.layers.mamba2:Mamba2"

    has_heads: ClassVar[bool] = True

    kind: Literal["mamba2"] = "mamba2"
    state_dim: StateDim | StateDims = 64
    expand: Annotated[int, Field(ge=1, le=64)] = 2
    head_dim: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = "auto"
    groups: Annotated[int, Field(ge=1, le=65_536)] = 1
    conv: Annotated[int, Field(ge=1, le=64)] = 4
    dt_min: Step = 0.001
    dt_max: Step = 0.1
    dt_floor: Step = 1e-4
    block: Literal["authors", "backbone"] = "authors"
    basis: Literal["own", "free"] = "own"
    backend: Literal["auto", "reference", "chunked"] = "auto"

    @model_validator(mode="after")
    def _heads_and_groups_divide(self) -> Mamba2Spec:
        if self.channels % self.channels_a_head:
            raise ValueError(
                f"head_dim {self.head_dim} does not divide the {self.channels} channels, "
                "expand x width"
            )
        if self.heads % self.groups:
            raise ValueError(
                f"groups {self.groups} must divide the heads, of which there are {self.heads}: "
                f"{self.channels} channels in heads of {self.channels_a_head}"
            )
        return self

    @property
    def channels_a_head(self) -> int:
        """P."""
        if self.head_dim != "auto":
            return self.head_dim
        sizes = range(min(HEAD_DIM, self.channels), 0, -1)
        return next(size for size in sizes if self.channels % size == 0)

    @property
    def heads(self) -> int:
        """D / P."""
        return self.channels // self.channels_a_head

    def layer_flops(self, state_dim: int) -> int:
        """The products: 2 H (2 D + 2 G N + heads) in, and 2 H D out. Per state and channel 5 for
        the recurrence and h C; 2 `conv` for the convolution of each of D + 2 G N; 8 a channel for
        dt x, D x, the gate and the norm, and 1 a head for dt A. Activations count nothing. In a
        free basis, after a truncation, B and C are M features, and maps cost 4 M per state and
        group."""
        H, D, heads = self.width, self.channels, self.heads
        M = self.features(state_dim)
        states = 2 * self.groups * M
        products = 2 * H * (2 * D + states + heads) + 2 * H * D
        products += 4 * M * state_dim * self.groups if state_dim < M else 0
        return products + 5 * state_dim * D + 2 * self.conv * (D + states) + 8 * D + heads

    def layer_parameters(self, state_dim: int) -> int:
        """In and out; the convolution; steps, A and D of the heads; the norm."""
        H, D, heads = self.width, self.channels, self.heads
        states = 2 * self.groups * state_dim
        products = H * (2 * D + states + heads) + H * D
        return products + (self.conv + 1) * (D + states) + 3 * heads + D
