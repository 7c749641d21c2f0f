"""Every mistake is one clear line, exit code 2, and nothing written."""

import pytest

from harness.records.files import write_json

TRIAL = {
    "task": {"name": "digits"},
    "model": {"blocks": 1, "width": 4, "state_dim": 4},
    "training": {"steps": 4},
    "arm": {"kind": "full"},
}
WINDOW = {"kind": "in_training", "tau": 0.1}
GROWN = """
from harness.suite import *
shrink = InTrainingSpec(kind="in_training")
def grown(arm):
    task = TaskSpec(name="digits")
    return Suite(name="grown", comparisons=(Comparison(task=task, arms={"a": arm}),))
suite = grown("""


@pytest.mark.parametrize("verb", ["plan", "run", "report", "table"])
@pytest.mark.parametrize(
    ("suite", "says"),
    [
        ("nosuch", "no suite 'nosuch'; there are ablations, demo"),
        ("demo.nosuch", "'nosuch'; it has suite"),
        ("nosuch.py", "no suite file nosuch.py"),
        ("tiny.py:nosuch", "'nosuch'; it has suite"),
        ("../tiny", "neither a suite's name nor a path"),
    ],
)
def test_a_suite_that_is_not_there(refusal, verb, suite, says):
    assert says in refusal(verb, suite)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("suite = (", "broken.py, line 1: '(' was never closed"),
        ("import nosuchmodule", "No module named 'nosuchmodule'"),
        ("1 / 0", "ZeroDivisionError"),
        ("suite = 3", "has no suite 'suite'; it has none"),
        ("from harness.suite import *\nTaskSpec(name='nosuch')", "digits"),
        ("from harness.suite import *\nTrainingSpec(stepz=1)", "stepz"),
        (f"{GROWN}shrink.model_copy(update={{'tau': 1.5}}))", "arms.a.tau: Input should be less"),
        (f"{GROWN}shrink.model_copy(update={{'end': 0.0}}))", "different and not 0"),
        (
            f"{GROWN}shrink)\nsuite = suite.model_copy(update={{'name': 'a b'}})",
            "broken.py, suite: name: a suite's name is letters",
        ),
    ],
)
def test_a_broken_suite_file(refusal, here, text, says):
    (here / "broken.py").write_text(text)
    assert says in refusal("run", "broken.py")


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("tune", "demo"),
        ("data", "frobnicate"),
        ("run",),
        ("run", "demo", "extra"),
        ("run", "demo", "--stor", "x"),
        ("run", "demo", "--cpus", "0"),
        ("run", "demo", "--cpus", "many"),
        ("run", "demo", "--gpus", "-1"),
        ("run", "demo", "--concurrency", "0"),
        ("ui", "--port", "99999999"),
    ],
)
def test_the_parsers_own_refusals(refusal, arguments):
    refusal(*arguments)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("training.steps", "--set needs PATH=VALUE"),
        ("=3", "--set needs PATH=VALUE"),
        ("training.stepz=3", "training.stepz"),
        ("arms.nosuch.tau=0.5", "arms.nosuch.tau"),
        ("training.steps=0", "greater than or equal to 1 (got 0)"),
        ("training.steps=many", "valid integer (got 'many')"),
        ("training.steps=1.5", "valid integer (got 1.5)"),
        ("training.steps=true", "valid integer (got True)"),
        ("training.lr=NaN", "finite"),
        ("model.state_dim=0", "greater than or equal to 1 (got 0)"),
        ("model.state_dim=[4,4]", "2 sizes for 1 blocks"),
        ("arms.in_training.tau=1.5", "less than 1 (got 1.5)"),
        ("arms.in_training.end=0.0", "different and not 0"),
        ("arms.in_training.count=100", "different and not 0"),
        ("arms.in_training.start=0.9", "before its start at 0.9"),
        ("arms.in_training.kind=nosuch", "'in_training', 'post_hoc', 'small'"),
        ("task.name=nosuch", "'vowels', 'wikitext103'"),
        ("training.batch_size=1001", "training split of digits, 1000 examples"),
        ("seeds=[]", "seeds"),
        ("seeds=[1,1]", "seeds repeat"),
        ("seeds=[-1]", "seeds"),
    ],
)
def test_settings(refusal, setting, says):
    assert says in refusal("run", "tiny.py", "--set", setting)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "spec.json is not valid JSON"),
        ("{", "spec.json is not valid JSON"),
        ("[1]", "must hold a JSON object, not list"),
        ('{"task": {"name": "digits"}, "arm": {"kind": "full"}, "seed": NaN}', "NaN"),
        ({**TRIAL, "spec_version": 2}, "spec_version 2 is unknown"),
        ({**TRIAL, "extra": 1}, "extra"),
        ({**TRIAL, "task": {"name": "nosuch"}}, "'vowels', 'wikitext103'"),
        ({**TRIAL, "arm": {"kind": "nosuch"}}, "'full', 'in_training', 'post_hoc', 'small'"),
        ({**TRIAL, "model": {"kind": "nosuch"}}, "'lru'"),
        ({**TRIAL, "training": {"steps": 0}}, "training.steps"),
        ({**TRIAL, "seed": "zero"}, "seed"),
        ({**TRIAL, "task": {"name": "vowels", "length": "512"}}, "task.length: Input should be"),
        ({**TRIAL, "task": {"name": "vowels", "length": 512.0}}, "task.length: Input should be"),
        (
            {**TRIAL, "task": {"name": "vowels", "train": 10}},
            "training.batch_size 50 is larger than the training split of vowels, 10 examples",
        ),
        ({**TRIAL, "arm": {**WINDOW, "tau": 1.5}}, "tau"),
        ({**TRIAL, "arm": {**WINDOW, "start": 0.5, "end": 0.1}}, "before its start"),
        ({**TRIAL, "arm": {**WINDOW, "count": 40}}, "must be different"),
        ({**TRIAL, "arm": {"kind": "small", "match": "seed"}}, "`to`"),
        ({**TRIAL, "arm": {"kind": "small", "match": "seed", "to": WINDOW}}, "tiny.py|plan"),
        ({**TRIAL, "arm": {"kind": "post_hoc", "tau": 0.1}}, "has not been run in this store"),
        ({**TRIAL, "training": {"batch_size": 1001}}, "training split of digits, 1000 examples"),
    ],
)
def test_specs(refusal, spec_file, content, says):
    err = refusal("trial", spec_file(content))
    assert any(part in err for part in says.split("|"))


