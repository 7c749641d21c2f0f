"""What bf16 and tf32 touch, and that the recurrence is not among it."""

import pytest
import torch

from harness.models import build
from harness.models.precision import products, set_products
from harness.models.scans import lru_scan
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

from .test_scan import single, system

CPU = torch.device("cpu")
INFO = TaskInfo(kind="classification", outputs=5, length=24, inputs=2)


def model_of(precision, **fields):
    torch.manual_seed(0)
    spec = ModelSpec(kind="lru", width=16, state_dim=12, precision=precision, **fields)
    return build(spec, INFO)


@pytest.mark.parametrize("backend", ["reference", "toeplitz", "scan", "associative"])
def test_autocast_does_not_reach_the_recurrence(backend):
    """Output and gradients have the bits that they have without it."""
    inputs = single(*system(5, 3, 0.99, length=40))

    def outcome(precision):
        leaves = [t.clone().requires_grad_() for t in inputs]
        with products(precision, CPU):
            y = lru_scan(*leaves, backend=backend)
        return [y, *torch.autograd.grad(y.square().sum(), leaves)]

    plain, cast = outcome("fp32"), outcome("bf16")
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_bfloat16_input_of_the_scan_is_taken_as_float32():
    inputs = single(*system(5, 3, 0.99, length=40))
    inputs[-1] = inputs[-1].bfloat16()
    with products("bf16", CPU):
        y = lru_scan(*inputs, backend="scan")
    assert torch.equal(y, lru_scan(*inputs[:-1], inputs[-1].float(), backend="scan"))


@pytest.mark.parametrize("mixer", ["glu", "linear"])
def test_products_of_blocks_are_bfloat16_and_the_rest_is_not(mixer):
    model = model_of("bf16", mixer=mixer)
    kinds = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda module, args, output, name=name: kinds.update({name: output.dtype})
        )
    logits = model(torch.randn(4, 24, 2))
    inner = "glu.w1" if mixer == "glu" else "mixer"
    assert kinds[f"blocks.1.{inner}"] == torch.bfloat16
    for name in ("encoder", "blocks.0", "blocks.1.norm", "blocks.1.ssm", "blocks.1", "head"):
        assert kinds[name] == torch.float32, name
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_logits_are_near_those_in_float32():
    x = torch.randn(4, 24, 2, generator=torch.Generator().manual_seed(1))
    exact, near, same = (model_of(p)(x).detach() for p in ("fp32", "bf16", "tf32"))
    error = float((near - exact).norm() / exact.norm())
    assert 1e-5 < error < 2e-2
    assert torch.equal(same, exact), "tf32 does nothing on a CPU"


def test_tf32_is_set_on_a_gpu_alone_and_unset_by_the_next_trial(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", calls.append)
    assert set_products("tf32", CPU) == "fp32"
    assert set_products("bf16", CPU) == "bf16"
    assert calls == []
    cuda = torch.device("cuda")
    assert [set_products(p, cuda) for p in ("tf32", "fp32", "bf16")] == ["tf32", "fp32", "bf16"]
    assert calls == ["high", "highest", "highest"]
