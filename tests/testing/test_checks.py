"""Our own keep their contracts; and each check finds what breaks one."""

import re

import pytest
import torch

from harness.arms import ARM_UNION, InTrainingSpec, PostHocSpec, SmallSpec
from harness.models.layers.base import LayerState
from harness.models.specs import MODEL_UNION
from harness.suite import ModelSpec, TaskSpec, load
from harness.suite.bring import bring
from harness.tasks import Task
from harness.tasks.specs import TASK_UNION
from harness.testing import check_arm, check_layer, check_task
from harness.testing.layers import impulse_responses
from tests.examples.test_examples import HERE
from tests.plugins import code

OPTIONS = {
    "small": {"state_dims": (3,)},
    "distill": {"state_dims": (3,)},
    "post_hoc": {"tau": 0.1},
    "hankel_regularized": {"tau": 0.1},
}
SIZES = {"train": 12, "validation": 4, "test": 4}


@pytest.mark.parametrize("kind", list(MODEL_UNION.specs))
def test_our_layers_keep_theirs(kind):
    check_layer(ModelSpec(kind=kind))
    check_layer(ModelSpec(kind=kind).layer_class(), width=3, state_dim=1)


@pytest.mark.parametrize("kind", list(ARM_UNION.specs))
def test_our_arms_keep_theirs(kind):
    check_arm(ARM_UNION.specs[kind](**OPTIONS.get(kind, {})))


@pytest.mark.parametrize(
    "arm",
    [
        InTrainingSpec(rule="fixed", final=2),
        InTrainingSpec(rule="pragmatic"),
        InTrainingSpec(keep="random"),
        PostHocSpec(mean_dim=2.0, scope="global"),
        PostHocSpec(state_dims=(2, 3), method="random"),
        SmallSpec(match="mean", to=InTrainingSpec()),
    ],
)
def test_our_arms_keep_theirs_with_other_options(arm):
    check_arm(arm)


@pytest.mark.parametrize(
    "spec",
    [
        TaskSpec(name="digits"),
        TaskSpec(name="vowels", length=64, **SIZES),
        TaskSpec(name="pylib", window=16, **SIZES),
        TaskSpec(name="mqar", length=16, pairs=2, trained="every_step", **SIZES),
        TaskSpec(name="copying", length=20, tokens=4, **SIZES),
        TaskSpec(name="selective_copying", length=20, tokens=4, **SIZES),
        TaskSpec(name="induction", length=8, **SIZES),
        TaskSpec(name="listops", min_length=2, max_length=20, length=20, max_depth=3, **SIZES),
    ],
    ids=lambda spec: spec.name,
)
def test_our_tasks_keep_theirs(spec, tmp_path):
    check_task(spec, tmp_path)


# What breaks a layer's contract: members in the place of the example's, and what is said of it.


def looks_ahead(self, u):
    return u.flip(1) + 0 * sum(p.sum() for p in self.parameters())


def forgets(self, u, state):
    _, B, C, D = state.fixed
    h = u.to(B.dtype) @ B.T
    return (h @ C.T).real + D * u, LayerState((h,), state.fixed)


def in_place(self, u, state):
    a, B, C, D = state.fixed
    h = state.tensors[0].mul_(a).add_(u.to(B.dtype) @ B.T)
    return (h @ C.T).real + D * u, LayerState((h,), state.fixed)


def shrugs(self, *_):
    """Does nothing."""


def doubled(self):
    a, B, C = self._system()
    return tuple(part.detach().to(torch.complex128) for part in (a, 2 * B, C))


def halved(self, eigenvalues, B, C):
    self.original(eigenvalues, B / 2, C)


def resized(self, n):
    a, B, C = self.system()
    self.original(a.new_full((n,), 0.5), B.new_zeros(n, B.shape[1]), C.new_zeros(len(C), n))


def breaks(self, *_):
    raise KeyError("lost")


