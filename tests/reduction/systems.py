"""Diagonal systems for the tests, the hard ones among them."""

import numpy as np
import torch

from harness.reduction import Decomposition


def random_system(n, h, seed=0, r_min=0.5, r_max=0.99):
    """(eigenvalues (n,), B (n, h), C (h, n)), complex128."""
    rng = np.random.default_rng(seed)
    radius = rng.uniform(r_min, r_max, n)
    lam = radius * np.exp(1j * rng.uniform(0, 2 * np.pi, n))
    B = rng.normal(size=(n, h)) + 1j * rng.normal(size=(n, h))
    C = rng.normal(size=(h, n)) + 1j * rng.normal(size=(h, n))
    return lam, B * np.sqrt(1 - radius**2)[:, None], C


def with_hsv(*hsv):
    """A decomposition of which only the spectrum is looked at."""
    n = len(hsv)
    empty = torch.zeros(n, n, dtype=torch.complex128)
    return Decomposition(*[empty] * 6, torch.tensor(hsv, dtype=torch.float64), empty)


def _with(lam=None, B=None, C=None, n=12, h=3):
    l0, b0, c0 = random_system(n, h, seed=7)
    return (l0 if lam is None else lam, b0 if B is None else B, c0 if C is None else C)


_lam, _B, _C = random_system(12, 3, seed=7)
_weak = np.where(np.arange(12) < 4, 1e-9, 1.0)
HARD = {
    "ordinary": random_system(16, 4),
    "many states, few channels": random_system(64, 2, r_min=0.9, r_max=0.999),
    "more channels than states": random_system(3, 20),
    "nearly uncontrollable": _with(B=_B * _weak[:, None]),
    "nearly unobservable": _with(C=_C * _weak),
    "repeated eigenvalues": _with(lam=np.repeat(_lam[:6], 2)),
    "nearly repeated eigenvalues": _with(lam=np.repeat(_lam[:6], 2) * (1 - 1e-9 * np.arange(12))),
    "magnitude 0.9999": _with(lam=_lam / abs(_lam) * 0.9999),
    "negative real": _with(lam=-abs(_lam)),
    "positive real": _with(lam=abs(_lam).astype(complex)),
    "near zero": _with(lam=_lam * 1e-6),
    "one state": random_system(1, 4),
}


def transfer(eigenvalues, B, C, z, gain=0.0):
    """z C (z - Lambda)^-1 B + gain at each z, (len(z), H, H): the output reads the new state."""
    z = np.asarray(z)[:, None, None]
    return z * ((C[None] / (z - eigenvalues)) @ B) + gain


def distance(full, reduced, gain=0.0):
    """The H-infinity distance of two systems on a grid with their resonances in it."""
    grid = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    z = np.exp(1j * np.concatenate([grid, np.angle(full[0]), np.angle(reduced[0])]))
    gap = transfer(*full, z) - transfer(*reduced, z, gain)
    return np.linalg.norm(gap, ord=2, axis=(1, 2)).max()