def test_a_spec_file_that_is_not_there(refusal):
    assert "cannot read nosuch.json" in refusal("trial", "nosuch.json")


@pytest.fixture
def no_ray(monkeypatch):
    """Nothing may be started."""
    from harness.launch import cluster

    monkeypatch.setattr(cluster, "own_ray", lambda _: pytest.fail("Ray was started"))


@pytest.mark.parametrize("verb", ["trial", "run", "tune"])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HARNESS_THREADS", "many", "HARNESS_THREADS must be a whole number"),
        ("HARNESS_THREADS", "0", "HARNESS_THREADS must be a whole number from 1 to 1024, not '0'"),
        ("HARNESS_CHECKPOINT_SECONDS", "often", "HARNESS_CHECKPOINT_SECONDS must be a number"),
        ("HARNESS_DEVICE", "nosuch", "HARNESS_DEVICE is 'nosuch'; use cpu or cuda"),
        ("HARNESS_DEVICE", "mps", "HARNESS_DEVICE is 'mps'; use cpu or cuda"),
        ("HARNESS_DEVICE", "cuda", "HARNESS_DEVICE is cuda, but no GPU can be used here"),
    ],
)
def test_the_environment(refusal, spec_file, no_ray, monkeypatch, verb, name, value, says):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv(name, value)
    what = {"trial": spec_file(TRIAL), "run": "tiny.py", "tune": "timing.digits"}[verb]
    assert says in refusal(verb, what)


