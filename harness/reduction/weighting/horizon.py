"""Time-limited Gramians in closed form (Gawronski and Juang 1990), averaged over a sequence."""

from __future__ import annotations

import torch

from ..gramians import check_system


def horizon_gramians(
    lam: torch.Tensor, b: torch.Tensor, c: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The means over k = 1..length of the Gramians of the first k steps, (..., N, N) complex128.

    P = sum_{j < L} (1 - j / L) A^j B B^H A^H^j, and Q the same of (A^H, C^H): what `signal` would
    measure on white noise of this length. For L = 1 they are B B^H and C^H C; for L to infinity
    those of `gramians`.

    Raises:
        ValueError: a length below 1; as `gramians`.
    """
    if isinstance(length, bool) or int(length) != length or length < 1:
        raise ValueError(f"the horizon's length must be a whole number from 1 on, not {length}")
    check_system(lam, b, c)
    factor = mean_of_sums(lam[..., :, None] * lam[..., None, :].conj(), int(length))
    return (b @ b.mH) * factor, (c.mH @ c) * factor.conj()


def mean_of_sums(q: torch.Tensor, length: int) -> torch.Tensor:
    """sum_{j < L} (1 - j / L) q^j for |q| <= 1, without a division by 1 - q.

    With S_k = 1 + q + ... + q^(k-1), F_k = S_1 + ... + S_k, it is F_L / L, by doubling and adding
    one: S_2m = (1 + q^m) S_m, F_2m = (1 + q^m) F_m + m S_m. Nothing cancels as q nears 1.
    """
    power, sums, total, m = q, torch.ones_like(q), torch.ones_like(q), 1
    for bit in bin(length)[3:]:
        total = (1.0 + power) * total + m * sums
        sums = (1.0 + power) * sums
        power, m = power * power, 2 * m
        if bit == "1":
            sums = 1.0 + q * sums
            total = total + sums
            power, m = power * q, m + 1
    return total / length
