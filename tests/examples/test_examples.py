"""The examples of the README's "Your own": each keeps its contract, and runs from end to end."""

import json
import re
from pathlib import Path

import pytest

from harness import plugins
from harness.cli.app import execute
from harness.records.store import Store
from harness.suite import load
from harness.testing import check_arm, check_layer, check_task
from harness.training.trial import run_trial

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("plugged")


def loaded(name):
    """The suite of an example, and the one plug-in that its file registers."""
    suite = load(str(HERE / f"{name}.py"))
    (one,) = plugins.plugins()
    return suite, one


def results_of(suite, store):
    """By label: the results of the trials, run here one after the other, without Ray."""
    found = {}
    for role in suite.roles():
        found.setdefault(role.label, []).append(run_trial(role.trial, store)["record"])
    return found


def test_own_layer(tmp_path):
    suite, layer = loaded("own_layer")
    check_layer(layer.target)
    check_layer(suite.comparisons[0].model, width=4, state_dim=1)
    records = results_of(suite, Store.open(tmp_path))
    assert all(record["status"] == "completed" for row in records.values() for record in row)
    assert all(record["state_dims"] == [8, 8] for record in records["full"])
    assert all(record["state_dim_mean"] < 8 for record in records["in training"])
    assert all(record["model"] == "diagonal" for row in records.values() for record in row)


def test_own_arm(tmp_path):
    suite, arm = loaded("own_arm")
    check_arm(arm.target)
    store = Store.open(tmp_path)
    records = results_of(suite, store)
    for record in records["stalled"]:
        assert record["status"] == "completed"
        cuts = store.trial(record["trial_id"]).table("truncations").to_pylist()
        assert cuts
        assert {cut["step"] % 5 for cut in cuts} == {0}  # after evaluations, and only there


def test_own_task(tmp_path):
    suite, task = loaded("own_task")
    check_task(task.target, tmp_path)
    records = results_of(suite, Store.open(tmp_path))
    assert all(record["status"] == "completed" for record in records["full"])
    assert min(record["test_metric"] for record in records["full"]) > 0.4  # blind guessing: 0.25


def test_the_readme_word_for_word(tmp_path, monkeypatch):
    """Its arm, saved under the name that it says, and its check."""
    blocks = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    Path("halved.py").write_text(blocks[0])
    suite = load("halved.py")
    exec(compile(blocks[1], "README.md", "exec"), {"Halve": plugins.find("arm", "halve").target})
    records = results_of(suite, Store.open("store"))
    dims = {label: [one["state_dims"] for one in row] for label, row in records.items()}
    assert dims == {"full": [[8], [8]], "halve": [[4], [4]], "a quarter": [[2], [2]]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_layer", "own_arm", "own_task"])
def test_a_run_of_it(tmp_path, monkeypatch, capfd, name):
    """As the README has it: on Ray, whose workers start elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert execute(["run", str(HERE / f"{name}.py"), "--store", "store"]) == 0
    capfd.readouterr()
    assert execute(["table", name, "--store", "store", "--format", "json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert {row["seeds"] for row in rows} == {2}
