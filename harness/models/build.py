"""Make a model from its spec, or again from what a trial stored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from harness.suite.specs import ModelSpec
from harness.tasks.base import TaskInfo

from .backbone import Backbone


def build(spec: Any, info: TaskInfo) -> Backbone:
    """A freshly initialised model; draws from torch's global generator.

    Raises:
        ValueError: a task without inputs that the model could read.
    """
    if info.vocabulary is None and info.inputs is None:
        raise ValueError("a task needs `inputs` (channels) or `vocabulary` (tokens)")
    return Backbone(spec, info)


def describe(model: Backbone) -> dict[str, Any]:
    """All that `load` needs besides the weights, as JSON."""
    return {
        "format": 1,
        "model": model.spec.model_dump(mode="json"),
        "task_info": asdict(model.info),
        "state_dims": model.state_dims,
    }


def load(trial_dir: str | Path) -> nn.Module:
    """The selected model of a stored trial, in evaluation mode.

    Raises:
        ValueError: the folder holds no whole model; names the file.
    """
    folder = Path(trial_dir)
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no model: {name} is missing")
    description = json.loads((folder / "model.json").read_text())
    return rebuild(description, load_file(folder / "model.safetensors"))


def rebuild(description: dict[str, Any], weights: dict[str, Any]) -> Backbone:
    """A model from `describe` and its `state_dict`, in evaluation mode."""
    spec = ModelSpec(**description["model"])
    model = build(spec, TaskInfo(**description["task_info"]))
    model.resize(description["state_dims"])
    model.load_state_dict(weights)
    return model.eval()
