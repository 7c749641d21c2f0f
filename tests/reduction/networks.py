"""Models to truncate: a user's own, with our layers and with a layer of its own."""

import torch
from torch import nn

from harness.models import LRU
from harness.reduction import layers


class Nested(nn.Module):
    """Our layers at several depths: blocks 0, 1 and 2 in the order of the modules."""

    def __init__(self, dims=(9, 7, 5), width=4):
        super().__init__()
        first, second, third = (LRU(width, n, r_min=0.5, r_max=0.95) for n in dims)
        self.front = nn.Sequential(nn.Linear(2, width), first)
        self.deep = nn.ModuleDict({"inner": nn.ModuleList([nn.Sequential(second, nn.Tanh())])})
        self.last = third

    def forward(self, x):
        return self.last(self.deep["inner"][0](self.front(x)))


class OwnLayer(nn.Module):
    """Another parametrisation: one complex eigenvalue, B and C each."""

    def __init__(self, n=6, width=3):
        super().__init__()
        radius = 0.5 + 0.4 * torch.rand(n)
        self.lam = nn.Parameter(torch.polar(radius, 6.0 * torch.rand(n)))
        self.B = nn.Parameter(torch.randn(n, width, dtype=torch.complex64))
        self.C = nn.Parameter(torch.randn(width, n, dtype=torch.complex64))

    @property
    def state_dim(self):
        return len(self.lam)

    @torch.no_grad()
    def system(self):
        return tuple(p.detach().to(torch.complex128) for p in (self.lam, self.B, self.C))

    @torch.no_grad()
    def assign(self, eigenvalues, B, C):
        for name, value in (("lam", eigenvalues), ("B", B), ("C", C)):
            setattr(self, name, nn.Parameter(value.to(torch.complex64)))


class Forgetful(OwnLayer):
    """`assign` does nothing."""

    def assign(self, eigenvalues, B, C):
        pass


def nested(seed=0, **fields):
    torch.manual_seed(seed)
    return Nested(**fields)


def optimizer_of(model):
    """AdamW with two groups that differ in everything; the layers' parameters are in both."""
    ssm = [p for name, p in model.named_parameters() if name[-4:] in ("B_re", "B_im", "_log")]
    main = [p for p in model.parameters() if not any(p is q for q in ssm)]
    return torch.optim.AdamW(
        [
            {"params": main, "lr": 0.003, "weight_decay": 0.05, "label": "main"},
            {"params": ssm, "lr": 0.001, "weight_decay": 0.0, "label": "ssm"},
        ]
    )


def step(model, optimizer, seed=0):
    """One optimizer step on a batch of its own; the loss before it."""
    g = torch.Generator().manual_seed(seed)
    loss = (model(torch.randn(4, 12, 2, generator=g)) - 1.0).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def with_lru(layer):
    """A model in which a layer of ours changes before that one does."""
    return nn.Sequential(LRU(3, 7, 0.5, 0.95), layer)


def stepped(model, optimizer=None, steps=3):
    """Moments for every parameter, made by gradients of random numbers."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(5)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        optimizer.step()
    optimizer.zero_grad()
    return optimizer


def snapshot(model, optimizer=None):
    """Everything that a failure must leave alone: objects by identity, contents by value."""
    parts = {}
    for name, p in model.named_parameters():
        moments = optimizer.state.get(p, {}) if optimizer is not None else {}
        parts[name] = (p, p.detach().clone(), {k: v.clone() for k, v in moments.items()})
    groups = [] if optimizer is None else [list(g["params"]) for g in optimizer.param_groups]
    return parts, groups


def assert_untouched(model, before, optimizer=None, names=None):
    """The parameters are the same objects with the same bits, and so are their moments."""
    parts, groups = before
    now = dict(model.named_parameters())
    assert now.keys() == parts.keys()
    for name in names if names is not None else parts:
        p, value, moments = parts[name]
        assert now[name] is p, name
        assert torch.equal(p, value), name
        if optimizer is not None:
            state = optimizer.state.get(p, {})
            assert state.keys() == moments.keys(), name
            assert all(torch.equal(state[k], moments[k]) for k in moments), name
    if optimizer is not None and names is None:
        for group, params in zip(optimizer.param_groups, groups, strict=True):
            assert len(group["params"]) == len(params)
            assert all(p is q for p, q in zip(group["params"], params, strict=True))


def dims(model):
    return [layer.state_dim for layer in layers(model)]
