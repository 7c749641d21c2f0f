"""All `HARNESS_*` variables: one table, and nobody who reads past it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import environment
from harness.cli.doctor import examine
from harness.environment import VARIABLES
from harness.launch.driver import _environment
from harness.launch.pool import Pool
from tests.launch.test_pool import FakeRay, job, started

ROOT = Path(__file__).parents[1]
SET = {  # a text of each that is not its default, and what it is read as
    "HARNESS_STORE": ("elsewhere", "elsewhere"),
    "HARNESS_DATA": ("/data", Path("/data")),
    "HARNESS_DATA_MIRROR": ("https://mirror.example/x", "https://mirror.example/x"),
    "HARNESS_DATA_UNCHECKED": ("1", True),
    "HARNESS_MLFLOW": ("http://mlflow.example:5000", "http://mlflow.example:5000"),
    "HARNESS_DEVICE": ("cuda:1", "cuda:1"),
    "HARNESS_THREADS": ("3", 3),
    "HARNESS_CHECKPOINT_SECONDS": ("5", 5.0),
    "HARNESS_LEASE_SECONDS": ("45", 45.0),
    "HARNESS_CUDA_GRAPHS": ("0", False),
    "HARNESS_RAY_START_SECONDS": ("20", 20.0),
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


def test_every_variable_has_a_default_that_it_would_take(monkeypatch):
    assert {variable.name for variable in VARIABLES} == SET.keys()
    for variable in VARIABLES:
        default = variable.get()
        monkeypatch.setenv(variable.name, variable.default)
        assert variable.get() == default
        text, value = SET[variable.name]
        monkeypatch.setenv(variable.name, text)
        assert variable.get() == value != default


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("HARNESS_DEVICE", "gpu", "HARNESS_DEVICE is 'gpu'; use cpu or cuda"),
        ("HARNESS_THREADS", "", "HARNESS_THREADS must be a whole number from 1 to 1024, not ''"),
        ("HARNESS_CHECKPOINT_SECONDS", "-1", "must be a number of seconds from 0 to 1000000"),
        ("HARNESS_RAY_START_SECONDS", "0", "must be a number of seconds from 1 to 1000000"),
        ("HARNESS_LEASE_SECONDS", "0", "must be a number of seconds from 1 to 1000000"),
        ("HARNESS_CUDA_GRAPHS", "yes", "HARNESS_CUDA_GRAPHS must be auto, 0 or 1, not 'yes'"),
        ("HARNESS_DATA_UNCHECKED", "2", "HARNESS_DATA_UNCHECKED must be 0 or 1, not '2'"),
        ("HARNESS_DATA_MIRROR", "ftp://me:word@x", "http or https address; got 'ftp://***@x'"),
        ("HARNESS_DATA", " ", "HARNESS_DATA's path is empty"),
    ],
)
def test_what_says_nothing_is_refused_by_name(monkeypatch, name, text, says):
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=re.escape(says)):
        environment.check()


def test_workers_get_what_the_table_forwards(monkeypatch):
    for name, (text, _) in SET.items():
        monkeypatch.setenv(name, text)
    pool = Pool(FakeRay({"CPU": 1.0, "GPU": 1.0}), environment=_environment("HOST:1", None))
    found = started(pool, job("a", gpus=1.0)).actor.asked["runtime_env"]["env_vars"]
    ours = {name: text for name, text in found.items() if name.startswith("HARNESS_")}
    # Told otherwise, or of no use there.
    drivers = {"HARNESS_STORE", "HARNESS_MLFLOW", "HARNESS_RAY_START_SECONDS"}
    assert ours == {name: text for name, (text, _) in SET.items() if name not in drivers}


def test_what_is_not_set_is_not_forwarded(monkeypatch):
    assert environment.forwarded() == {}
    monkeypatch.setenv("HARNESS_DEVICE", "")
    monkeypatch.setenv("HARNESS_DATA", "here")
    assert environment.forwarded() == {"HARNESS_DATA": str(Path("here").absolute())}


def test_nobody_reads_a_variable_past_the_table():
    past = re.compile(r"(environ|getenv)[^\n]*[\"']HARNESS_")
    files = [*(ROOT / "harness").rglob("*.py")]
    assert [file for file in files if past.search(file.read_text())] == []


def test_every_variable_that_is_named_anywhere_is_in_the_table():
    files = [ROOT / "README.md", *(ROOT / "harness").rglob("*.py")]
    files += (ROOT / "harness").rglob("README.md")
    named = {
        name for file in files for name in re.findall(r"HARNESS_[A-Z_]*[A-Z]", file.read_text())
    }
    assert named == {variable.name for variable in VARIABLES} | environment.INTERNAL
    readme = (ROOT / "README.md").read_text()
    assert [variable.name for variable in VARIABLES if variable.name not in readme] == []


def test_a_slip_of_the_pen_is_noted_and_other_programs_variables_are_not(monkeypatch):
    monkeypatch.setenv("HARNESS_THREDS", "2")
    monkeypatch.setenv("HARNESS_PIPELINE_ID", "x")
    monkeypatch.setenv("HARNESS_RAY_FOLDER", "/tmp/x")
    assert list(environment.misspelt()) == [
        "'HARNESS_THREDS' is no setting of the harness: did you mean HARNESS_THREADS?"
    ]
    assert environment.unknown() == ["HARNESS_PIPELINE_ID", "HARNESS_THREDS"]


def test_every_command_says_so(monkeypatch):
    monkeypatch.setenv("HARNESS_THREDS", "2")
    command = [sys.executable, "-m", "harness", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == (
        "harness: 'HARNESS_THREDS' is no setting of the harness: did you mean HARNESS_THREADS?\n"
    )


def test_the_doctor_lists_what_is_set(monkeypatch):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "5")
    monkeypatch.setenv("HARNESS_CHECKPOINTS", "5")
    monkeypatch.setenv("HARNESS_DATA_MIRROR", "https://me:word@mirror.example")
    lines = list(examine())
    said = [line for line in lines if line.startswith("HARNESS_")]
    assert said == [
        "HARNESS_DATA_MIRROR='https://***@mirror.example': http or https address of a mirror "
        "of the archives, tried first",
        "HARNESS_CHECKPOINT_SECONDS='5': seconds between the checkpoints of a trial",
        "HARNESS_CHECKPOINTS is no setting of the harness",
    ]
