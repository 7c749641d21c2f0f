"""B, C and a static gain of reduced systems, fitted to the full layers' outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..balanced import Truncation
from ..naming import naming_block
from ..ranks import BlockDecomposition
from ..stacks import StackTruncation
from .calibration import Calibration, listen, listen_both_ways
from .choice import PROJECTIONS, Target
from .least_squares import ENOUGH, SWEEPS, Moments, Sums, filters, side_by_side, static
from .measured import UNDRIVEN, check_channels, check_measured, silent, stacked

Fits = Literal["none", "gain", "C", "C+gain", "BC", "BC+gain"]
Weight = Literal["uniform", "task"]

MOST_UNKNOWNS = 4096  # of B, real ones: their normal equations take 128 MiB


@dataclass(frozen=True)
class Refit:
    """What is fitted, by least squares over the calibration sequences, to the outputs that the full
    layer gives, while the poles stay; see harness/reduction/weighting/README.md.

    fits: a static `gain`, `C`, or `B` and `C` in turn; `none` leaves the truncation as it is.
    weight: every step alike (`uniform`), or by the squared norm of the `target`'s gradient with
    respect to the outputs of the system at that step (`task`). normalise: as in `Weighting`.
    """

    fits: Fits = "none"
    weight: Weight = "uniform"
    target: Target = "loss"
    normalise: bool = False

    def __post_init__(self) -> None:
        for what, given, allowed in (
            ("refit", self.fits, Fits),
            ("refit weight", self.weight, Weight),
            ("target", self.target, Target),
        ):
            if given not in get_args(allowed):
                listed = ", ".join(get_args(allowed))
                raise ValueError(f"{what} must be one of {listed}, not {given!r}")

    @property
    def is_asked(self) -> bool:
        """Whether anything is fitted."""
        return self.fits != "none"

    @property
    def fits_b(self) -> bool:
        """Whether B is fitted, in turn with C."""
        return self.fits.startswith("BC")

    @property
    def fits_c(self) -> bool:
        """Whether C is fitted."""
        return "C" in self.fits

    @property
    def fits_gain(self) -> bool:
        """Whether a static gain is."""
        return self.fits.endswith("gain")

    @property
    def passes(self) -> int:
        """Backward passes for each calibration batch."""
        if self.weight == "uniform":
            return 0
        return PROJECTIONS if self.target == "logits" else 1

    @property
    def label(self) -> str:
        """What the record says: `C+gain`, `BC by task`."""
        return self.fits if self.weight == "uniform" else f"{self.fits} by task"


def refit_of(given: str | Refit) -> Refit:
    """The refit of a name. Raises ValueError for one that does not exist."""
    return given if isinstance(given, Refit) else Refit(fits=given)  # type: ignore[arg-type]


def refitted(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    before: Mapping[int, BlockDecomposition],
    after: Mapping[int, Any],
    refit: Refit,
    calibration: Calibration,
) -> dict[int, Any]:
    """The truncations with what `refit` fits, from one pass of the full model over the calibration
    batches, whose memory is flat in their number. Systems of a stack that stay are left alone.

    A fitted system has no `error_bound`, and no `modes`, since its parameters are no entries of the
    old ones. T and W stay those of the projection.

    Raises:
        ValueError: naming the block, a layer that cannot, too many unknowns, or calibration that is
            empty, constant, no numbers, or without any gradient.
    """
    if not (refit.is_asked and after):
        return dict(after)
    moments = {}
    for i, done in after.items():
        with naming_block(i):
            moments[i] = Moments(stacked(before[i]), done, _regressors(done, refit))
    _measure(model, {i: layers[i] for i in after}, moments, refit, calibration)
    return {i: _block(before[i], done, moments[i], refit) for i, done in after.items()}


def _regressors(done: Any, refit: Refit) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (S, n) and input matrix (S, n, I) of what coefficients are fitted to.

    Raises:
        ValueError: too many for B.
    """
    lam, B, _ = side_by_side(done)
    lam, B = lam[:, : done.order], B[:, : done.order]
    parts = []
    if refit.fits_b:
        unknowns = 2 * done.order * B.shape[-1]
        if unknowns > MOST_UNKNOWNS:
            raise ValueError(
                f"a refit of B would have {unknowns} real unknowns, more than {MOST_UNKNOWNS}: "
                "refit C alone"
            )
        parts.append(filters(done))
    elif refit.fits_c:
        parts.append((lam, B))
    if refit.fits_gain:
        parts.append(static(B))
    return torch.cat([lam for lam, _ in parts], -1), torch.cat([into for _, into in parts], -2)


