"""A suite of four ways in milliseconds, and a `harness` that runs in this process."""

import json

import pytest

from harness.cli.app import execute
from harness.environment import VARIABLES

TINY = """
from harness.suite import *

shrink = InTrainingSpec(kind="in_training", tau=0.3, end=0.5, count=2)
suite = Suite(
    name="tiny",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=4, state_dim=8),
            training=TrainingSpec(steps=40, batch_size=20, evaluate_every=20, lr=0.01),
            arms={
                "full": FullSpec(kind="full"),
                "in_training": shrink,
                "post_hoc": PostHocSpec(kind="post_hoc", match="seed", to=shrink),
                "small": SmallSpec(kind="small", match="mean", to=shrink),
            },
            seeds=(0, 1),
        ),
    ),
)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with the tiny suite in it, and no settings of the caller's."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def refusal(here, capsys):
    """Run a command line that must be refused: exit 2, one line, nothing printed or written."""

    def refuse(*arguments, longest=400):
        before = {path: path.lstat().st_mtime_ns for path in here.rglob("*")}
        code = execute([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert code == 2, (out, err)
        assert out == ""
        assert err.startswith("harness: ")
        assert err.count("\n") == 1
        assert len(err) < longest
        assert {path: path.lstat().st_mtime_ns for path in here.rglob("*")} == before
        return err

    return refuse


@pytest.fixture
def spec_file(here):
    """Writes a trial's spec: a dict as JSON, or text as it is."""

    def write(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (here / "spec.json").write_text(text)
        return "spec.json"

    return write
