"""Every rendered file against the schema of what reads it, and the places against each other."""

import copy
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cluster import TARGETS

from .conftest import workers

SCHEMAS = Path(__file__).with_name("schemas")
jsonschema = pytest.importorskip("jsonschema", reason="the schemas need jsonschema (MLflow has it)")


@functools.cache
def kuberay(kind):
    """KubeRay's schema of a resource. Metadata are Kubernetes' own."""
    schema = json.loads((SCHEMAS / f"{kind}.v1.schema.json").read_text())
    if kind == "rayjob":
        spec = kuberay("raycluster")["properties"]["spec"]
        schema["properties"]["spec"]["properties"]["rayClusterSpec"] = spec
    return schema


@functools.cache
def autoscaler():
    """The schema of cluster files in the installed Ray, with unknown fields refused where it
    leaves none to plug-ins."""
    import importlib.util

    folder = Path(importlib.util.find_spec("ray").origin).parent
    return json.loads((folder / "autoscaler" / "ray-schema.json").read_text())


def faults(document, schema):
    """What a schema has against a document."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, one.absolute_path))}: {one.message}" for one in found]


def only(files):
    """The one file, read as YAML."""
    (text,) = files.values()
    return yaml.safe_load(text)


def cluster_of(document):
    """The RayCluster's spec in either resource."""
    spec = document["spec"]
    return spec.get("rayClusterSpec", spec)


def groups_of(document):
    spec = cluster_of(document)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


TWO = {"workers": [workers(), workers(name="cpu", gpus=0, accelerator=None, spot=False)]}
PLAIN = {"secrets": None, "setup": None}
BUCKET = {"store": "s3://bucket/results"}
CHANGES = pytest.mark.parametrize(
    "changes", [{}, TWO, PLAIN, BUCKET], ids=["example", "two", "plain", "bucket"]
)
KUBERNETES = pytest.mark.parametrize(
    ("target", "kind"), [("kubernetes", "raycluster"), ("rayjob", "rayjob")]
)


@KUBERNETES
@CHANGES
def test_manifests_are_what_kuberay_takes(rendered, target, kind, changes):
    document = only(rendered(target, **changes))
    assert not faults(document, kuberay(kind))
    wrong = copy.deepcopy(document)
    cluster_of(wrong)["workerGroupSpecs"][0]["maxReplica"] = 3
    cluster_of(wrong)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert len(faults(wrong, kuberay(kind))) == 2  # the schema sees what is wrong


