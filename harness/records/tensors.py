"""Tensors and the JSON that belongs to them, to safetensors bytes and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.records.checksums import digest
from harness.tools.inputs import cut, parse_json

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

_STATE = "__state__"  # the JSON half of a checkpoint, stored as a tensor of bytes
_SUM, _BLANK = "sha256", "0" * 64  # in a checkpoint's header, blank while it is computed


def pack_state(tensors: Tensors, state: Mapping[str, Any]) -> bytes:
    """Tensors and their JSON, which may hold NaN and infinities, in one file with its checksum."""
    import torch

    if _STATE in tensors:
        raise ValueError(f"a tensor may not be called {_STATE}")
    text = bytearray(json.dumps(state, sort_keys=True).encode())
    # As a tensor, since safetensors limits its metadata to 100 MB.
    whole = {**tensors, _STATE: torch.frombuffer(text, dtype=torch.uint8)}
    data = bytearray(pack(whole, {_SUM: _BLANK}))
    place = data.index(_BLANK.encode())
    data[place : place + len(_BLANK)] = digest(data).encode()
    return bytes(data)


def unpack_state(data: bytes, path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The arguments of `pack_state`, on the CPU; `path` names the file in messages.

    Old files without a checksum are read without a check.

    Raises:
        ValueError: it is damaged.
    """
    tensors = unpack(data, path)
    if not _is_as_written(data):
        raise ValueError(f"{path} is damaged: its checksum differs")
    if _STATE not in tensors:
        raise ValueError(f"{path} is not a checkpoint of ours")
    state = parse_json(bytes(tensors.pop(_STATE).numpy()), path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint of ours")
    return tensors, state


def _is_as_written(data: bytes) -> bool:
    """Whether a file's checksum, blanked, is that of its bytes; `data` is valid safetensors."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
    if metadata is None:
        return True
    stored = str(metadata.get(_SUM, "")).encode()
    place = data.find(stored)
    if len(stored) != len(_BLANK) or place < 0:
        return False
    view = memoryview(data)
    return stored.decode() == digest(view[:place], _BLANK.encode(), view[place + len(stored) :])


def pack(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """Tensors as they are, from any device."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory or are not contiguous.
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        return save(copies, metadata)
    except KeyError as error:  # its types lack complex128
        raise ValueError(f"safetensors cannot hold {error.args[0]}; use view_as_real") from None


def unpack(data: bytes, what: object) -> dict[str, torch.Tensor]:
    """The tensors in a file's bytes, on the CPU; `what` names the file in messages.

    Raises:
        ValueError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        said = cut((str(error).splitlines() or [type(error).__name__])[0])
        raise ValueError(f"{what} is damaged: {said}") from None
