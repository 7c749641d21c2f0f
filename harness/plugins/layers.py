"""A layer as a plug-in: its spec is derived from its constructor."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Literal

from pydantic import create_model

from harness.models.layers.capabilities import capabilities
from harness.models.specs import MODEL_UNION, BackboneSpec
from harness.spec import tag_of

from .registry import check_base, check_fields, enter


def layer(cls: type[Any]) -> type[Any]:
    """Register a subclass of `harness.models.layers.base.Layer` under its `kind`.

    The options that its constructor takes after width and state_dim become fields of the model's
    spec, unless the class brings a `spec` of its own, a subclass of `BackboneSpec`. Its static
    method `layer_flops(spec, state_dim)` says what a token costs.

    Raises:
        ValueError: it is none, its kind is missing or taken, or an option has no default or type.
    """
    from harness.models.layers.base import Layer  # which loads torch

    check_base(cls, Layer, "layer")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"layer {cls.__name__} lacks {', '.join(missing)}")
    spec = cls.__dict__.get("spec") or _spec_of(cls)
    check_base(spec, BackboneSpec, "layer")
    check_fields(spec, "layer", "kind")
    enter("layer", tag_of(spec, "kind"), cls, MODEL_UNION.specs)
    MODEL_UNION.add(spec)
    return cls


class LayerSpec(BackboneSpec):
    """A backbone with a plug-in's layers, which define their cost."""

    def layer_flops(self, state_dim: int) -> int:
        """As the layer's class says."""
        return int(self.layer_class().layer_flops(self, state_dim))  # type: ignore[attr-defined]

    def layer_parameters(self, state_dim: int) -> int:
        """Counted, in a layer without memory."""
        import torch

        with torch.device("meta"):
            fresh = self.layer_class().of(self, state_dim)
        return sum(parameter.numel() for parameter in fresh.parameters())


def _spec_of(cls: type[Any]) -> type[BackboneSpec]:
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str):
        raise ValueError(f'layer {cls.__name__} needs a kind: `kind = "its_name"`')
    if not callable(getattr(cls, "layer_flops", None)):
        raise ValueError(
            f"layer {kind} does not say its cost: `layer_flops(spec, state_dim)`, a static method"
        )
    options = _options(cls, kind)
    fields: dict[str, Any] = {"kind": (Literal[kind], kind), **options}  # type: ignore[valid-type]
    about: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    spec = create_model(f"{cls.__name__}Spec", __base__=LayerSpec, **about, **fields)
    spec.implementation = cls
    spec.capabilities = capabilities(cls)
    spec.layer_options = tuple(options)
    return spec


def _options(cls: type[Any], kind: str) -> dict[str, tuple[Any, Any]]:
    """(type, default) of what the constructor takes after width and state_dim."""
    given = list(inspect.signature(cls.__init__).parameters.values())[1:]
    types = typing.get_type_hints(cls.__init__, include_extras=True)
    if [one.name for one in given[:2]] != ["width", "state_dim"]:
        raise ValueError(f"layer {kind}: its constructor takes width and state_dim first")
    for one in given[2:]:
        wants = "a default" if one.default is one.empty else "a type"
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise ValueError(f"layer {kind}: option {one} cannot be a field: name each")
        if one.default is one.empty or one.name not in types:
            raise ValueError(f"layer {kind}: option {one.name} needs {wants}")
        if one.name in BackboneSpec.model_fields:
            raise ValueError(
                f"layer {kind}: option {one.name} is a field of every model: rename it"
            )
    return {one.name: (types[one.name], one.default) for one in given[2:]}
