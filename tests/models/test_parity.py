"""Our model against numbers computed with the official code (see tests/golden/README.md)."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.models import build
from harness.reduction import energy_rank, hankel_singular_values, layers, truncate
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks.base import TaskInfo
from harness.training.step.loss import published_cross_entropy
from harness.training.step.optimizer import make_optimizer, set_learning_rate

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))
TOLERANCE = 5e-5
TAUS = (0.02, 0.05, 0.1, 0.15, 0.3)


class Golden:
    """One file of reference numbers and our model loaded with its initial weights."""

    def __init__(self, path):
        self.arrays = np.load(path, allow_pickle=False)
        self.config = ast.literal_eval(str(self.arrays["config"]))
        c = self.config
        spec = ModelSpec(
            blocks=c["blocks"], width=c["width"], state_dim=c["state_dim"], norm="ema_batch"
        )
        form = {"inputs": c["inputs"]} if c["vocab"] is None else {"vocabulary": c["vocab"]}
        info = TaskInfo("classification", c["outputs"], c["length"], **form, paired=c["dual"])
        self.model = build(spec, info)
        self.load("init.")
        self.x = torch.from_numpy(self.arrays["X"])
        if c["vocab"] is not None:  # the official code takes tokens as a channel
            self.x = self.x.reshape(*self.x.shape[: 3 if c["dual"] else 2]).long()
        self.y = torch.from_numpy(self.arrays["labels"])

    def load(self, prefix):
        weights = {k.removeprefix(prefix): v for k, v in self.group(prefix).items()}
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert all(".norm.running_" in name for name in missing)

    def group(self, prefix):
        names = [k for k in self.arrays.files if k.startswith(prefix)]
        return {k: torch.from_numpy(self.arrays[k]) for k in names}


@pytest.fixture(params=GOLDEN, ids=lambda p: p.stem)
def golden(request):
    return Golden(request.param)


def assert_close(ours, theirs):
    ours, theirs = torch.as_tensor(ours).double(), torch.as_tensor(theirs).double()
    assert ours.shape == theirs.shape
    error = (ours - theirs).norm() / theirs.norm().clamp_min(1e-12)
    assert error < TOLERANCE, f"relative error {error:.3g}"


def test_training_output_loss_and_gradients(golden):
    logits = golden.model.train()(golden.x)
    assert_close(logits.softmax(-1).detach(), golden.arrays["train_probs0"])
    loss = published_cross_entropy(logits, golden.y)
    assert_close(loss.detach(), golden.arrays["loss0"])
    loss.backward()
    for name, parameter in golden.model.named_parameters():
        assert_close(parameter.grad, golden.arrays[f"grad0.{name}"])


def test_six_optimizer_steps_then_evaluation(golden):
    c = golden.config
    training = TrainingSpec(
        steps=c["schedule_steps"],
        lr=c["lr"],
        ssm_lr_factor=c["ssm_lr_factor"],
        weight_decay=c["weight_decay"],
        schedule="warmup_cosine" if c["warmup_cosine"] else "constant",
    )
    model = golden.model.train()
    optimizer = make_optimizer(model, training)
    losses = []
    for step in range(c["steps"]):
        set_learning_rate(optimizer, training, step)
        loss = published_cross_entropy(model(golden.x), golden.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert_close(losses, golden.arrays["losses"])
    state = model.state_dict()
    for name, value in golden.group("step6.").items():
        assert_close(state[name.removeprefix("step6.")], value)
    with torch.no_grad():
        assert_close(model.eval()(golden.x).softmax(-1), golden.arrays["eval_probs"])


def test_hankel_singular_values_and_ranks(golden):
    golden.load("step6.")
    for i, layer in enumerate(layers(golden.model)):
        hsv = hankel_singular_values(*layer.system())
        theirs = np.sort(golden.arrays[f"hsv.blocks.{i}"])[::-1].copy()
        assert_close(hsv, theirs)
        for tau in TAUS:
            assert energy_rank(hsv, tau) == golden.arrays[f"ranks.tau{tau}"][i]


@pytest.mark.parametrize("tau", [0.15, 0.3])
def test_truncated_eigenvalues_and_evaluation(golden, tau):
    golden.load("step6.")
    truncate(golden.model, tau=tau)
    for i, layer in enumerate(layers(golden.model)):
        theirs = torch.from_numpy(golden.arrays[f"eigenvalues_truncated.tau{tau}.blocks.{i}"])
        gap = (layer.system()[0][:, None] - theirs[None]).abs()
        assert gap.min(0).values.max() < TOLERANCE
        assert gap.min(1).values.max() < TOLERANCE
    with torch.no_grad():
        probabilities = golden.model.eval()(golden.x).softmax(-1)
    assert_close(probabilities, golden.arrays[f"eval_probs_truncated.tau{tau}"])
