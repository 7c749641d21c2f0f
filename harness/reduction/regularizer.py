"""The Hankel nuclear norm of a model's layers, as a differentiable term of the training loss.

Adding weight times the sum of the Hankel singular values to the loss drives a layer towards a
system of few states, which balanced truncation then finds (Forgione, Mejari and Piga 2024,
arXiv 2403.14833; the CompreSSM paper calls it HNN). As in their code the sum is over layers and
the mean over the states of each.

Three methods:

- `exact` lets autograd go through the Gramians' square roots and the singular values of L^H R,
  in a form whose derivative stays finite where eigenvalues repeat or vanish.
- `adjoint` writes the gradient down: with the balancing T, P = T S T^H and Q = T^-H S T^-1,
  d(sum of sigma) = 1/2 sum_i [(T^-1 dP T^-H)_ii + (T^H dQ T)_ii]. T comes from one Cholesky
  factor and one Hermitian eigendecomposition of R^H Q R, which squares the singular values: they
  are good to about 1e-8 sigma_1, and those of at most `WEAK` sigma_1 have no gradient. Value and
  gradient are those of `exact` to 1e-8 where all of the spectrum is above 1e-4 sigma_1.
- `modal` is an upper bound that needs no decomposition.

Where a system has fewer than N controllable and observable states the norm has a kink; what comes
out is one of its subgradients.

On a GPU `exact` and `adjoint` make the host wait (for the check of the system and for the
decompositions), so they can't be captured in a CUDA graph; `modal` can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from harness.models.orders import Order, order_of, total

from .blocks import layers
from .circle import gaps
from .gramians import gramians_of, square_root
from .naming import naming_block
from .parallel import side_by_side, workers
from .real import Realness, with_conjugates

Method = Literal["exact", "adjoint", "modal"]
System = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # eigenvalues, B, C in complex128
EPS = torch.finfo(torch.float64).eps
WEAK = 1e-6  # of sigma_1; the eigenvalue sigma^2 has four digits there


def hankel_nuclear_norm(
    layers_or_model: nn.Module | Sequence[Any],
    method: Method = "adjoint",
    realness: Realness = "complex",
) -> torch.Tensor:
    """Sum over layers of the mean Hankel singular value of their states (or its bound).

    In a stack of systems the mean is over the states of all of them, without its padding. Of a
    layer whose states stand for their conjugates, too, the sum is that of its real system, and the
    mean over the states that are stored.

    Args:
        layers_or_model: a model with state-space layers, or the layers; each offers
            `trainable_system()`, the differentiable (eigenvalues (N,), B (N, H) with gamma,
            C (H, N)) in complex128, or the same of a stack, (S, N), (S, N, I), (S, O, N).
        method: how; see the module.
        realness: `real` takes the states of a layer without `conjugates` for one of each pair, too.

    Returns:
        A float64 scalar on the layers' device, differentiable once in the parameters of every
        layer. Computed in double precision, whatever theirs; gradients arrive in theirs.

    Raises:
        ValueError: an unknown method, no layers, a layer without `trainable_system`.
        UnusableSystem: (a ValueError, by `exact` and `adjoint`) a system that is not finite or
            not stable; names the block. `modal` looks at nothing and passes NaN or infinity on.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
    if isinstance(layers_or_model, nn.Module):
        found = layers(layers_or_model)
    else:
        found = list(layers_or_model)
    if not found:
        raise ValueError("there is no layer to regularise")
    systems = [_system(i, layer, realness) for i, layer in enumerate(found)]
    sizes = [_states(*pair, realness) for pair in zip(found, systems, strict=True)]
    means = [
        _norms(method, stack, members) / _sizes([sizes[i] for i in members], stack[0].device)
        for stack, members in _stacks(systems)
    ]
    return torch.stack([part.sum() for part in means]).sum()


def _system(i: int, layer: Any, realness: Realness) -> System:
    if not hasattr(layer, "trainable_system"):
        raise ValueError(f"block {i}: {type(layer).__name__} has no trainable_system()")
    system = layer.trainable_system()
    return with_conjugates(*system) if _is_real(layer, realness) else system


def _is_real(layer: Any, realness: Realness) -> bool:
    return realness == "real" or getattr(layer, "conjugates", False)


def _states(layer: Any, system: System, realness: Realness) -> int:
    """The states of a layer as stored, of all the systems of a stack."""
    if getattr(layer, "orders", None) is None:
        return system[0].shape[-1] // (2 if _is_real(layer, realness) else 1)
    return total(order_of(layer))


