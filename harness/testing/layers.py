"""What every layer promises: `harness.models.layers.base`, and the capabilities that it has."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch

from harness.models.layers.base import Layer
from harness.models.layers.capabilities import Capability, capabilities
from harness.models.specs import MODEL_UNION, BackboneSpec

from .promise import expect, promised

BATCH, LENGTH = 3, 17
CLOSE = 1e-9  # in float64, relative to the largest output


def check_layer(layer: type[Layer] | BackboneSpec, width: int = 6, state_dim: int = 5) -> None:
    """Go through the contract of a layer: a registered class, or a model's spec with its options.

    Forward and steps agree, shapes and gradients, causality, sizes, stored weights, costs; of a
    layer that gives its system, that it is what `forward` does, and that it takes it back.

    Raises:
        AssertionError: one line that names the layer and what it does not keep.
    """
    spec = _spec_of(layer, width, state_dim)
    whose = f"layer {spec.kind}"
    with promised(whose, "making it"):
        made = _made(spec, state_dim)
    checks = [_sizes, _forward, _causality, _gradients, _steps, _resizing, _costs, _groups]
    can = capabilities(type(made))
    checks += [_system] if Capability.SYSTEM in can else []
    for check in checks:
        with promised(whose, check.__name__.strip("_")):
            check(spec, made)
    with promised(whose, "what it can do"):
        expect(spec.capabilities == can, "its spec does not say what it can do")


def _spec_of(layer: Any, width: int, state_dim: int) -> BackboneSpec:
    if isinstance(layer, BackboneSpec):
        fields = {**layer.model_dump(), "width": width, "state_dim": state_dim}
        return type(layer).model_validate(fields)
    specs: list[Any] = list(MODEL_UNION.specs.values())
    for spec in specs:
        if spec.layer_class() is layer:
            made: BackboneSpec = spec(width=width, state_dim=state_dim)
            return made
    name = getattr(layer, "__name__", repr(layer))
    raise AssertionError(f"{name} is no registered layer: decorate it with @harness.layer")


def _made(spec: BackboneSpec, state_dim: int) -> Layer:
    torch.manual_seed(0)
    return spec.layer_class().of(spec, state_dim).to(torch.float64)


def _inputs(spec: BackboneSpec, length: int = LENGTH) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, length, spec.width, dtype=torch.float64, generator=numbers)


def _differ(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool(
        (one - two).detach().abs().max() > CLOSE * max(1.0, float(two.detach().abs().max()))
    )


def _sizes(spec: BackboneSpec, layer: Layer) -> None:
    dims = spec.state_dims[0]
    expect(isinstance(layer, Layer), "derives from no harness Layer")
    expect(
        layer.state_dim == dims,
        f"state_dim is {layer.state_dim} where {dims} was asked for",
    )
    again = _made(spec, dims).state_dict()
    same = all(torch.equal(again[name], value) for name, value in layer.state_dict().items())
    expect(same, "draws its weights from elsewhere than torch's global generator")


def _forward(spec: BackboneSpec, layer: Layer) -> None:
    u = _inputs(spec)
    y = layer(u)
    expect(
        y.shape == u.shape and y.dtype == u.dtype,
        f"forward makes {tuple(y.shape)} {y.dtype} of {tuple(u.shape)} {u.dtype}",
    )
    expect(bool(torch.isfinite(y).all()), "forward is not finite")


def _causality(spec: BackboneSpec, layer: Layer) -> None:
    u = _inputs(spec)
    early = layer.eval()(u[:, : LENGTH // 2])
    expect(
        not _differ(layer(u)[:, : LENGTH // 2], early),
        "looks ahead: its output depends on inputs of later steps",
    )


def _gradients(spec: BackboneSpec, layer: Layer) -> None:
    u = _inputs(spec).requires_grad_(True)
    layer.zero_grad()
    layer.train()(u).square().sum().backward()
    trained = {name: p.grad for name, p in layer.named_parameters() if p.requires_grad}
    for name, gradient in {**trained, "its input": u.grad}.items():
        expect(gradient is not None, f"{name} gets no gradient")
        assert gradient is not None
        finite = bool(torch.isfinite(gradient).all())
        expect(finite, f"the gradient of {name} is not finite")


@torch.no_grad()
def _steps(spec: BackboneSpec, layer: Layer) -> None:
    u = _inputs(spec)
    state, outputs = layer.eval().initial_state(BATCH), []
    for number, step in enumerate(u.unbind(1)):
        before = [tensor.clone() for tensor in state.tensors]
        y, after = layer.step(step, state)
        kept = all(map(torch.equal, before, state.tensors))
        expect(kept, f"step {number} changes the state that it was given")
        outputs.append(y)
        state = after
    y, wanted = torch.stack(outputs, 1), layer(u)
    apart = float((y - wanted).abs().max())
    expect(
        not _differ(y, wanted),
        f"step and forward disagree by up to {apart:.2g} over {LENGTH} steps",
    )


@torch.no_grad()
def _resizing(spec: BackboneSpec, layer: Layer) -> None:
    smaller = max(1, spec.state_dims[0] - 2)
    wanted, resized = _made(spec, smaller), _made(spec, spec.state_dims[0])
    drawn = torch.get_rng_state()
    resized.resize(smaller)
    expect(torch.equal(torch.get_rng_state(), drawn), "resize draws random numbers")
    expect(
        resized.state_dim == smaller,
        f"state_dim is {resized.state_dim} after resize({smaller})",
    )
    ours, theirs = (
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()}
        for one in (resized, wanted)
    )
    for name in sorted(ours.keys() | theirs.keys()):
        expect(
            ours.get(name) == theirs.get(name),
            f"after resize({smaller}) {name} is {ours.get(name, 'missing')}, and in a fresh layer "
            f"of that size {theirs.get(name, 'missing')}",
        )
    resized.load_state_dict(wanted.state_dict())
    u = _inputs(spec)
    expect(
        not _differ(resized.eval()(u), wanted.eval()(u)),
        "stored weights in a resized layer make another output",
    )


def _costs(spec: BackboneSpec, layer: Layer) -> None:
    n = spec.state_dims[0]
    flops = spec.layer_flops(n)
    expect(
        isinstance(flops, int) and flops > 0,
        f"layer_flops is {flops}, not a positive whole number",
    )
    count = sum(parameter.numel() for parameter in layer.parameters())
    said = spec.layer_parameters(n)
    expect(said == count, f"layer_parameters says {said} of {count} real numbers")


def _groups(spec: BackboneSpec, layer: Layer) -> None:
    names = {name for name, _ in layer.named_parameters()}
    named = {
        group: getattr(layer, group, ())
        for group in ("ssm_parameters", "undecayed_parameters", "restarts")
    }
    named["transports"] = chain(*getattr(layer, "transports", {}).values())
    for group, ours in named.items():
        unknown = sorted(set(ours) - names)
        expect(not unknown, f"{group} names {unknown}, which it has not")
    both = sorted(set(layer.ssm_parameters) & set(layer.undecayed_parameters))
    expect(not both, f"{both} stand in ssm_ and in undecayed_parameters")


@torch.no_grad()
def _system(spec: BackboneSpec, layer: Any) -> None:
    """Impulse responses from the second step on: what has no memory is no part of a system."""
    layer.eval()
    system = layer.system()
    eigenvalues = system[0]
    expect(
        all(part.dtype == torch.complex128 for part in system),
        f"system gives {', '.join(str(part.dtype) for part in system)}, not complex128",
    )
    expect(
        eigenvalues.shape[-1] == layer.state_dim,
        f"its system has {eigenvalues.shape[-1]} states of {layer.state_dim}",
    )
    wanted = impulse_responses(system, LENGTH)[1:]
    impulses = torch.zeros(spec.width, LENGTH, spec.width, dtype=torch.float64)
    impulses[range(spec.width), 0, range(spec.width)] = 1.0
    silence = layer(torch.zeros(1, LENGTH, spec.width, dtype=torch.float64))
    found = (layer(impulses) - silence).permute(1, 2, 0)[1:]  # (length - 1, out, in)
    apart = float((found - wanted).abs().max())
    expect(
        not _differ(found, wanted),
        f"system and forward disagree: impulse responses by up to {apart:.2g}",
    )
    names, u = [name for name, _ in layer.named_parameters()], _inputs(spec)
    before = layer(u)
    stack = getattr(layer, "orders", None)  # of a stack of systems
    layer.assign(*system, *([] if stack is None else [stack.cpu()]))
    after = [name for name, _ in layer.named_parameters()]
    expect(names == after, "assign changes the names of parameters")
    expect(
        not _differ(layer(u), before),
        f"assign(*system()) changes the output by up to "
        f"{float((layer(u) - before).abs().max()):.2g}",
    )
    smaller = [part[..., : max(1, layer.state_dim - 1)] for part in (system[0], system[2])]
    orders = [] if stack is None else [stack.cpu().clamp(max=smaller[0].shape[-1])]
    layer.assign(smaller[0], system[1][..., : smaller[0].shape[-1], :], smaller[1], *orders)
    expect(
        layer.state_dim == smaller[0].shape[-1],
        f"state_dim is {layer.state_dim} after a system of "
        f"{smaller[0].shape[-1]} states was assigned",
    )


def impulse_responses(system: tuple[torch.Tensor, ...], length: int) -> torch.Tensor:
    """Re(C Lambda^k B), (length, H, H) float64, of a system, or a stack along the channels."""
    eigenvalues, B, C = (part if part.dim() > 1 + (i > 0) else part[None]
                         for i, part in enumerate(system))  # fmt: skip
    powers = eigenvalues[None] ** torch.arange(length, device=eigenvalues.device)[:, None, None]
    each = torch.einsum("son,ksn,sni->ksoi", C, powers, B).real
    return torch.stack([torch.block_diag(*one) for one in each])