@pytest.mark.parametrize("verb", ["trial", "run"])
def test_a_backend_that_cannot_run_here(refusal, spec_file, no_ray, monkeypatch, verb):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    what = {
        "trial": [spec_file({**TRIAL, "model": {**TRIAL["model"], "backend": "triton"}})],
        "run": ["tiny.py", "--set", "model.backend=triton"],
    }
    assert "backend triton cannot run here: " in refusal(verb, *what[verb])


def test_fewer_cpus_than_threads(refusal, no_ray, monkeypatch):
    monkeypatch.setenv("HARNESS_THREADS", "2")
    says = "HARNESS_THREADS is 2: a trial needs as many CPUs, not --cpus 1"
    assert says in refusal("run", "tiny.py", "--cpus", "1")


def test_threads_ask_for_cpus(refusal, no_ray, monkeypatch):
    monkeypatch.setenv("HARNESS_THREADS", "1024")
    assert "a trial asks for 1024 CPUs; this machine has" in refusal("run", "tiny.py")


@pytest.mark.parametrize("verb", ["plan", "run", "table", "report"])
@pytest.mark.parametrize(("store", "says"), [("file", "is not a folder"), ("", "path is empty")])
def test_a_store_that_cannot_be_one(refusal, here, verb, store, says):
    (here / "file").touch()
    assert says in refusal(verb, "tiny.py", "--store", store)


def test_a_store_that_cannot_be_written(refusal):
    assert "cannot write to the store /proc/nosuch" in refusal(
        "run", "tiny.py", "--store", "/proc/nosuch"
    )


@pytest.mark.parametrize("verb", ["table", "report"])
def test_a_store_without_a_record_of_the_suite(refusal, verb):
    assert "no record of suite tiny in" in refusal(verb, "tiny.py", "--store", "empty")


def test_a_store_that_has_other_records(refusal, here):
    for name in ("one", "two"):
        write_json(here / "store" / "suites" / name / "plan.json", {"suite": {}, "trials": []})
    err = refusal("table", "gone.py:one", "--store", "store")
    assert "no suite file gone.py; the store has records of one, two" in err


def test_a_plan_of_which_nothing_has_ended(refusal, here):
    plan = {"suite": {}, "trials": []}
    write_json(here / "store" / "suites" / "tiny" / "plan.json", plan)
    assert "has no finished trial yet" in refusal("table", "tiny.py", "--store", "store")


def test_a_mirror_that_is_not_there(refusal):
    assert "has no mirror yet" in refusal("ui", "--store", "empty")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (("--only", "nosuch/*"), "no row matches; there are digits/full"),
        (("--retry", "completed"), "--retry takes failed or diverged"),
        (("--cpus", "4096"), "asks for 4096 CPUs; this machine has"),
        (("--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
        (("--address", "nonsense"), "a Ray address is local"),
    ],
)
def test_wishes_that_cannot_be(refusal, wish, says):
    assert says in refusal("run", "tiny.py", *wish)


@pytest.mark.parametrize("verb", ["fetch", "check"])
def test_a_task_that_is_not_there(refusal, verb):
    assert "no task 'nosuch'; there are aan, arrays" in refusal("data", verb, "nosuch")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("step", "--shapes", "smnist,nosuch"), "no shape 'nosuch'; there are smnist, scifar"),
        (("step", "--shapes", ""), "no shape ''"),
        (("step", "--backends", "nosuch"), "no backend 'nosuch'; there are reference, toeplitz"),
        (("step", "--backends", "triton"), "triton cannot run here"),
        (("step", "--rounds", "0"), "rounds must be at least 1, not 0"),
        (("step", "--threads", "0"), "threads must be at least 1, not 0"),
        (("step", "--device", "tpu"), "device is 'tpu'; use cpu or cuda"),
        (("truncation", "--rounds", "-1"), "rounds must be at least 1, not -1"),
        (("truncation", "--device", "tpu"), "device is 'tpu'; use cpu or cuda"),
        (("launch", "--trials", "1"), "trials must be at least 2, not 1"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_a_benchmark_of_nothing(refusal, arguments, says):
    assert says in refusal("bench", *arguments)
