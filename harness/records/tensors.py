"""Tensors, and the JSON that belongs to them, as safetensors bytes and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

_STATE = "__state__"  # the JSON half of a checkpoint, as bytes, beside the tensors


def pack_state(tensors: Tensors, state: Mapping[str, Any]) -> bytes:
    """Tensors and their JSON, which may hold NaN and infinities, in one file."""
    import torch

    if _STATE in tensors:
        raise ValueError(f"a tensor may not be called {_STATE}")
    text = bytearray(json.dumps(state, sort_keys=True).encode())
    # As a tensor, since safetensors limits its metadata to 100 MB.
    return pack({**tensors, _STATE: torch.frombuffer(text, dtype=torch.uint8)})


def unpack_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """What `pack_state` was given, on the CPU; None without a file, ValueError if damaged."""
    if not path.exists():
        return None
    tensors = unpack(path)
    if _STATE not in tensors:
        raise ValueError(f"{path} is no checkpoint of ours")
    return tensors, json.loads(bytes(tensors.pop(_STATE).numpy()))


def pack(tensors: Tensors) -> bytes:
    """Tensors as they are, from whatever device."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory or are not contiguous.
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        return save(copies)
    except KeyError as error:  # its table of types has no complex128
        raise ValueError(f"safetensors cannot hold {error.args[0]}; use view_as_real") from None


def unpack(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file, on the CPU. Raises ValueError, in one line, if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
