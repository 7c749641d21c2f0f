"""What every task promises: shapes, splits, fingerprint, summary, sample; and cheap imports."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness import tasks
from harness.tasks.base import UNSCORED
from harness.tasks.specs.own import OwnSpec

from .conftest import SMALL
from .miniature import without_checksums

NAMES = sorted(SMALL)
OWN = {spec for spec in tasks.TASK_SPECS if issubclass(spec, OwnSpec)}
IN_MEMORY = (
    "copying", "digits", "induction", "listops", "mqar", "pathfinder_generated",
    "selective_copying", "vowels",
)  # fmt: skip
RELEASED_SPLITS = {"aan", "sc10", "speech_commands"}  # split as released, whatever the seed


def test_names_and_specs_agree():
    assert tasks.names() == sorted(spec.task_name() for spec in tasks.TASK_SPECS)
    assert len(tasks.names()) == 22 + len(OWN)
    for spec in tasks.TASK_SPECS:
        required = [k for k, field in spec.model_fields.items() if field.is_required()]
        assert required == (["path", "name"] if spec in OWN else ["name"])


def test_every_task_has_a_class_and_knows_its_archives():
    from harness.tasks.storage.sources import SOURCES

    for spec in tasks.TASK_SPECS:
        module, _, class_name = spec.implementation.partition(":")
        assert issubclass(getattr(importlib.import_module(module), class_name), tasks.Task), spec
    assert {a for spec in tasks.TASK_SPECS for a in spec.archives} == set(SOURCES)


def test_import_is_cheap():
    code = (
        "import sys, harness.tasks; "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_examples_have_the_shapes_that_info_states(built, name):
    task, info = built[name], built[name].info
    assert set(task.sizes) == {"train", "validation", "test"}
    for split in task.sizes:
        x, y = task.examples(split, np.array([3, 0, 3]))
        wide = (info.length,) if info.vocabulary else (info.length, info.inputs)
        assert tuple(x.shape) == ((3, 2, *wide) if info.paired else (3, *wide))
        assert x.dtype == (torch.int64 if info.vocabulary else torch.float32)
        assert tuple(y.shape) == ((3, info.length) if info.kind == "next_token" else (3,))
        assert y.dtype == torch.int64
        unscored = y == UNSCORED
        assert info.unscored or not bool(unscored.any())
        assert not bool(unscored.reshape(3, -1).all(1).any())
        y = y[~unscored]
        assert 0 <= int(y.min()) <= int(y.max()) < info.outputs
        if info.vocabulary:
            assert 0 <= int(x.min()) <= int(x.max()) < info.vocabulary
        assert torch.equal(x[0], x[2])
        assert not torch.equal(x[0], x[1])


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_example(built, name):
    task = built[name]
    found = []
    for split, size in task.sizes.items():
        x, _ = task.examples(split, np.arange(size))
        found.append({row.numpy().tobytes() for row in x})
    if task.info.paired:
        return  # the few papers of the miniature are cited again and again
    assert not found[0] & found[1]
    assert not found[0] & found[2]
    assert not found[1] & found[2]


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_is_stable_and_follows_the_split_seed(built, specs, data_dir, name):
    from harness.tasks import _build

    spec = specs[name]
    _build.cache_clear()
    again = tasks.build(spec, data_dir)
    assert again is not built[name]
    assert again.fingerprint == built[name].fingerprint
    assert len(again.fingerprint) == 64
    other = tasks.build(spec.model_copy(update={"split_seed": 1}), data_dir)
    assert (other.fingerprint != again.fingerprint) is (name not in RELEASED_SPLITS)
    if spec.split_by_run:  # the seed draws nothing but the split of one pool
        assert other.pool_fingerprint == again.pool_fingerprint != again.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_summary_is_json_and_counts_every_example(built, name, monkeypatch):
    summary = json.loads(json.dumps(built[name].summary()))
    assert summary["sizes"] == built[name].sizes
    assert summary["higher_is_better"] is (summary["metric"] == "accuracy")
    for split, balance in summary["balance"].items():
        if "classes" in balance:
            assert sum(balance["classes"]) == summary["sizes"][split]
            few = summary["sizes"][split] <= 2 * len(balance["classes"])
            assert min(balance["classes"]) > 0 or few or name == "listops"
    assert ("SYNTHETIC" in summary["provenance"]) == (name == "vowels")
    without_checksums(monkeypatch)
    built[name].verify()


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_written_and_is_what_its_name_says(built, name, tmp_path):
    path = built[name].sample(tmp_path / "deep")
    head = path.read_bytes()[:8]
    if path.suffix == ".png":
        assert head == b"\x89PNG\r\n\x1a\n"
    elif path.suffix == ".wav":
        assert head[:4] == b"RIFF"
    else:
        assert path.suffix == ".txt"
        assert name in path.read_text(encoding="utf-8")


def test_examples_refuses_what_is_not_there(built):
    task = built["digits"]
    with pytest.raises(ValueError, match="no split named 'dev'"):
        task.examples("dev", np.array([0]))
    for bad in ([1000], [-1]):
        with pytest.raises(ValueError, match="outside split 'train' of 1000"):
            task.examples("train", np.array(bad))
    with pytest.raises(ValueError, match="vector of integers"):
        task.examples("train", np.array([0.5]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "guess"}, "kind must be one of"),
        ({"vocabulary": 5}, "exactly one of inputs and vocabulary"),
        ({"inputs": None}, "exactly one of inputs and vocabulary"),
        ({"outputs": 0}, "outputs must be"),
        ({"length": -1}, "length must be"),
    ],
)
def test_info_is_validated(fields, message):
    good = tasks.TaskInfo("classification", outputs=10, length=64, inputs=1)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **fields)


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (tasks.DigitsSpec, {"split_seed": -1}, "split_seed"),
        (tasks.DigitsSpec, {"window": 3}, "window"),
        (tasks.PylibSpec, {"window": 0}, "window"),
        (tasks.ListopsSpec, {"min_length": 1999}, "no length lies strictly between"),
        (tasks.ListopsSpec, {"min_length": 2000}, "no length lies strictly between"),
        (tasks.ListopsSpec, {"length": 1999}, "too short"),
        (tasks.ListopsSpec, {"max_depth": 3}, "none exceeds min_length 500"),
        (tasks.ListopsSpec, {"train": 0}, "train"),
        (tasks.VowelsSpec, {"snr_min": 31.0}, "above snr_max"),
        (tasks.VowelsSpec, {"jitter": float("nan")}, "jitter"),
    ],
)
def test_specs_refuse_bad_values(spec, fields, message):
    with pytest.raises(ValidationError, match=message):
        spec(name=spec.task_name(), **fields)


def test_build_refuses_what_is_no_spec():
    with pytest.raises(ValueError, match="takes a task spec"):
        tasks.build({"name": "digits"})  # type: ignore[arg-type]


def test_spec_knows_shapes_and_size_before_the_data(built, specs):
    for name, task in built.items():
        spec = specs[name]
        assert spec.info == task.info, name
        assert spec.train_size in (None, task.sizes["train"]), name
        assert spec.validation_size in (None, task.sizes["validation"]), name
        assert (spec.family, spec.metric) == (task.family, task.metric), name


def held(task):
    """Bytes of the arrays in memory that a task keeps, wherever; maps of files do not count."""
    found, waiting = {}, list(vars(task).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, np.ndarray) and not isinstance(value, np.memmap):
            found[id(value)] = value.nbytes
    return sum(found.values())


@pytest.mark.parametrize("name", IN_MEMORY)
def test_spec_knows_what_the_data_take_in_memory(built, specs, name):
    assert 0 < specs[name].data_bytes <= held(built[name])
    assert specs[name].data_bytes > held(built[name]) / 10


def test_data_of_archives_are_of_unknown_size():
    for spec in set(tasks.TASK_SPECS) - OWN:
        made = spec.model_validate({"name": spec.task_name()})
        assert made.data_bytes is None or not made.from_archives
    assert tasks.ListopsSpec(name="listops", source="lra").data_bytes is None
