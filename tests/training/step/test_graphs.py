"""Graphs of a training step: when, with which buffers; and, where there is a GPU, for real."""

import copy
import warnings

import pytest
import torch

from harness.models import build
from harness.records.store import Store
from harness.suite import ModelSpec
from harness.tasks import TaskInfo
from harness.training import trial
from harness.training.step import graphs, objective
from harness.training.step.graphs import Graphed, plain
from harness.training.step.loss import loss_of
from harness.training.trial import Execution, Interrupted, run_trial

from ..trials import assert_same, trial_spec, weights_of

INFO = TaskInfo(kind="classification", outputs=5, length=12, inputs=2)
GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def imitation(body):
    """What a capture does with tensors, without a GPU: results land in the same ones each time."""
    for _ in range(2):
        body()
    outputs = [t.clone() for t in body()]

    def replay():
        for static, fresh in zip(outputs, body(), strict=True):
            static.copy_(fresh)

    return replay, outputs


def losses_and_weights(step, device="cpu", *, norm="batch", resize_at=3, steps=6):
    """Train with `step`, on another size from step `resize_at` on."""
    torch.manual_seed(0)
    spec = ModelSpec(kind="lru", width=8, state_dim=6, norm=norm, dropout=0.3)
    model = build(spec, INFO).to(device)
    data = torch.Generator().manual_seed(1)
    losses = []
    for i in range(steps):
        if i in (0, resize_at):
            if i:
                model.resize([4, 6])
                for parameter in model.parameters():
                    torch.nn.init.normal_(parameter, std=0.3)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(3, 12, 2, generator=data).to(device)
        y = torch.randint(5, (3,), generator=data).to(device)
        torch.manual_seed(i)
        losses.append(step(model, lambda a, b: loss_of("classification", a, b), x, y))
        optimizer.step()
    return losses, {k: v.clone() for k, v in model.state_dict().items()}


def assert_equal_runs(one, two):
    assert [float(a) for a in one[0]] == [float(a) for a in two[0]]
    assert one[1].keys() == two[1].keys()
    for name in one[1]:
        assert torch.equal(one[1][name], two[1][name]), name


@pytest.mark.parametrize("norm", ["batch", "ema_batch", "none"])
def test_static_buffers_give_the_numbers_of_the_plain_step(norm):
    """Losses, weights and running statistics, with dropout and over a change of size."""
    graphed = Graphed(imitation)
    assert_equal_runs(losses_and_weights(graphed, norm=norm), losses_and_weights(plain, norm=norm))
    assert graphed.captures == 2


@needs_gpu
@pytest.mark.parametrize("norm", ["batch", "ema_batch", "none"])
def test_graphs_give_the_numbers_of_the_plain_step(norm):
    graphed = Graphed()
    ours, theirs = (losses_and_weights(s, "cuda", norm=norm) for s in (graphed, plain))
    assert_equal_runs(ours, theirs)
    assert graphed.captures == 2


def test_captured_anew_where_it_does_not_fit():
    model = torch.nn.Linear(2, 3)
    graphed = Graphed(imitation)

    def captures_after(rows, dtype=torch.float32):
        x, y = torch.randn(rows, 2), torch.randn(rows, 3, dtype=dtype)
        graphed(model, lambda a, b: torch.nn.functional.mse_loss(a, b.to(a)), x, y)
        return graphed.captures

    assert [captures_after(4), captures_after(4), captures_after(5), captures_after(5)] == [
        1, 1, 2, 2,
    ]  # fmt: skip
    assert captures_after(5, torch.float64) == 3
    model.eval()
    assert captures_after(5, torch.float64) == 4
    model.weight = torch.nn.Parameter(torch.randn(3, 2))
    assert captures_after(5, torch.float64) == 5
    assert captures_after(5, torch.float64) == 5


def test_a_loss_kept_is_not_overwritten():
    model, graphed = torch.nn.Linear(2, 3), Graphed(imitation)
    batches = [(torch.randn(4, 2), torch.randn(4, 3)) for _ in range(2)]
    losses = [graphed(model, torch.nn.functional.mse_loss, *batch) for batch in batches]
    exact = [torch.nn.functional.mse_loss(model(x), y) for x, y in batches]
    assert losses == exact
    assert losses[0] != losses[1]


def test_a_parameter_without_a_gradient_is_refused():
    model = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)])
    model.forward = lambda x: model[0](x)
    with pytest.raises(ValueError, match="a gradient for every parameter"):
        Graphed(imitation)(model, torch.nn.functional.mse_loss, torch.ones(1, 2), torch.ones(1, 3))


