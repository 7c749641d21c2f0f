"""The schedule by hand, and which parameter belongs to which group."""

import pytest
import torch

from harness.models import build
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.step.optimizer import learning_rate, make_optimizer, set_learning_rate

INFO = TaskInfo("classification", outputs=3, length=8, inputs=1)
SPEC = TrainingSpec(steps=100, lr=0.01, warmup=0.1, ssm_lr_factor=0.25, weight_decay=0.05)


def model_and_optimizer(training=SPEC):
    model = build(ModelSpec(blocks=2, width=4, state_dim=3), INFO)
    return model, make_optimizer(model, training)


def test_schedule_by_hand():
    def at(step):
        return learning_rate(SPEC, 0.01, step, 100)

    assert at(0) == 1e-7
    assert at(5) == pytest.approx((1e-7 + 0.01) / 2)  # half of the warm-up
    assert at(10) == pytest.approx(0.01, rel=1e-12)  # its end
    assert at(55) == pytest.approx((1e-7 + 0.01) / 2)  # half of the cosine
    # A quarter: 0.5 (1 + cos(pi / 4)) = 0.853553...
    assert at(10 + 22.5) == pytest.approx(1e-7 + (0.01 - 1e-7) * 0.8535533905932737)
    assert at(100) == pytest.approx(1e-7, rel=1e-9)
    assert 1e-7 < at(99) < 1e-5  # the last step that is taken
    values = [at(step) for step in range(101)]
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert at(250) == pytest.approx(1e-7, rel=1e-9)  # never up again


def test_without_warmup_it_starts_at_the_peak():
    training = SPEC.model_copy(update={"warmup": 0.0})
    assert learning_rate(training, 0.01, 0, 100) == 0.01


def test_constant():
    training = SPEC.model_copy(update={"schedule": "constant"})
    assert {learning_rate(training, 0.01, step, 100) for step in range(101)} == {0.01}


def test_groups():
    model, optimizer = model_and_optimizer()
    names = {id(p): name for name, p in model.named_parameters()}
    main, ssm = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert ssm == {
        f"blocks.{i}.ssm.{name}"
        for i in range(2)
        for name in ("nu_log", "theta_log", "B_re", "B_im", "gamma_log")
    }
    assert main == set(names.values()) - ssm
    assert {f"blocks.0.ssm.{name}" for name in ("C_re", "C_im", "D")} <= main
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]


def test_learning_rates_of_the_groups():
    _, optimizer = model_and_optimizer()
    set_learning_rate(optimizer, SPEC, 10)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.01, 0.0025])
    set_learning_rate(optimizer, SPEC, 0)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-7, 1e-7]
    # Fine-tuning: 20 steps of its own, at a tenth of the learning rate.
    set_learning_rate(optimizer, SPEC, 2, steps=20, factor=0.1)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.001, 0.00025])


def test_decay_moves_only_the_main_group():
    model, optimizer = model_and_optimizer()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    set_learning_rate(optimizer, SPEC, 10)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decays = name.rsplit(".", 1)[-1] not in ("nu_log", "theta_log", "B_re", "B_im", "gamma_log")
        factor = 1 - 0.01 * 0.05 if decays else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-6, atol=0)
