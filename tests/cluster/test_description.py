"""What a description takes, and the one line that says what is wrong in another."""

import json
import subprocess
import sys
import typing

import pytest

from harness.cli import app as cli
from harness.cluster import TARGETS, read_cluster
from harness.cluster.description import Accelerator

from .conftest import EXAMPLE, described, workers

KNOWN = """
from ray.util.accelerators import accelerators
print(*(v for k, v in vars(accelerators).items() if k.startswith("NVIDIA_")))
"""


def test_accelerators_are_rays():
    # In a process of its own: Ray reads its token's settings once, when it is imported.
    done = subprocess.run([sys.executable, "-c", KNOWN], capture_output=True, text=True, check=True)
    known = {name for name in done.stdout.split() if not name.startswith("A100-")}
    assert set(typing.get_args(Accelerator)) == known


def test_json_says_the_same_as_toml(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(described().model_dump_json(exclude_none=True))
    assert read_cluster(file) == read_cluster(EXAMPLE)


WRONG = [  # changes, and what the line says
    ({"nam": "x"}, "nam: no such field; there are name, run, head"),
    ({"name": "My Cluster"}, "name: String should match pattern"),
    ({"name": None}, "name: Field required"),
    ({"run": []}, "run: Tuple should have at least 1 item"),
    ({"run": ["demo", "--store", "x"]}, "run: --store is added from the other fields"),
    ({"run": ["demo", "--address=x"]}, "run: --address is added from the other fields"),
    ({"time_limit_minutes": 0}, "time_limit_minutes: Input should be greater than or equal to 2"),
    ({"time_limit_minutes": "12h"}, "time_limit_minutes: Input should be a valid integer"),
    ({"store": "/elsewhere"}, "store /elsewhere must lie in the shared folder /mnt/shared"),
    ({"store": "results"}, "store: must be an absolute path"),
    ({"data": "/mnt/shared/../x"}, "data: must be an absolute path"),
    ({"store": "/mnt/shared/a b"}, "store: String should match pattern"),
    ({"store": "ftp://bucket/x"}, "store: must be an absolute path or an address like s3://"),
    ({"store": "s3://me:word@bucket/x"}, "store: must be an absolute path or an address like"),
    ({"workers": []}, "workers: Tuple should have at least 1 item"),
    ({"workers": [workers(gpus=-1)]}, "workers.0.gpus: Input should be greater than or equal to 0"),
    ({"workers": [workers(min=5)]}, "workers.0: min 5 exceeds max 4"),
    ({"workers": [workers(gpus=0)]}, "workers.0: accelerator L4 needs gpus >= 1"),
    ({"workers": [workers(accelerator="A1000")]}, "workers.0.accelerator: Input should be 'V100'"),
    ({"workers": [workers(name="head")]}, "workers need distinct names other than head"),
    ({"workers": [workers(), workers()]}, "workers need distinct names other than head"),
    ({"workers": [workers(memory="32G")]}, "workers.0.memory: no such field; there are cpus"),
    ({"setup": ["one\ntwo"]}, "setup.0: must be one line of printable text"),
    ({"environment": {"DB_PASSWORD": "x"}}, "environment.DB_PASSWORD looks like a secret"),
    ({"environment": {"URL": "http://me:pw@host"}}, "environment.URL looks like a secret"),
    ({"environment": {"RAY_AUTH_MODE": "x"}}, "environment.RAY_AUTH_MODE is set by other fields"),
    ({"environment": {"HARNESS_DATA": "x"}}, "environment.HARNESS_DATA is set by other fields"),
    ({"secrets": {"PW": "hunter2"}}, "secrets.PW: String should match pattern"),
    ({"health": {"period_ms": 0}}, "health.period_ms: Input should be greater than or equal"),
    ({"ports": {"gcs": 80}}, "ports.gcs: Input should be greater than or equal to 1024"),
    ({"ports": {"gcs": 8265}}, "ports: dashboard and gcs are both 8265"),
    ({"ports": {"gcs": 10500}}, "ports: gcs 10500 lies among the workers' ports"),
    ({"slurm": {"notice_seconds": 1}}, "slurm.notice_seconds: Input should be greater than"),
    ({"shared": {"path": "/"}}, "shared.path: must be an absolute path"),
    ({"aws": {}}, "aws.region: Field required"),
]


def refused(capsys, *arguments):
    """The one line with which a command line is refused."""
    assert cli.execute(["cluster", "render", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
def test_a_wrong_field_is_one_line(tmp_path, capsys, changes, says):
    content = json.loads(described().model_dump_json(exclude_none=True)) | changes
    file = tmp_path / "c.json"
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    assert f"{file}: {says}" in refused(capsys, file, "--for", "slurm")


LACKING = [
    ("rayjob", {"image": None}, "compressm needs an image to run on Kubernetes"),
    ("kubernetes", {"shared": {"path": "/mnt/shared"}}, "needs shared.claim, a volume claim"),
    ("aws", {"aws": None}, "compressm has no [aws] with its region"),
    ("gcp", {"gcp": None}, "compressm has no [gcp] with its project, region and zone"),
    ("aws", {"shared": {"path": "/mnt/shared"}}, "needs shared.nfs, SERVER:/EXPORT, on a cloud"),
    ("aws", {"workers": [workers(aws_instance=None)]}, "workers gpu has no aws_instance"),
    ("gcp", {"head": {"cpus": 1, "memory_gib": 2}}, "head has no gcp_machine"),
    ("skypilot", {"workers": [workers(accelerator=None)]}, "workers gpu need an accelerator"),
    ("skypilot", {"image": None}, "needs an image to run on SkyPilot"),
    ("slurm", {"workers": [workers(), workers(name="cpu")]}, "a Slurm job has nodes of one kind"),
    ("slurm-array", {"workers": [workers(), workers(name="b")]}, "compressm has workers gpu, b"),
]


@pytest.mark.parametrize(("target", "changes", "says"), LACKING)
def test_what_a_place_needs_is_named(rendered, target, changes, says):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refusal:
        rendered(target, **changes)
    assert says in str(refusal.value)


FILES = [
    ("c.yaml", b"", "FILE.toml or FILE.json, not 'c.yaml'"),
    ("c.toml", b"name = ", "c.toml is not valid TOML"),
    ("c.toml", b"\xff", "c.toml is not valid TOML"),
    ("c.json", b"{", "c.json is not valid JSON"),
    ("c.json", b"[]", "c.json: Input should be"),
]


@pytest.mark.parametrize(("name", "content", "says"), FILES)
def test_a_broken_file_is_one_line(tmp_path, capsys, name, content, says):
    (tmp_path / name).write_bytes(content)
    assert says in refused(capsys, tmp_path / name, "--for", "slurm")


def test_a_missing_file_and_an_unknown_place_are_one_line(tmp_path, capsys):
    assert "No such file" in refused(capsys, tmp_path / "c.toml", "--for", "slurm")
    assert f"--for takes {', '.join(TARGETS)}, not 'nomad'" in refused(
        capsys, EXAMPLE, "--for", "nomad"
    )


def test_files_are_printed_or_written(tmp_path, capsys):
    assert "give --output FOLDER" in refused(capsys, EXAMPLE, "--for", "hosts")
    assert cli.execute(["cluster", "render", str(EXAMPLE), "--for", "slurm"]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "new" / "files"
    words = ["cluster", "render", str(EXAMPLE), "--for", "slurm", "--output", str(folder)]
    assert cli.execute(words) == 0
    assert capsys.readouterr().out == f"{folder / 'slurm.sh'}\n"
    assert (folder / "slurm.sh").read_text() == printed
    (tmp_path / "file").touch()
    assert "file" in refused(capsys, EXAMPLE, "--for", "slurm", "--output", tmp_path / "file")
