"""Arrays of any origin as the tensors to compute with, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.tools.inputs import shown

Array = Any  # a numpy array or a torch tensor; the answer is of the same family


def to_complex128(*system: Array) -> tuple[list[torch.Tensor], bool]:
    """(eigenvalues, B, C) as complex128 tensors on their device, and whether numpy went in.

    Numbers of every real or complex type are taken, in any byte order and with any strides, and
    lists of them in double precision.

    Raises:
        ValueError: something is not a dense array of numbers, or arrays are on different devices.
    """
    from_numpy = not any(isinstance(array, torch.Tensor) for array in system)
    tensors = [_tensor(name, a) for name, a in zip(("eigenvalues", "B", "C"), system, strict=True)]
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"eigenvalues, B and C must be on one device, not {sorted(devices)}")
    return tensors, from_numpy


def give_back(tensor: torch.Tensor, as_numpy: bool) -> Array:
    """A tensor, or its numpy array when numpy went in."""
    return tensor.detach().cpu().numpy() if as_numpy else tensor


def to_numpy(array: Array) -> np.ndarray:
    """A tensor of any device, or whatever numpy makes an array of, as a numpy array of numbers.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(array, torch.Tensor):
        if not _is_dense(array):
            raise ValueError("a tensor must be dense, with values, and not quantized")
        array = array.detach().cpu().resolve_conj().resolve_neg()
        if array.dtype in (torch.bfloat16, torch.float16):
            array = array.float()
        elif array.dtype == torch.complex32:
            array = array.to(torch.complex64)
        return array.numpy()
    try:
        found = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged, or tensors with gradients
        raise ValueError(f"it must be an array of numbers, not {shown(array, 60)}") from error
    if found.dtype.kind == "O":
        found = _of_objects(found)
    if found.dtype.kind not in "biufc":
        raise ValueError(f"it must be an array of numbers, not of {found.dtype.name}")
    if np.ma.is_masked(array):
        raise ValueError("it has masked entries, which have no value")
    return found


def _is_dense(tensor: torch.Tensor) -> bool:
    plain = tensor.layout is torch.strided and not tensor.is_nested
    return plain and not tensor.is_meta and not tensor.is_quantized


def _of_objects(found: np.ndarray) -> np.ndarray:
    """Fractions, decimals, integers of any size and the like as doubles, if all are numbers."""
    for kind in ("f8", "c16"):
        try:
            return found.astype(kind)
        except (ValueError, TypeError, OverflowError):
            continue
    return found


def _tensor(name: str, array: Array) -> torch.Tensor:
    if isinstance(array, torch.Tensor) and _is_dense(array):
        return array.to(torch.complex128).resolve_conj().resolve_neg()
    try:
        found = to_numpy(array)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not (found.flags.writeable and found.dtype.isnative and min(found.strides, default=0) >= 0):
        found = np.array(found, order="K")
    return torch.as_tensor(found.astype(np.complex128, order="K", copy=False))
