"""How many trials share a GPU, by an estimate that is compared with what models really keep."""

import pytest
import torch

from harness.launch.plan_jobs import PlanJobs
from harness.launch.pool import Pool
from harness.launch.resources import Resources
from harness.models import build
from harness.planning.gpu_share import (
    FLOAT,
    GPU_GIB,
    PER_FEATURE,
    PER_STATE,
    PROCESS_BYTES,
    SAFETY,
    gpu_memory,
    gpu_share,
    training_bytes,
)
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    ModelSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
    TrialSpec,
)
from harness.tasks import TaskInfo
from harness.training.host.memory import parameters
from tests.launch.test_pool import FakeRay, started

GIB = 2**30


def trial(batch=50, **model):
    return TrialSpec(
        task=TaskSpec(name="digits"),
        model=ModelSpec(**model),
        training=TrainingSpec(batch_size=batch),
        arm=FullSpec(),
    )


def kept(spec, info, batch):
    """Bytes that the forward pass of a real model keeps for the backward pass."""
    model, found = build(spec, info), {}
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(torch.randn(batch, info.length, info.inputs))
        logits.square().mean()
    return sum(found.values())


@pytest.mark.parametrize("kind", ["lru", "gru"])
@pytest.mark.parametrize(("width", "states", "blocks"), [(32, 64, 2), (64, 256, 2), (32, 16, 4)])
def test_models_keep_no_more_than_is_counted(kind, width, states, blocks):
    """Nor a small part of it: an estimate ten times too large would pack nothing."""
    spec = ModelSpec(kind=kind, width=width, state_dim=states, blocks=blocks)
    batch, length = 16, 512
    found = kept(spec, TaskInfo("classification", 10, length, inputs=1), batch)
    per_token = PER_FEATURE * width + PER_STATE * states
    counted = batch * length * blocks * per_token * FLOAT
    assert 0.1 * counted < found < counted


def test_the_estimate_by_hand():
    one = trial(blocks=3, width=32, state_dim=[64, 32, 16])
    tokens = 50 * one.task.info.length
    floats = sum(8 * 32 + 8 * n for n in (64, 32, 16, 64)) * tokens
    floats += 6 * parameters(one.model, one.task.info, [64, 32, 16]) + 2 * 10 * 50
    assert training_bytes(one) == pytest.approx(1.5 * 4 * floats + GIB)
    assert (SAFETY, PROCESS_BYTES) == (1.5, GIB)


@pytest.mark.parametrize(
    ("gib", "share"), [(1, 1.0), (2.0, 1.0), (2.5, 0.5), (4.5, 0.25), (8.5, 0.125), (80, 0.125)]
)
def test_shares_fill_a_gpu_and_fit_its_memory(gib, share):
    """A digits trial takes little more than the process itself."""
    one = trial(blocks=1, width=8, state_dim=8)
    assert training_bytes(one) == pytest.approx(GIB, rel=0.02)
    assert gpu_share(one, int(gib * GIB)) == share


def test_a_large_trial_has_a_gpu_to_itself():
    large = trial(batch=1000, blocks=6, width=1024, state_dim=1024)
    assert training_bytes(large) > 10 * GIB
    assert gpu_share(large, 16 * GIB) == 1.0


def test_a_type_that_is_not_known_counts_as_a_small_one(monkeypatch):
    assert gpu_memory("HOST:1", "H100") == 78 * GIB
    assert gpu_memory("HOST:1", None) == gpu_memory("HOST:1", "NEW") == GPU_GIB["T4"] * GIB
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"^--gpus auto: this machine has no GPU that torch can"):
        gpu_memory("local", "H100")


def test_trials_of_different_sizes_share_a_gpu_and_record_it(tmp_path):
    """Each job asks for its own share: eight of a GPU are filled before Ray is asked for more."""
    rows = {"full": FullSpec(), "in_training": InTrainingSpec(tau=0.1)}
    suite = Suite(
        name="packed",
        comparisons=tuple(
            Comparison(
                name=name,
                task=TaskSpec(name="digits"),
                model=ModelSpec(width=width, state_dim=64),
                training=TrainingSpec(batch_size=batch),
                arms=rows,
                seeds=(0, 1, 2, 3),
            )
            for name, width, batch in (("small", 8, 10), ("large", 512, 500))
        ),
    )
    needs = Resources(gpus="auto", gpu_bytes=14 * GIB)
    jobs = PlanJobs(Plan(suite, Store(tmp_path)), fork=False, resources=needs).ready()
    shares = {job.spec["model"]["width"]: job.gpus for job in jobs}
    assert shares[8] == 0.125
    assert shares[512] in (0.25, 0.5)
    pool = Pool(FakeRay({"CPU": 64.0, "GPU": 1.0}))
    at_once = [job for job in jobs if started(pool, job)]
    assert sum(job.gpus for job in at_once) == 1.0
