"""Whether this machine rounds as the one that wrote the store: bits can be compared only then."""

import hashlib

import torch


def canary():
    """A hash of what torch makes of fixed sums, products and decompositions on one thread."""
    digest = hashlib.sha256()
    for kind in (torch.float32, torch.float64):
        x = torch.linspace(-3.0, 3.0, 64 * 48, dtype=kind).reshape(64, 48).sin()
        square = x[:48] @ x[:48].T
        values = (x @ x.T, x.exp(), x.tanh(), x.cumsum(0), x.softmax(1), x.T.mean(1))
        spectrum = torch.linalg.eigvalsh(square)
        for value in (*values, spectrum, torch.linalg.svdvals(x.to(torch.complex128))):
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