def _stacks(systems: list[System]) -> list[tuple[System, list[int]]]:
    """The systems of one size in one batch, with the indices of their blocks."""
    alike: dict[Any, list[int]] = {}
    for i, system in enumerate(systems):
        alike.setdefault(tuple(tuple(part.shape) for part in system), []).append(i)
    return [(_stacked([systems[i] for i in members]), members) for members in alike.values()]


def _stacked(systems: list[System]) -> System:
    lam, B, C = (torch.stack(parts) for parts in zip(*systems, strict=True))
    return lam, B, C


def _sizes(sizes: list[int], device: torch.device) -> torch.Tensor | int:
    """The states of each layer; one number where all have as many."""
    return sizes[0] if len(set(sizes)) == 1 else torch.tensor(sizes, device=device)


def _norms(method: Method, stack: System, members: list[int]) -> torch.Tensor:
    """(layers,) float64 of layers of one size; an unusable one is named by its block."""
    norms: dict[str, Callable[..., torch.Tensor]] = {
        "exact": nuclear_norms,
        "adjoint": AdjointNuclearNorms.apply,
        "modal": modal_bounds,
    }
    leading = stack[0].shape[:-1]  # layers, or layers and systems
    try:
        found = norms[method](*(part.flatten(0, len(leading) - 1) for part in stack))
    except ValueError:
        for i, system in zip(members, zip(*stack, strict=True), strict=True):
            with naming_block(i), torch.no_grad():
                gramians_of(*system)
        raise
    return found.unflatten(0, leading).sum(-1) if len(leading) > 1 else found


# --- exact: autograd through the decompositions ------------------------------------------------