LAYERS = {
    "forward that looks ahead": ({"forward": looks_ahead}, "looks ahead"),
    "forward of another shape": (
        {"forward": lambda self, u: u[..., :1]},
        r"forward makes \(3, 17, 1\) torch.float64 of \(3, 17, 6\)",
    ),
    "step that forgets": ({"step": forgets}, "step and forward disagree by up to"),
    "step in place": ({"step": in_place}, "step 0 changes the state that it was given"),
    "resize that does nothing": ({"resize": shrugs}, r"state_dim is 5 after resize\(3\)"),
    "system that is another": ({"system": doubled}, "system and forward disagree"),
    "assign that assigns another": ({"assign": halved}, "changes the output by up to"),
    "assign that does nothing": ({"assign": shrugs}, "state_dim is 5 after"),
    "cost of nothing": ({"layer_flops": staticmethod(lambda spec, n: 0)}, "layer_flops is 0"),
    "group of nothing": ({"ssm_parameters": ("theta",)}, r"ssm_parameters names \['theta'\]"),
    "moments of nothing": (
        {"transports": {"B": ("theta", "theta")}},
        r"transports names \['theta'",
    ),
    "something raised": ({"step": breaks}, r"steps raises KeyError: 'lost'"),
    "a gradient that is missing": (
        {"forward": lambda self, u: u * 1.0},
        "decay gets no gradient",
    ),
}


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("case", LAYERS)
def test_a_broken_layer_is_found(case, monkeypatch):
    members, said = LAYERS[case]
    load(str(HERE / "own_layer.py"))
    layer = MODEL_UNION.specs["diagonal"].layer_class()
    monkeypatch.setattr(layer, "original", layer.assign, raising=False)
    if "assign" in members:  # of which the example's `resize` is made
        monkeypatch.setattr(layer, "resize", resized)
    for name, member in members.items():
        monkeypatch.setattr(layer, name, member)
    with pytest.raises(AssertionError, match=rf"\Alayer diagonal: [^\n]*{said}") as found:
        check_layer(layer)
    assert "\n" not in str(found.value)


ARMS = {
    "event after the end": (("(steps // 2,)", "(steps + 1,)"), "event at step 101 is none"),
    "events that repeat": (("(steps // 2,)", "(5, 5)"), r"events \(5, 5\) do not ascend"),
    "rank of nothing": (("[max(1, int(self.share", "[min(0, int(self.share"), "rank 0 of event 0"),
    "rank above": (
        ("int(self.share * len", "int(9 * len"),
        "rank 54 of event 0 is not from 1 to 6",
    ),
    "ranks too few": (("for one in systems]", "for one in systems[:1]]"), "not one for each block"),
    "list that is no tuple in JSON": (
        ("share: float = 0.5", "share: float = 0.5\n    many: tuple[int, ...] = (1,)"),
        "its spec raises ValidationError",
    ),
    "something raised": (("return (steps // 2,)", "return steps[0]"), "raises"),
}


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("case", ARMS)
def test_a_broken_arm_is_found(case, tmp_path):
    (old, new), said = ARMS[case]
    assert old in code.ARM
    (tmp_path / "mine.py").write_text(code.ARM.replace(old, new))
    bring(str(tmp_path / "mine.py"))
    with pytest.raises(AssertionError, match=rf"\Aarm halve: [^\n]*{said}"):
        check_arm(ARM_UNION.specs["halve"])


TASKS = {
    "examples by chance": (
        ("np.random.default_rng(spec.split_seed)", "np.random.default_rng()"),
        "built twice, it has another fingerprint",
    ),
    "x of another type": ((".astype(np.float32)", ""), "x of split train is .* torch.float64, not"),
    "x of another shape": ((".unsqueeze(-1)", ""), r"x of split train is \(3, 32\)"),
    "classes beyond": (("outputs=len(TONES)", "outputs=2"), "y of split train lies outside"),
    "another size": (("return self.train", "return self.test"), "its spec says 100 train examples"),
    "no fingerprint": (("self.fingerprint = digest(", "self.fingerprint = str("), "no SHA-256"),
    "no examples": (("test: int = 100", "test: int = 0"), "split test is empty"),
    "something raised": (("time = np.arange", "time = np.around_and_about"), "building it raises"),
}  # fmt: skip


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("case", TASKS)
def test_a_broken_task_is_found(case, tmp_path):
    (old, new), said = TASKS[case]
    text = (HERE / "own_task.py").read_text()
    assert old in text
    (tmp_path / "own_task.py").write_text(text.replace(old, new))
    bring(str(tmp_path / "own_task.py"))
    with pytest.raises(AssertionError, match=rf"\Atask tones: [^\n]*{said}"):
        check_task(TASK_UNION.specs["tones"], tmp_path)


def test_what_is_not_registered_is_told_so(tmp_path):
    for check, decorator in ((check_layer, "layer"), (check_arm, "arm")):
        with pytest.raises(AssertionError, match=f"Task is no registered .*@harness.{decorator}"):
            check(Task)
    with pytest.raises(AssertionError, match=re.escape("decorate it with @harness.task")):
        check_task(Task, tmp_path)


def test_impulse_responses_of_a_stack_are_those_of_its_systems():
    numbers = torch.Generator().manual_seed(0)
    one = [torch.randn(shape, dtype=torch.complex128, generator=numbers) / 2
           for shape in ((2, 3), (2, 3, 1), (2, 1, 3))]  # fmt: skip
    whole = impulse_responses(tuple(one), 4)
    assert whole.shape == (4, 2, 2)
    for s in range(2):
        alone = impulse_responses(tuple(part[s] for part in one), 4)
        torch.testing.assert_close(whole[:, s : s + 1, s : s + 1], alone)
    assert not whole[:, 0, 1].any()
