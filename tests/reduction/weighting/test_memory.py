"""What calibration holds: one batch's graph, and less of it than training does."""

import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.models import build
from harness.models.specs import LRUSpec
from harness.reduction import decompositions, layers, weighted_decompositions, weighting_of
from harness.reduction.weighting import Calibration
from harness.tasks.base import TaskInfo

INFO = TaskInfo("classification", 3, 40, inputs=2)
SPECS = {
    "toeplitz": LRUSpec(blocks=3, width=8, state_dim=16),
    "scan": LRUSpec(blocks=3, width=8, state_dim=16, backend="scan"),
    "associative": LRUSpec(blocks=3, width=8, state_dim=16, backend="associative"),
    "plain gate": LRUSpec(blocks=3, width=8, state_dim=16, dropout=0.1, norm="ema_batch"),
}


class Kept:
    """Bytes that autograd keeps for backward passes, now and at most."""

    def __init__(self):
        self.now = self.most = 0

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda one: one[0])
        self._hooks.__enter__()
        return self

    def __exit__(self, *_):
        self._hooks.__exit__(None, None, None)

    def _pack(self, tensor):
        class Held(list):  # which, unlike a list, can be watched
            pass

        held, size = Held([tensor]), tensor.numel() * tensor.element_size()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(held, self._gone, size)
        return held

    def _gone(self, size):
        self.now -= size


class Watched(list):
    """Batches, and what was kept whenever the next was asked for, and at the end."""

    def __init__(self, batches, kept):
        super().__init__(batches)
        self.kept, self.seen = kept, []

    def __iter__(self):
        for batch in super().__iter__():
            self.seen.append(self.kept.now)
            yield batch
        self.seen.append(self.kept.now)


def batches(count):
    return [(torch.randn(4, 40, 2), torch.randint(0, 3, (4,))) for _ in range(count)]


@pytest.mark.parametrize("target", ["loss", "logits"])
@pytest.mark.parametrize("name", SPECS)
def test_a_batchs_graph_is_gone_before_the_next_and_smaller_than_a_training_steps(name, target):
    torch.manual_seed(0)
    model = build(SPECS[name], INFO)
    x, y = batches(1)[0]
    with Kept() as training:
        cross_entropy(model(x), y).backward()
    white = dict(enumerate(decompositions(model)))
    with Kept() as kept:
        given = Watched(batches(4), kept)
        calibration = Calibration(given, loss=cross_entropy)
        found = dict(enumerate(layers(model)))
        weighted_decompositions(model, found, white, weighting_of("task", target=target),
                                calibration)  # fmt: skip
    assert given.seen == [0] * 5
    assert 0 < kept.most < 0.8 * training.most


def test_parameters_want_their_gradients_again_though_calibration_fails():
    model = build(SPECS["scan"], INFO)
    model.encoder.weight.requires_grad_(False)
    trained = [p.requires_grad for p in model.parameters()]
    white = dict(enumerate(decompositions(model)))

    def loss(logits, y):
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError("no loss today")

    calibration = Calibration(batches(2), loss=loss)
    with pytest.raises(RuntimeError, match="no loss today"):
        weighted_decompositions(
            model, dict(enumerate(layers(model))), white, weighting_of("task"), calibration
        )
    assert [p.requires_grad for p in model.parameters()] == trained