def test_a_step_that_cannot_be_captured_is_run_plainly_unless_a_graph_was_insisted_on():
    def refuses(body):
        body()
        raise RuntimeError("operation not permitted when stream is capturing\nadvice")

    model = torch.nn.BatchNorm1d(2)
    x, y = torch.randn(4, 2), torch.randn(4, 2)
    wanted = plain(copy.deepcopy(model), torch.nn.functional.mse_loss, x, y)
    graphed = Graphed(refuses, may_fail=True)
    with pytest.warns(UserWarning, match="no CUDA graph of this step: operation not permitted"):
        assert graphed(model, torch.nn.functional.mse_loss, x, y) == wanted
    assert int(model.num_batches_tracked) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        graphed(model, torch.nn.functional.mse_loss, x, y)
    with pytest.raises(RuntimeError, match="not permitted"):
        Graphed(refuses, may_fail=False)(model, torch.nn.functional.mse_loss, x, y)


@needs_gpu
@pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: torch.cuda.synchronize()])
def test_on_a_gpu_a_step_that_waits_for_it_is_run_plainly(wait):
    """And harms neither this process's random numbers nor its next capture."""

    class Waits(torch.nn.Linear):
        def forward(self, x):
            wait(x)
            return super().forward(x)

    model = Waits(2, 3).to(GPU)
    graphed = Graphed(may_fail=True)
    for _ in range(2):
        x, y = torch.randn(4, 2, device=GPU), torch.randn(4, 3, device=GPU)
        if not graphed.failed:
            with pytest.warns(UserWarning, match="no CUDA graph of this step"):
                loss = graphed(model, torch.nn.functional.mse_loss, x, y)
        else:
            loss = graphed(model, torch.nn.functional.mse_loss, x, y)
        assert float(loss) == float(torch.nn.functional.mse_loss(model(x), y).detach())
    torch.manual_seed(0)
    drawn = torch.randn(3, device=GPU)
    torch.manual_seed(0)
    assert torch.equal(torch.randn(3, device=GPU), drawn)
    graphed = Graphed(may_fail=False)
    ours, theirs = (losses_and_weights(s, "cuda") for s in (graphed, plain))
    assert_equal_runs(ours, theirs)


@needs_gpu
@pytest.mark.parametrize("arm", ["in_training", "hankel_regularized"])
@pytest.mark.parametrize("backend", ["triton", "toeplitz", "scan", "associative"])
def test_trials_on_a_gpu_end_with_the_same_bits(arm, backend, monkeypatch, tmp_path):
    """Truncations, dropout, evaluations and a regularizer in between; and run twice alike."""
    monkeypatch.setenv("HARNESS_DEVICE", "cuda")
    knobs = {"start": 0.1, "end": 0.5, "count": 3} if arm == "in_training" else {}
    spec = trial_spec(
        {"kind": arm, "tau": 0.2, **knobs}, model={"dropout": 0.1, "backend": backend}
    )
    stores = {}
    for name, setting in (("plain", "0"), ("again", "0"), ("graph", "1")):
        monkeypatch.setenv("HARNESS_CUDA_GRAPHS", setting)
        stores[name] = Store.open(tmp_path / name)
        assert run_trial(spec, stores[name])["status"] == "completed"
    for other in ("again", "graph"):
        assert weights_of(stores["plain"], spec.trial_id) == weights_of(
            stores[other], spec.trial_id
        )


def test_only_small_steps_on_a_gpu_unless_asked(monkeypatch):
    info = TaskInfo(kind="classification", outputs=10, length=1024, inputs=3)
    arm = {"kind": "full"}
    small = trial_spec(arm)
    large = trial_spec(arm, model={"width": 512, "state_dim": 384}, training={"batch_size": 50})
    monkeypatch.delenv("HARNESS_CUDA_GRAPHS", raising=False)
    assert graphs.refusal(small, info, GPU) is None
    assert graphs.refusal(small, info, torch.device("cpu")) == "no CUDA GPU"
    assert "outlasts" in graphs.refusal(large, info, GPU)
    monkeypatch.setenv("HARNESS_CUDA_GRAPHS", "1")
    assert graphs.refusal(large, info, GPU) is None
    monkeypatch.setenv("HARNESS_CUDA_GRAPHS", "0")
    assert "HARNESS_CUDA_GRAPHS" in graphs.refusal(small, info, GPU)
    monkeypatch.setenv("HARNESS_CUDA_GRAPHS", "yes")
    with pytest.raises(ValueError, match="auto, 0 or 1"):
        graphs.refusal(small, info, GPU)


def test_a_trial_with_static_buffers_ends_with_the_same_bits(
    monkeypatch, undisturbed, store, specs
):
    """The loop's way through them, truncations and evaluations in between."""
    spec, made = specs["in_training"], []

    def graphed():
        made.append(Graphed(imitation))
        return made[-1]

    monkeypatch.setattr(objective, "refusal", lambda *_: None)
    monkeypatch.setattr(objective, "Graphed", graphed)
    result = run_trial(spec, store)
    assert result["record"]["state_dims"] != [16, 12]
    assert made[0].captures > 1
    assert_same(undisturbed, store, spec.trial_id)


def test_a_trial_does_not_go_on_in_the_other_way(monkeypatch, store):
    spec = trial_spec({"kind": "full"})
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(stop=lambda: True))
    monkeypatch.setattr(trial, "refusal", lambda *_: None)
    with pytest.raises(ValueError, match="cuda_graphs"):
        run_trial(spec, store)
