"""Calibration: what a model's layers hear on some batches, and what the loss sends back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..naming import naming_block
from .targets import Loss, scalars

HELD_OUT = (4, 9, 14, 19)  # of a user's batches, counted from 0

Heard = Callable[[int, torch.Tensor], None]  # of block and (batch, length, channels)


@dataclass(frozen=True)
class Calibration:
    """Batches to calibrate on, and others to measure the error on.

    batches, held_out: (x, y) or x alone, as the model and `loss` take them; iterated several times.
    loss: of (model output, y), a scalar (the mean over examples) or one number per example.
    length: steps of a sequence, for the horizon. seed: of random targets.
    """

    batches: Iterable[Any] = ()
    held_out: Iterable[Any] = ()
    loss: Loss | None = None
    length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batches", "held_out"):
            given = getattr(self, name)
            if not isinstance(given, Iterable):
                raise ValueError(f"calibration {name} must be iterable, not {type(given).__name__}")
            if iter(given) is given:
                raise ValueError(
                    f"calibration {name} can be iterated only once: give a list or a DataLoader"
                )


@dataclass(frozen=True)
class _Rest:
    """A loader's batches without those held out."""

    loader: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        return (batch for i, batch in enumerate(self.loader) if i not in HELD_OUT)


def calibration_of(given: Any, loss: Loss | None, length: int | None) -> Calibration:
    """A user's loader as a `Calibration`: every fifth batch, at most four, is held out; of fewer
    than five batches none is. These are kept, since a loader that shuffles gives others the next
    time, and losses are compared on them; its other passes may then meet examples of theirs.

    Raises:
        ValueError: not an iterable, or one that can be iterated only once.
    """
    if isinstance(given, Calibration):
        return given
    if given is None:
        return Calibration(loss=loss, length=length)
    Calibration(given)  # refuses what cannot be iterated again
    first = enumerate(itertools.islice(given, HELD_OUT[-1] + 1))
    return Calibration(_Rest(given), [one for i, one in first if i in HELD_OUT], loss, length)


def parts(batch: Any) -> tuple[Any, Any]:
    """(x, y) of a batch; y None where there is x alone."""
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 2:
            raise ValueError(f"a calibration batch must be x or (x, y), not {len(batch)} parts")
        return batch[0], (batch[1] if len(batch) == 2 else None)
    return batch, None


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; modes, buffers' bits and the generators' state come back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def listen(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    batches: Iterable[Any],
    inputs: Heard | None,
) -> int:
    """Call `inputs` with each layer's input, batch by batch, without gradients; return how many
    examples there were."""
    count = 0
    with undisturbed(model), torch.no_grad(), _hooks(layers, inputs, None):
        for x, _ in _checked(batches):
            model(x)
            count += len(x)
    return count


def listen_both_ways(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    calibration: Calibration,
    inputs: Heard | None,
    gradients: Heard,
    target: Any,
) -> int:
    """As `listen`, and call `gradients` with the gradient of the target's scalars with respect to
    each layer's output. No gradient of a parameter is touched.

    Raises:
        ValueError: a target that does not reach a layer, or as `scalars`.
    """
    count = 0
    generator = torch.Generator().manual_seed(calibration.seed)

    def hear(x: Any, y: Any) -> None:  # at whose end all of a batch's graph is free
        outputs: dict[int, torch.Tensor] = {}
        with _hooks(layers, inputs, outputs):
            logits = model(x)
        found = scalars(target, logits, y, calibration.loss, generator)
        _send_back(outputs, layers, found, gradients)

    with undisturbed(model), _frozen(model), torch.enable_grad():
        for x, y in _checked(calibration.batches):
            hear(x, y)
            count += len(x)
    return count


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient: a graph begins at the first layer's output, and keeps nothing
    for the gradients of weights."""
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in trained:
            p.requires_grad_(False)
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def _send_back(
    outputs: Mapping[int, torch.Tensor],
    layers: Mapping[int, nn.Module],
    found: Iterator[torch.Tensor],
    gradients: Heard,
) -> None:
    silent = [i for i in layers if i not in outputs]
    if silent:
        raise ValueError(f"block {silent[0]}: the model does not call this layer")
    every = list(found)
    for scalar in every:
        if not scalar.requires_grad:
            raise ValueError(f"block {min(layers)}: the loss does not depend on the layer's output")
        got = torch.autograd.grad(
            scalar, list(outputs.values()), retain_graph=scalar is not every[-1], allow_unused=True
        )
        for i, g in zip(outputs, got, strict=True):
            if g is None:
                raise ValueError(f"block {i}: the loss does not depend on the layer's output")
            with naming_block(i):
                gradients(i, g.detach())


@contextlib.contextmanager
def _hooks(
    layers: Mapping[int, nn.Module],
    inputs: Heard | None,
    outputs: dict[int, torch.Tensor] | None,
) -> Iterator[None]:
    def hear(i: int) -> Callable[..., Any]:
        def hook(module: nn.Module, given: tuple[Any, ...], out: Any) -> Any:
            with naming_block(i):
                u = _sequence(given[0] if given else None, "input", module)
                _sequence(out, "output", module)
                if inputs is not None:
                    inputs(i, u.detach())
            if outputs is None:
                return None
            out = out if out.requires_grad else out.detach().requires_grad_()
            outputs[i] = out
            return out

        return hook

    handles = [layer.register_forward_hook(hear(i)) for i, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sequence(given: Any, what: str, module: nn.Module) -> torch.Tensor:
    """A layer's input or output. Raises ValueError unless it is (batch, length, channels)."""
    if not isinstance(given, torch.Tensor) or given.ndim != 3 or given.is_complex():
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise ValueError(
            f"gramians from data need a layer with a real {what} (batch, length, channels); that "
            f"of {type(module).__name__} is {shape}"
        )
    return given


def _checked(batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """(x, y) of every batch. Raises ValueError at the end if there were none, or only one sequence
    over and over."""
    first, count, differs = None, 0, False
    for batch in batches:
        x, y = parts(batch)
        if not len(x):
            continue
        if first is None:
            first = x[:1]
        differs = differs or x.shape[1:] != first.shape[1:] or bool((x != first).any())
        count += len(x)
        yield x, y
    if not count:
        raise ValueError("the calibration set is empty: give at least one example")
    if count > 1 and not differs:
        raise ValueError(f"the calibration set is constant: its {count} examples are all the same")
