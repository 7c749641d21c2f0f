"""The Slurm files on a real Slurm of one host, which the test starts."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import load, override
from tests.cli.conftest import TINY

from .conftest import ROOT, workers
from .slurm_host import SlurmHost, lacks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lacks() is not None, reason=str(lacks())),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    host = SlurmHost(tmp_path_factory.mktemp("slurm"))
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture
def site(host, tmp_path, rendered, monkeypatch):
    """`site(target, *run)`: the path of a batch file for this host; a home and a store of its own
    lie below `tmp_path`."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    (tmp_path / "tiny.py").write_text(TINY)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "harness"
    program.write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -m harness "$@"\n')
    program.chmod(0o700)
    path = f"{tmp_path / 'bin'}:{sys.exec_prefix}/bin:$PATH"
    setup = [f'export PATH="{path}" PYTHONPATH={ROOT} HOME={tmp_path}']

    def make(target, *run, **slurm):
        files = rendered(
            target,
            run=[f"{tmp_path}/tiny.py", *run],
            workers=[workers(cpus=1, memory_gib=2, gpus=0, accelerator=None, spot=False, max=1)],
            shared={"path": str(tmp_path)},
            store=f"{tmp_path}/store",
            data=f"{tmp_path}/data",
            time_limit_minutes=30,
            setup=setup,
            secrets=None,
            environment={"HARNESS_CHECKPOINT_SECONDS": "600"},
            slurm=slurm,
        )
        ((name, text),) = files.items()
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


def submit(host, file):
    return host.call("sbatch", "--parsable", file).strip()


def ended(tmp_path, *settings):
    """The results of the tiny suite's rows, with None for each that has not ended."""
    plan = Plan(override(load(str(tmp_path / "tiny.py")), list(settings)), store_of(tmp_path))
    return [plan.result(row.spec.trial_id) if row.spec else None for row in plan.rows]


def store_of(tmp_path):
    return Store.open(str(tmp_path / "store"), create=True)


def left(tmp_path, job):
    """What a job must take away again: its token, and Ray's folder."""
    return [*tmp_path.glob(".harness/slurm-*"), *Path("/tmp").glob(f"harness-{job}")]


@pytest.mark.parametrize("target", ["slurm", "slurm-array"])
def test_slurm_takes_the_file_and_refuses_what_the_partition_does_not_allow(host, site, target):
    file = site(target)
    assert "to start at" in host.call("sbatch", "--test-only", file)
    for found, wrong in (("--time=00:30:00", "--time=99:00:00"), ("--mem=2G", "--mem=999G")):
        other = file.with_name("other.sh")
        other.write_text(file.read_text().replace(found, wrong))
        assert "allocation failure" in host.call("sbatch", "--test-only", other, check=False)


def test_a_job_runs_the_suite_and_leaves_nothing_behind(host, site, tmp_path):
    job = submit(host, site("slurm", "--set", "training.steps=8"))
    assert host.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", host.logs()
    found = ended(tmp_path, "training.steps=8")
    assert [one["status"] for one in found] == ["completed"] * 8
    assert left(tmp_path, job) == []
    assert "digits" in host.logs()  # the table


def test_a_signalled_job_takes_checkpoints_and_goes_on_after_its_requeue(host, site, tmp_path):
    settings = ("training.steps=4000", "training.evaluate_every=1000", "seeds=[0]")
    words = [word for one in settings for word in ("--set", one)]
    job = submit(host, site("slurm", *words, "--only", "*/full"))
    host.wait(job, {"RUNNING"})
    running = lambda: [*tmp_path.glob("store/trials/*/*")]  # noqa: E731
    host.until(running, "the trial", 200)
    host.call("scancel", "--batch", "--signal=TERM", job)  # what --signal=B:TERM@ does in time
    host.wait(job, {"PENDING"})
    assert left(tmp_path, job) == []
    # Slurm starts it again after two minutes, before which it would refuse its credential.
    assert host.wait(job, {"COMPLETED", "FAILED"}, 900) == "COMPLETED", host.logs()
    first = ended(tmp_path, *settings)[0]
    assert first["status"] == "completed"
    assert first["record"]["restarts"] == 1
    assert "requeued to go on from the checkpoints" in host.logs()


def test_a_cancelled_job_stays_cancelled(host, site, tmp_path):
    job = submit(host, site("slurm", "--set", "training.steps=100000"))
    host.wait(job, {"RUNNING"})
    host.until(lambda: [*tmp_path.glob("store/trials/*/*")], "the trial", 200)
    host.call("scancel", job)
    host.wait(job, {"CANCELLED"})
    host.until(lambda: not host.call("squeue", "-h", "-j", job, check=False).strip(), "the end")
    assert host.state(job) == "CANCELLED"


def test_an_array_shares_the_suite_out_without_ray(host, site, tmp_path):
    job = submit(host, site("slurm-array", "--set", "training.steps=8", tasks=2))
    for task in (1, 2):
        assert host.wait(f"{job}_{task}", {"COMPLETED", "FAILED"}) == "COMPLETED", host.logs()
    found = ended(tmp_path, "training.steps=8")
    assert [one["status"] for one in found] == ["completed"] * 8
    manifests = [
        json.loads(path.read_text()) for path in tmp_path.glob("store/trials/*/manifest.json")
    ]
    assert len(manifests) == 8
