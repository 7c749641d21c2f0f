"""Which backend computes a scan, and why."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import torch

MODULES = {
    "reference": "reference",
    "toeplitz": "toeplitz",
    "scan": "scan",
    "associative": "associative",
    "triton": "triton_scan",  # `triton` itself would hide the library of that name
}
BACKENDS = tuple(MODULES)
TOEPLITZ_WIDEST = 64


@dataclass(frozen=True)
class Choice:
    """A backend's name, and in a few words why it is this one."""

    name: str
    reason: str


def choose(
    backend: str,
    *,
    width: int,
    state_dim: int,
    length: int,
    batch: int,
    device: torch.device | str,
) -> Choice:
    """The backend for sequences of this shape on this device.

    Raises:
        ValueError: an unknown backend, or one asked for by name that cannot run here; says why.
    """
    device = torch.device(device)
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; use auto, {', '.join(BACKENDS)}")
    if backend == "triton":
        reason = triton_refusal(device)
        if reason is not None:
            raise ValueError(f"backend triton cannot run here: {reason}")
    if backend != "auto":
        return Choice(backend, "asked for by name")
    without = ""
    if device.type == "cuda":
        reason = triton_refusal(device)
        if reason is None:
            return Choice("triton", "a GPU, where launches are the cost: it needs the fewest")
        without = f"triton cannot run here: {reason}; "
    if width <= TOEPLITZ_WIDEST:
        return Choice("toeplitz", f"{without}width {width} is small: no state need exist")
    return Choice("scan", f"{without}width {width} is large: the projections are the cost")


def triton_refusal(device: torch.device) -> str | None:
    """Why the triton backend cannot run on this device; None where it can.

    `triton_scan.unavailable(device)` knows; where even importing it fails, the import's error says.
    """
    try:
        module = load_backend("triton")
    except ImportError as error:
        return str(error)
    return module.unavailable(device)


def load_backend(name: str) -> ModuleType:
    """The module that computes it; imported when first needed, since some need a library."""
    return importlib.import_module(f".{MODULES[name]}", __package__)
