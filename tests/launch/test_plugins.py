"""A worker starts in another folder than the driver: the code of plug-ins comes with a job."""

import json
from dataclasses import replace

import pytest

from harness import plugins
from harness.launch import launch
from harness.launch.worker import TrialWorker
from harness.models.specs import MODEL_UNION
from harness.records.store import Store
from harness.suite import TrialSpec, load
from harness.suite.bring import bring
from tests.launch.fakes import FakeJobs, Watcher, job
from tests.plugins import code

pytestmark = pytest.mark.usefixtures("plugged")
HELPED = code.LAYER.replace("import harness\n", "import harness\nfrom sizes import shift\n")


@pytest.fixture
def far(tmp_path_factory, monkeypatch):
    """A folder with a layer, a module that it imports, and a suite in whose file an arm stands."""
    folder = tmp_path_factory.mktemp("far")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    (folder / "mine.py").write_text(HELPED)
    (folder / "sizes.py").write_text("shift = 1\n")
    uses = code.suite(layer="lru", arm="halve", plugins=["mine.py"])
    (folder / "user.py").write_text(code.ARM + uses)
    return folder


def through():
    """A trial of one step whose layer is the plug-in's."""
    content = {
        "task": {"name": "digits"},
        "model": {"kind": "through", "blocks": 1, "width": 4, "state_dim": 4},
        "training": {"steps": 1},
        "arm": {"kind": "full"},
    }
    return TrialSpec.model_validate_json(json.dumps(content))


def halved():
    """A trial of two steps whose arm is that of the suite's own file."""
    content = through().model_dump(mode="json")
    content |= {"arm": {"kind": "halve"}, "training": {"steps": 2}}
    content["model"] = {"blocks": 1, "width": 4, "state_dim": 4}
    return TrialSpec.model_validate_json(json.dumps(content))


def test_a_worker_elsewhere_gets_the_files_and_not_their_folder(far, tmp_path, ray_address):
    load("user.py")
    jobs = [job(spec, plugins=plugins.sources_of(spec)) for spec in (through(), halved())]
    for file in far.glob("*.py"):  # nothing is left that could be imported, here or there
        file.unlink()
    outcomes = launch(FakeJobs(jobs), tmp_path, address=ray_address, progress=Watcher())
    assert [outcome.status for _, outcome in outcomes] == ["completed"] * 2, outcomes
    store = Store(tmp_path)
    (one,) = json.loads(store.trial(through().trial_id).result()["record"]["plugins"])
    assert (one["file"], one["sha256"]) == ("mine.py", jobs[0].plugins[0].sha256)
    cuts = store.trial(halved().trial_id).table("truncations").to_pylist()
    assert [(cut["dim_before"], cut["dim_after"]) for cut in cuts] == [(4, 2)]


def test_a_worker_without_the_code_says_what_is_missing(far, tmp_path, plugged, monkeypatch):
    bring("mine.py")
    spec = through().model_dump(mode="json")
    monkeypatch.setattr(plugged, "_plugins", {})
    monkeypatch.delitem(MODEL_UNION.specs, "through")
    monkeypatch.setattr(MODEL_UNION, "_adapter", None)
    status, message = TrialWorker().run(spec, str(tmp_path), 1.0, {})
    assert status == "refused"
    assert "no kind 'through'" in message or "'through' found using 'kind'" in message
    assert not (tmp_path / "trials").exists()


def test_a_package_that_a_worker_lacks_is_named(far, tmp_path):
    bring("mine.py")
    spec = through()
    (source,) = plugins.sources_of(spec)
    packaged = replace(
        source, distribution="foreign", version="1.2", module="foreign.parts", files={}, sha256="0"
    )
    status, message = TrialWorker().run(
        spec.model_dump(mode="json"), str(tmp_path), 1.0, {}, plugins=(packaged,)
    )
    assert status == "refused"
    assert message.startswith("foreign.parts: ModuleNotFoundError: No module named 'foreign'")
