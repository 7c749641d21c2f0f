"""Make a model from its spec, or again from what a trial stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.tasks.base import TaskInfo

from .backbone import Backbone
from .specs import BackboneSpec, ModelSpec

FORMAT = 1


def build(spec: BackboneSpec, info: TaskInfo) -> Backbone:
    """A freshly initialised model; draws from torch's global generator.

    Raises:
        ValueError: a task without inputs that the model could read, or whose answers it reads.
    """
    if info.vocabulary is None and info.inputs is None:
        raise ValueError("a task needs `inputs` (channels) or `vocabulary` (tokens)")
    if not spec.causal and info.kind == "next_token":
        raise ValueError("a bidirectional model reads the next token, which it should predict")
    return Backbone(spec, info)


def describe(model: Backbone) -> dict[str, Any]:
    """All that `load` needs besides the weights, as JSON; `gains` only where there are any."""
    gains = gain_blocks(model)
    return {
        "format": FORMAT,
        "model": model.spec.model_dump(mode="json"),
        "task_info": model.info.described(),
        "state_dims": model.state_dims,
        **({"gains": gains} if gains else {}),
    }


def numbers_in(model: nn.Module) -> int:
    """Real parameters, and the numbers of the maps that a free basis has in place of them."""
    maps = (b for name, b in model.named_buffers() if name.endswith(("B_map", "C_map")))
    return sum(p.numel() for p in model.parameters()) + sum(one.numel() for one in maps)


def gain_blocks(model: Backbone) -> list[int]:
    """The blocks whose layer has a static gain (see `layers.capabilities.TakesGain`)."""
    gains = (getattr(layer, "gain", None) for layer in model.layers)
    return [i for i, gain in enumerate(gains) if gain is not None]


def expect(model: Backbone, stored: Collection[str]) -> None:
    """Make room for those of the stored tensors, by their names in the model, that a freshly made
    model of these sizes has not, and for no others."""
    for i, layer in enumerate(model.layers):
        prefix = f"blocks.{i}.ssm."
        layer.expect([name.removeprefix(prefix) for name in stored if name.startswith(prefix)])


def _gains(model: Backbone, blocks: Sequence[int]) -> list[str]:
    """The names of the static gains of these blocks. Raises ValueError for blocks that are not."""
    for i in blocks:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(model.blocks):
            raise ValueError(f"gains must name blocks from 0 to {len(model.blocks) - 1}, not {i!r}")
    return [f"blocks.{i}.ssm.gain" for i in blocks]


def load(trial_dir: str | Path) -> nn.Module:
    """The selected model of a stored trial, in evaluation mode.

    Raises:
        ValueError: the folder holds no whole model; names the folder and what is wrong.
    """
    folder = _place_of_model(Path(trial_dir))
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no model: {name} is missing")
    try:
        description = json.loads((folder / "model.json").read_text())
        return rebuild(description, load_file(folder / "model.safetensors"))
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no whole model: {error}") from error


def _place_of_model(folder: Path) -> Path:
    """Where the files of a stored trial lie: its folder, or the place that its result names."""
    try:
        place = json.loads((folder / "result.json").read_text()).get("epoch", 0)
    except (OSError, ValueError, AttributeError):
        return folder
    return folder / "epochs" / str(place) if place else folder


def rebuild(description: dict[str, Any], weights: dict[str, Tensor]) -> Backbone:
    """A model from `describe` and its `state_dict`, in evaluation mode.

    Raises:
        ValueError: a description that `describe` did not write, or weights that do not fit it.
    """
    given = description.get("format") if isinstance(description, dict) else None
    if given != FORMAT:
        raise ValueError(f"the description's format is {given!r}; this version reads {FORMAT}")
    try:
        model = build(ModelSpec(**description["model"]), TaskInfo(**description["task_info"]))
        model.resize(description["state_dims"])
        # Of gains the description tells; what else a layer may have, the weights alone.
        others = [name for name in weights if not name.endswith(".gain")]
        expect(model, others + _gains(model, description.get("gains", [])))
    except KeyError as error:
        raise ValueError(f"the description lacks {error}") from error
    except TypeError as error:  # a field unknown or of another type
        raise ValueError(f"the description is wrong: {error}") from error
    check_fit(model, weights)
    model.load_state_dict(weights)
    return model.eval()


def check_fit(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise `ValueError`, naming the first tensor, unless names, shapes and types are the model's.

    `load_state_dict` alone would convert types in silence.
    """
    wanted, given = (
        {name: _form(t) for name, t in d.items()} for d in (model.state_dict(), weights)
    )
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"the weights do not fit the description: {name} is {given.get(name, 'missing')}, "
                f"and should be {wanted.get(name, 'absent')}"
            )


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