def nuclear_norms(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """Sum of the Hankel singular values of (..., N), (..., N, H), (..., H, N): (...,) float64."""
    gramians_of(eigenvalues.detach(), B.detach(), C.detach())  # refuses an unusable system
    K = _kernel(eigenvalues)
    P, Q = (B @ B.mH) * K, (C.mH @ C) * K.conj()
    return torch.linalg.svdvals(_differentiable_root(Q).mH @ _differentiable_root(P)).sum(-1)


def _kernel(lam: torch.Tensor) -> torch.Tensor:
    """K_ij = 1 / (1 - l_i conj(l_j))."""
    return 1.0 / gaps(lam, float(lam.detach().abs().max()))


def _unit_scale(gramian: torch.Tensor) -> torch.Tensor:
    """(..., N), what the rows and columns are divided by for a unit diagonal (1 where it is 0).

    Rounding is then relative to each state, as in `gramians.square_root`.
    """
    scale = gramian.diagonal(dim1=-2, dim2=-1).real.sqrt()
    return torch.where(scale > 0, scale, 1.0)


def _differentiable_root(gramian: torch.Tensor) -> torch.Tensor:
    """A factor R with R R^H = gramian, whatever the (constant) scale."""
    scale = _unit_scale(gramian.detach())
    unit = gramian / (scale[..., :, None] * scale[..., None, :])
    return scale[..., :, None] * HermitianRoot.apply(unit)


class HermitianRoot(torch.autograd.Function):
    """S = M^(1/2), M (..., N, N) Hermitian, negative eigenvalues (rounding) clipped to zero.

    The derivative solves dS S + S dS = dM: in the eigenbasis a division by sums of roots, where
    that of eigenvectors would divide by differences of eigenvalues, zero for repeated ones.
    Between two null vectors, where nothing is defined, it is zero.
    """

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        root = values.clamp_min(0.0).sqrt()
        ctx.save_for_backward(root, vectors)
        return (vectors * root[..., None, :]) @ vectors.mH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        root, vectors = ctx.saved_tensors
        sums = root[..., :, None] + root[..., None, :]
        null = sums <= (root.shape[-1] * EPS) ** 0.5 * root[..., -1:, None]
        inner = (vectors.mH @ grad @ vectors) / torch.where(null, torch.inf, sums)
        return vectors @ inner @ vectors.mH


# --- adjoint: the gradient in closed form ------------------------------------------------------


class AdjointNuclearNorms(torch.autograd.Function):
    """`nuclear_norms` of a stack (layers, ...) of systems; its gradient is made with its value."""

    @staticmethod
    def forward(
        ctx: Any, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> torch.Tensor:
        stack = [part.detach() for part in (eigenvalues, B, C)]
        at_once = min(workers(stack[0].shape[-1], stack[0].device), len(stack[0]))
        batches = list(zip(*(part.tensor_split(at_once) for part in stack), strict=True))
        wanted = any(ctx.needs_input_grad)
        found = side_by_side(lambda some: _with_gradients(some, wanted), batches, at_once)
        value, *gradients = (torch.cat(parts) for parts in zip(*found, strict=True))
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        lam, B, C = ctx.saved_tensors
        return grad[:, None] * lam, grad[:, None, None] * B, grad[:, None, None] * C


@torch.no_grad()  # a worker's thread would record a graph
def _with_gradients(stack: System, wanted: bool) -> tuple[torch.Tensor, ...]:
    """The norms of a stack of systems, and where wanted their gradients in it."""
    P, Q = gramians_of(*stack)
    R = _cheap_root(P)
    squares, vectors = torch.linalg.eigh(R.mH @ Q @ R)
    hsv = squares.clamp_min(0.0).sqrt()
    norms = hsv.sum(-1)
    return (norms, *nuclear_norm_gradients(stack, P, Q, R @ vectors, hsv)) if wanted else (norms,)


def _cheap_root(gramian: torch.Tensor) -> torch.Tensor:
    """A factor R with R R^H = gramian: Cholesky's, or another where rounding leaves none."""
    scale = _unit_scale(gramian)
    unit = gramian / (scale[..., :, None] * scale[..., None, :])
    root, failed = torch.linalg.cholesky_ex(unit)
    return square_root(gramian) if bool(failed.any()) else scale[..., :, None] * root


def nuclear_norm_gradients(
    system: System, P: torch.Tensor, Q: torch.Tensor, RV: torch.Tensor, hsv: torch.Tensor
) -> System:
    """Gradients of the sum of sigma in eigenvalues (..., N), B (..., N, H) and C (..., H, N).

    In torch's convention, d/d Re + i d/d Im. With T = R V S^(-1/2), where P = R R^H and
    R^H Q R = V S^2 V^H, so T^-H = Q T S^-1; X = T^-H T^-1, Y = T T^H; K_ij = 1 / (1 - l_i
    conj(l_j)), P = (B B^H) o K and Q = (C^H C) o conj(K), o the entrywise product:

    g_B = (X o conj(K)) B,  g_C = C (Y o K),  g_l = [(X o conj(P) + conj(Y) o Q) o conj(K)] l.
    """
    lam, B, C = system
    strong = hsv > WEAK * hsv[..., -1:]
    inverse = torch.where(strong, 1.0 / hsv, 0.0)[..., None, :]
    T = RV * inverse.sqrt()
    inverse_T = (Q @ T) * inverse  # its conjugate transpose
    X, Y = inverse_T @ inverse_T.mH, T @ T.mH
    K = _kernel(lam)
    of_kernel = (X * P.conj() + Y.conj() * Q) * K.conj()
    return (of_kernel @ lam[..., None])[..., 0], (X * K.conj()) @ B, C @ (Y * K)


# --- modal: a bound ----------------------------------------------------------------------------


def modal_bounds(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """sum_i |C_i| |B_i| / (1 - |l_i|^2) >= sum of sigma, (...,) float64; N H operations.

    The system is the sum of its modes, so its Hankel operator is the sum of theirs, each of rank
    one with the singular value |C_i| |B_i| / (1 - |l_i|^2), and a nuclear norm of a sum is at most
    the sum of nuclear norms. Equal for a single mode, and where the rows of B and the columns of
    C are orthogonal.
    """
    magnitude = eigenvalues.abs()  # in double precision, 1 - magnitude keeps its digits
    decay = (1.0 - magnitude) * (1.0 + magnitude)
    norm = torch.linalg.vector_norm
    return (norm(B, dim=-1) * norm(C, dim=-2) / decay).sum(-1)


# --- what it costs -----------------------------------------------------------------------------


def regularizer_flops(n: Order, width: int, method: Method) -> float:
    """FLOPs, to leading order, of one layer's value and gradient in one training step; of a stack
    those of its systems, which share the width.

    Counted as in `harness.training.costs.flops.spectrum_flops`: complex arithmetic as four real, a
    Hermitian eigendecomposition 9 n^3, a singular value decomposition 22 n^3; Cholesky n^3 / 3.

    Raises:
        ValueError: an unknown method.
    """
    if isinstance(n, tuple):
        return sum(regularizer_flops(one, width // len(n), method) for one in n)
    gramian, product = 2.0 * n * n * width, 2.0 * n**3
    if method == "exact":
        # L^H R and two roots V s V^H; backward: of the SVD, of L^H R, of two roots, of Gramians
        spectrum = 2 * gramian + 2 * 9 * n**3 + product + 22 * n**3
        return 4 * (spectrum + 2 * product + (1 + 2 + 2 * 4) * product + 2 * 2 * gramian)
    if method == "adjoint":  # R^H Q R, R V, Q T, X, Y; the Gramians, and B and C through X and Y
        return 4 * (4 * gramian + n**3 / 3 + 9 * n**3 + 6 * product)
    if method == "modal":  # gamma B, |B|^2 and |C|^2; backward twice that
        return 3.0 * (2 + 4 + 4) * n * width
    raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