def _measure(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    moments: Mapping[int, Moments],
    refit: Refit,
    calibration: Calibration,
) -> None:
    heard: dict[int, torch.Tensor] = {}
    uniform = refit.weight == "uniform"

    def inputs(i: int, u: torch.Tensor) -> None:
        check_channels(u, moments[i].into, "input")
        if uniform:
            moments[i].add(u)
        else:
            heard[i] = u

    def gradients(i: int, g: torch.Tensor) -> None:
        out = moments[i].out
        check_channels(g, out.mT, "output")
        weight = g.double().unflatten(-1, out.shape[:2]).square().sum(-1)
        if refit.normalise:
            size = weight.sum((1, 2), keepdim=True)
            weight = weight / torch.where(size > 0, size, 1.0)
        moments[i].add(heard[i], weight)

    if uniform:
        listen(model, layers, calibration.batches, inputs)
    else:
        listen_both_ways(model, layers, calibration, inputs, gradients, refit.target)
    found = {i: one.states for i, one in moments.items()}
    check_measured(found, "states", UNDRIVEN if uniform else silent(refit.target))


def _block(before: BlockDecomposition, done: Any, moments: Moments, refit: Refit) -> Any:
    if not isinstance(done, StackTruncation):
        return _fitted(done, moments.of(0, _chosen(done, done, refit)), refit)
    found = [
        one
        if one.order == full.state_dim
        else _fitted(one, moments.of(s, _chosen(done, one, refit)), refit)
        for s, (full, one) in enumerate(zip(before.systems, done.systems, strict=True))
    ]
    return replace(done, systems=tuple(found))


def _chosen(done: Any, one: Truncation, refit: Refit) -> torch.Tensor:
    """The regressors of one system, among those of a stack that is padded to its largest."""
    inputs, each = one.B.shape[-1], 0
    if refit.fits_c:
        each = inputs if refit.fits_b else 1
    gain = torch.arange(inputs if refit.fits_gain else 0) + done.order * each
    return torch.cat([torch.arange(one.order * each), gain])


def _fitted(one: Truncation, sums: Sums, refit: Refit) -> Truncation:
    """C, with the gain, and B in turn, until a sweep takes little off the error."""
    B, C, gain = one.B, one.C, one.gain
    r, inputs = B.shape if refit.fits_c else (0, B.shape[-1])
    for _ in range(SWEEPS if refit.fits_b else 1):
        squares = sums.squares
        K = _states_of(B, len(sums.F)) if refit.fits_b else torch.eye(len(sums.F)).to(B)
        c = sums.best_out(K)
        sums.take(c @ K)
        C = C + c[:, :r] if refit.fits_c else C
        if refit.fits_gain:
            more = c[:, r:].real.to(B.dtype)
            gain = more if gain is None else gain + more
        if refit.fits_b:
            wide = C.repeat_interleave(inputs, -1)
            b = sums.best_into(wide)
            sums.take(torch.nn.functional.pad(wide * b, (0, len(sums.F) - len(b))))
            B = B + b.view_as(B)
        if not squares - sums.squares > ENOUGH * squares:
            break
    return replace(one, B=B, C=C, gain=gain, error_bound=None, modes=None, refit=refit.label)


def _states_of(B: torch.Tensor, n: int) -> torch.Tensor:
    """K (r + n - r I, n): the states, and the inputs of a gain, by the regressors r I and them."""
    return torch.block_diag(*B, torch.eye(n - B.numel()).to(B))
