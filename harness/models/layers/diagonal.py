"""What diagonal layers of one system share: steps, a static gain, sizes, backends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import linear

from .. import scans
from .base import Choice, Layer, LayerState, check_state_dim


@dataclass(frozen=True)
class Recurrence:
    """The system as a step needs it: `decay` (N,) complex, `into` (H, 2 N) and `out` (2 N, H) real,
    where states are pairs of real and imaginary part, `through` (H,), its D, and `gain` (H, H), its
    static gain transposed, if it has one."""

    decay: torch.Tensor
    into: torch.Tensor
    out: torch.Tensor
    through: torch.Tensor
    gain: torch.Tensor | None = None


class DiagonalLayer(Layer):
    """h_k = diag(lambda) h_{k-1} + B u_k, y_k = Re(C h_k) + D u_k, one system with H inputs and
    outputs, computed by a scan.

    A subclass has a parameter D (H,), those in `state_axes`, and `trainable_system` and `assign`.

    `gain` (H, H) adds gain u_k to the output. It is None until a reduction by singular perturbation
    adds it (`add_gain`). It is not part of `system`: without memory it has no Hankel energy.
    """

    # The parameters that have an axis of states, and which of their axes that is.
    state_axes: ClassVar[Mapping[str, int]]

    D: nn.Parameter
    gain: nn.Parameter | None

    def __init__(self, backend: str, remember: str):
        super().__init__()
        self.backend, self.remember = backend, remember

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """Which of `harness.models.scans`."""
        return scans.choose(
            spec.backend,
            width=spec.width,
            state_dim=state_dim,
            length=length,
            batch=batch,
            device=device,
        )

    @classmethod
    def warm_up(cls) -> None:
        """The compiled scans of a CPU."""
        scans.warm_up()

    @property
    def state_dim(self) -> int:
        """N, the complex states of this layer, as they are stored."""
        name, axis = next(iter(self.state_axes.items()))
        return getattr(self, name).shape[axis]

    def through(self, y: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """y + D u, and the static gain, if there is one."""
        y = torch.addcmul(y, self.D, u)
        return y if self.gain is None else y + linear(u, self.gain)

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """The system is worked out in double precision, and held in that of the parameters."""
        through = self.D.detach().to(device)
        dtype = through.dtype
        eigenvalues, B, C = (array.to(device) for array in self.system())
        system = Recurrence(
            decay=eigenvalues.to(torch.complex128 if dtype == torch.float64 else torch.complex64),
            into=torch.view_as_real(B.mT.contiguous()).flatten(-2).to(dtype),
            out=torch.view_as_real(C.mH.resolve_conj().contiguous())
            .mT.reshape(-1, len(through))
            .to(dtype),
            through=through,
            gain=None if self.gain is None else self.gain.detach().to(device).mT.contiguous(),
        )
        return LayerState((system.decay.new_zeros(sequences, len(system.decay)),), system)

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        system: Recurrence = state.fixed
        (h,) = state.tensors
        h = system.decay * h + torch.view_as_complex((u @ system.into).unflatten(-1, (-1, 2)))
        y = torch.addcmul(torch.view_as_real(h).flatten(-2) @ system.out, system.through, u)
        if system.gain is not None:
            y = torch.addmm(y, u, system.gain)
        return y, LayerState((h,), system)

    @torch.no_grad()
    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(eigenvalues (N,), B (N, H) as it stands before the input, C (H, N)), complex128, on
        this device."""
        return self.trainable_system()

    @abstractmethod
    def trainable_system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`system`, differentiable in the parameters."""

    @abstractmethod
    def assign(self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
        """Take over a system of any state dimension; D and gain stay."""

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor) -> None:
        """Keep only these states, (r,) indices; the rest of each parameter keeps its bits."""
        for name in self.state_axes:
            old = getattr(self, name)
            kept = old.index_select(self.state_axis(name), modes.to(old.device))
            self._replace(name, kept.contiguous())

    @torch.no_grad()
    def add_gain(self, gain: torch.Tensor) -> None:
        """Add Re(gain) u to the output, gain (H, H); an earlier one stays in place and adds."""
        value = torch.real(gain).to(self.D).contiguous()
        if self.gain is None:
            self.expect(["gain"])
            assert self.gain is not None
            self.gain.copy_(value)
        else:
            self.gain.add_(value)

    def expect(self, stored: Collection[str]) -> None:
        """An empty gain where one is stored and there is none, and none where none is stored."""
        if "gain" not in stored:
            self.gain = None
        elif self.gain is None:
            width = len(self.D)
            value = self.D.new_empty(width, width)
            self.gain = nn.Parameter(value, requires_grad=self.D.requires_grad)

    def resize(self, state_dim: int) -> None:
        """Empty parameters for another state dimension, to load stored values into."""
        check_state_dim(state_dim)
        for name in self.state_axes:
            old = getattr(self, name)
            shape = list(old.shape)
            shape[self.state_axis(name)] = state_dim
            self._replace(name, old.new_empty(shape))

    def _replace(self, name: str, value: torch.Tensor) -> None:
        frozen = not getattr(self, name).requires_grad
        setattr(self, name, nn.Parameter(value, requires_grad=not frozen))

    @classmethod
    def state_axis(cls, name: str) -> int:
        """The axis along which a parameter counts states."""
        return cls.state_axes.get(name, 0)