@KUBERNETES
def test_pods_are_what_kubernetes_takes(rendered, target, kind):
    reason = "pods need kubernetes-validate, of the extra dev"
    validate = pytest.importorskip("kubernetes_validate", reason=reason)
    for group in groups_of(only(rendered(target, **TWO))):
        spec = group["template"]["spec"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
        validate.validate(pod, validate.latest_version(), strict=True)
        spec["containers"][0]["imagee"] = "x"
        with pytest.raises(validate.ValidationError):
            validate.validate(pod, validate.latest_version(), strict=True)


@pytest.mark.parametrize("target", ["aws", "gcp"])
@CHANGES
def test_cloud_files_are_what_rays_autoscaler_takes(rendered, target, changes):
    document = only(rendered(target, **changes))
    assert not faults(document, autoscaler())
    wrong = document | {"max_workerz": 1}
    wrong["available_node_types"]["gpu"]["max_workers"] = "1"
    assert len(faults(wrong, autoscaler())) == 2


@pytest.mark.parametrize("target", TARGETS)
def test_a_bucket_is_named_where_the_store_is_and_nobody_makes_a_folder_of_it(rendered, target):
    text = "\n".join(rendered(target, **BUCKET).values())
    runs = target not in ("hosts", "kubernetes", "aws", "gcp")  # those only make a cluster
    assert ("s3://bucket/results" in text) == runs
    lines = [line for line in text.splitlines() if "install -d" in line or "mkdir" in line]
    assert not [line for line in lines if "s3://" in line]


FILL = """
import sys, yaml
from ray.autoscaler._private import util
filled = util.prepare_config(yaml.safe_load(sys.stdin))
util.validate_config(filled)
print(*sorted(filled["available_node_types"]))
"""


@pytest.mark.parametrize("target", ["aws", "gcp"])
def test_ray_itself_fills_the_cloud_files_in(rendered, target):
    """What `ray up` does before it rents: defaults, and its own checks beyond the schema."""
    (text,) = rendered(target, **TWO).values()
    done = subprocess.run([sys.executable, "-c", FILL], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "cpu gpu head\n"), done.stderr


SKYPILOT = {  # fields of a task, from SkyPilot's reference of its YAML
    "name", "num_nodes", "resources", "envs", "secrets", "setup", "run",
}  # fmt: skip


def test_skypilot_takes_known_fields_and_secrets_by_name(rendered):
    task = only(rendered("skypilot"))
    assert task.keys() <= SKYPILOT
    assert task["resources"]["accelerators"] == "L4:1"
    assert task["secrets"] == {"RAY_AUTH_TOKEN": None, "MLFLOW_TRACKING_PASSWORD": None}


SCRIPTS = ["hosts", "slurm", "slurm-array", "skypilot"]


def scripts(files):
    """The shell scripts in rendered files."""
    for name, text in files.items():
        if name.endswith(".sh"):
            yield text
        else:
            task = yaml.safe_load(text)
            yield from (f"#!/bin/bash\n{task[part]}" for part in ("setup", "run"))


@pytest.mark.parametrize("target", SCRIPTS)
@CHANGES
def test_scripts_are_bash(rendered, target, changes):
    if target != "hosts" and changes is TWO:
        pytest.skip("one group of nodes")
    for text in scripts(rendered(target, **changes)):
        done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", SCRIPTS)
def test_scripts_pass_shellcheck(rendered, target):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    for text in scripts(rendered(target)):
        checked = subprocess.run(
            ["shellcheck", "--severity=warning", "-"], input=text, text=True, capture_output=True
        )
        assert checked.stdout == ""


def words_of(text, option):
    """The values that an option of `ray start` has in a text."""
    return set(re.findall(rf"--{option}[= ]'?(\d+)", text))


@pytest.mark.parametrize("target", TARGETS)
def test_every_place_has_the_same_health_checks_data_and_size(rendered, target):
    text = "\n".join(rendered(target, health={"period_ms": 1234}, data="/mnt/shared/own").values())
    assert "1234" in text
    assert "/mnt/shared/own" in text
    if target in ("kubernetes", "rayjob"):
        params = groups_of(yaml.safe_load(text))[1]["rayStartParams"]
        size = params["num-cpus"], params["num-gpus"]
    elif target in ("aws", "gcp"):
        resources = yaml.safe_load(text)["available_node_types"]["gpu"]["resources"]
        size = str(resources["CPU"]), str(resources["GPU"])
    else:
        assert "8" in words_of(text, "num-cpus")
        assert "1" in words_of(text, "num-gpus")
        return
    assert size == ("8", "1")


@pytest.mark.parametrize("target", sorted(set(TARGETS) - {"slurm-array"}))  # which starts no Ray
def test_every_ray_asks_for_a_token(rendered, target):
    text = "\n".join(rendered(target).values())
    assert re.search(r"RAY_AUTH_MODE[=:] ?token|authOptions:\s+mode: token", text)


def test_what_runs_is_the_descriptions(rendered):
    run = {"run": ["mine.py:it's", "--gpus", "0.5"]}
    said = "'mine.py:it'\"'\"'s' --gpus 0.5"
    at = "--store /mnt/shared/results --address auto"
    assert only(rendered("rayjob", **run))["spec"]["entrypoint"] == f"harness run {said} {at}"
    assert only(rendered("skypilot", **run))["envs"]["RUN"] == f"harness run {said} {at}"
    for target in ("slurm", "slurm-array"):
        (text,) = rendered(target, **run).values()
        assert f"[ $# -gt 0 ] || set -- {said}\n" in text


def test_spot_is_asked_for_only_where_it_is_wanted(rendered):
    on_demand = {"workers": [workers(spot=False)]}
    for target, word in (("aws", "MarketType"), ("gcp", "SPOT"), ("skypilot", "use_spot: true")):
        assert word in "\n".join(rendered(target).values())
        assert word not in "\n".join(rendered(target, **on_demand).values())


def test_a_pod_that_is_told_to_go_drains_its_node_first(rendered):
    head, *rest = groups_of(only(rendered("rayjob", kubernetes={"grace_seconds": 30})))
    assert "lifecycle" not in head["template"]["spec"]["containers"][0]
    (pod,) = (group["template"]["spec"] for group in rest)
    assert pod["terminationGracePeriodSeconds"] == 30
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["harness", "cluster", "drain", "--wait", "--seconds", "25"]


def test_slurm_has_one_directive_for_each_thing_said(rendered):
    site = {"partition": "p", "account": "a", "qos": "q", "gpu_type": "l4", "notice_seconds": 90}
    (text,) = rendered("slurm", slurm=site, time_limit_minutes=605).values()
    directives = set(re.findall(r"^#SBATCH (.*)$", text, re.M))
    assert directives == {
        "--job-name=compressm", "--nodes=4", "--ntasks-per-node=1", "--output=%x-%j.log",
        "--cpus-per-task=8", "--mem=32G", "--gpus-per-node=l4:1", "--time=10:05:00",
        "--signal=B:TERM@90", "--requeue", "--open-mode=append", "--partition=p", "--account=a",
        "--qos=q",
    }  # fmt: skip
