"""What is said of a node that lacks room, data or GPUs, or has another clock."""

from types import SimpleNamespace

import pytest

from harness.launch.cluster import Node
from harness.launch.jobs import Shape
from harness.launch.node_check import check, described, facts, unlike
from harness.launch.node_check.facts import PACKAGES, examine, installed, probe
from harness.launch.node_check.lines import warnings
from harness.launch.node_check.needs import Needs, needs_of
from harness.launch.node_check.report import Report, report_on
from harness.plugins import Source
from harness.suite import TaskSpec
from harness.tasks.storage.copies import Copy, DataSet
from tests.launch.fakes import job, tiny

GPU = Node("b2", 4.0, 2.0, "gpu (10.0.0.8)", memory=16e9)
FASHION = DataSet("fashion", "fashion/ab12")
MINE = DataSet("arrays", "arrays/cd34", "/home/me/x.npz", "00")
H100, T4 = ["NVIDIA H100", 80 * 10**9], ["NVIDIA T4", 16 * 10**9]
THERE, OTHER, MISSING = Copy("there", "a" * 64), Copy("there", "b" * 64), Copy("missing")
DISKS = {"the store": ("/s", 10**12), "data": ("/d", 10**12), "temporary files": ("/t", 10**12)}
ASKS = Needs(memory=((Shape(1, 0.0), 3 * 10**9), (Shape(1, 0.0, 20 * 10**9), 30 * 10**9)))


def disk(what, left):
    return {"free": {**DISKS, what: (f"/{what[-1]}", left)}}


def gpus(*found, why="", driver="535.1"):
    return {"gpus": {"cuda": "12.4", "found": list(found), "why": why, "driver": driver}}


def answered(**found):
    """A node's answer without a fault, but for what is given."""
    same = {**dict.fromkeys(("python", *PACKAGES), "1"), "commit": None, "code": "c"}
    fine = {"store": None, "free": DISKS, "memory": (16 * 10**9, 12 * 10**9), "gpus": None}
    rest = {"settings": {}, "data": {}, "plugins": {}, "ahead": (-0.2, 0.4)}
    return {**same, **fine, **rest, **found}


def report(needs=None, here=None, node=GPU, **found):
    return report_on(node, answered(**found), answered(**(here or {})), None, needs or Needs())


@pytest.mark.parametrize(
    ("found", "fault", "warning"),
    [
        ({}, None, None),
        (disk("the store", 10**7), "10 MB are free for the store in /e", None),
        (disk("the store", 10**8), None, "100 MB are free for the store in /e"),
        (disk("data", 10**7), None, "10 MB are free for data in /a"),
        (disk("temporary files", 10**6), None, "1 MB are free for temporary files in /s"),
        ({"ahead": (3599.0, 3601.0)}, None, "its clock is 3600 s ahead of ours (within 1.0 s)"),
        ({"ahead": (-90.0, -80.0)}, None, "its clock is 85 s behind ours (within 5.0 s)"),
        ({"ahead": (-1.0, 100.0)}, None, None),  # its answer took long
        (gpus(H100, H100), None, None),
        (gpus(why="no driver"), "Ray counts 2 GPUs, torch can use none (no driver)", None),
        (gpus(H100), "Ray counts 2 GPUs, torch can use 1: NVIDIA H100, 80 GB", None),
    ],
)
def test_what_a_node_has(found, fault, warning):
    said = report(**found)
    for text, expected in ((said.faults, fault), (said.warnings, warning)):
        assert len(text) == bool(expected)
        assert not expected or text[0].startswith(expected)
    shown = list(described(said))
    assert ("  clock: as ours, within 0.4 s" in shown) == ("ahead" not in found)
    assert [line for line in shown if line.startswith("  unfit: ")] == [
        f"  unfit: {one}" for one in said.faults
    ]
    assert sum(line.startswith("  note: ") for line in shown) == len(said.warnings)


@pytest.mark.parametrize(
    ("memory", "fault", "warning"),
    [
        ((16e9, 12e9), None, None),
        ((16e9, 2e9), None, "a trial takes 3 GB of memory, of which 2 GB are free"),
        ((2e9, 2e9), "a trial needs at least 3 GB of memory, which has 2 GB", None),
    ],
)
def test_memory_is_asked_for_where_ray_places_such_a_trial(memory, fault, warning):
    """The larger of the two kinds of trial asks for more than Ray has on this node."""
    said = report(ASKS, memory=memory)
    assert [text[: len(fault or "")] for text in said.faults] == [fault] * bool(fault)
    assert list(said.warnings) == [warning] * bool(warning)


@pytest.mark.parametrize(
    ("data", "here", "there", "fault", "warning"),
    [
        (FASHION, THERE, THERE, None, None),
        (FASHION, MISSING, THERE, None, None),
        (FASHION, THERE, MISSING, None, "the data of fashion are not there yet: made when"),
        (FASHION, THERE, Copy("unusable"), None, "the data of fashion are damaged there: made"),
        (FASHION, THERE, OTHER, "the data of fashion are others there, fingerprint bbbb", None),
        (MINE, THERE, Copy("unavailable"), "the data of arrays are not there: /home/me/", None),
        (MINE, THERE, Copy("changed"), "the data of arrays are others there: /home/me/", None),
    ],
)
def test_data_must_be_the_same_or_come(data, here, there, fault, warning):
    said = report(data={data: there}, here={"data": {data: here}})
    assert [text[: len(fault or "")] for text in said.faults] == [fault] * bool(fault)
    assert [text[: len(warning or "")] for text in said.warnings] == [warning] * bool(warning)


def test_data_that_have_to_come_need_room():
    said = report(data={FASHION: MISSING}, here={"data": {FASHION: MISSING}}, **disk("data", 10))
    assert said.faults == ("0 MB are free for data in /a",)


def test_nodes_are_compared_where_the_driver_has_no_data():
    nodes = [Node(name, 1.0, 0.0, name) for name in "abcd"]
    copies = [THERE, OTHER, THERE, MISSING]
    reports = [
        report(node=node, data={FASHION: copy}, here={"data": {FASHION: MISSING}})
        for node, copy in zip(nodes, copies, strict=True)
    ]
    checked = check._of_one_kind(reports, Needs(data=(FASHION,)))
    assert [len(one.faults) for one in checked] == [0, 1, 0, 0]
    (fault,) = checked[1].faults
    assert "others there, fingerprint bbbbbbbbbbbb, on a aaaaaaaaaaaa (fashion/ab12 of " in fault


def test_nodes_with_different_gpus_are_a_warning_in_one_line():
    nodes = [Node(name, 1.0, 1.0, name) for name in "abc"]
    found = [gpus(H100), gpus(H100), gpus(T4, driver="550.2")]
    reports = [report(node=n, **one) for n, one in zip(nodes, found, strict=True)]
    kinds, drivers = unlike(reports)
    assert kinds.endswith(": a, b: NVIDIA H100, 80 GB; c: NVIDIA T4, 16 GB")
    assert drivers.endswith(": a, b: 535.1; c: 550.2")
    assert list(unlike(reports[:2])) == []
    assert list(warnings([*reports[:2], Report(nodes[2], faults=("no answer",))])) == []


def test_warnings_are_grouped():
    nodes = [Node(name, 1.0, 0.0, name) for name in "ab"]
    reports = [report(node=node, data={FASHION: MISSING}, here={"data": {FASHION: MISSING}})
               for node in nodes]  # fmt: skip
    assert list(warnings(reports)) == [
        "a, b: the data of fashion are not there yet: made when a trial needs them"
    ]


def test_a_gpu_that_torch_cannot_use_says_why(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(facts, "_PROBE", "import os; os.environ['CUDA_VISIBLE_DEVICES']")
    assert probe()["why"] == "KeyError: 'CUDA_VISIBLE_DEVICES'"  # Ray's way of hiding all
    monkeypatch.setattr(facts, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(facts, "PROBE_WAIT", 0.2)
    assert probe()["why"] == "no answer within 0 s"


def test_torch_is_asked_only_where_gpus_are_counted_and_wanted(monkeypatch):
    asked = []
    monkeypatch.setattr(facts, "probe", lambda: asked.append(1))
    for count, wanted in ((0.0, True), (1.0, False)):
        assert examine(None, "a", count, Needs(gpus=wanted), None)["gpus"] is None
    assert not asked
    examine(None, "a", 1.0, Needs(), None)
    assert asked == [1]


def test_the_clock_is_bounded_by_question_and_answer(monkeypatch):
    """An hour ahead; the answer began 2 s after the question and came 0.5 s after it was made."""
    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=OSError))
    ray.get = lambda ref: {"clock": (1000.0 + 2.0 + 3600.0, 1000.0 + 3.0 + 3600.0)}
    monkeypatch.setattr(check.time, "time", lambda: 1003.5)
    assert check._answer(ray, None, 1000.0)["ahead"] == (3599.5, 3602.0)


def source(text, **place):
    return Source("parts.py", text, **place)


def test_an_installed_plug_in_is_known_by_its_file_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "foreign_parts").mkdir()
    (tmp_path / "foreign_parts" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "foreign_parts" / "layers.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    place = {"distribution": "foreign", "version": "1"}
    same = source(empty, module="foreign_parts.layers", **place)
    other = source("f" * 64, module="foreign_parts", **place)
    absent = source("f" * 64, module="foreign_parts.more", **place)
    away = source("f" * 64, module="no_such_package.more", **place)
    assert [installed(one) for one in (same, absent, away)] == [empty, None, None]
    needs = Needs(packages=(same, other, absent))
    said = report(needs, plugins=facts.what_is_here(needs, tmp_path)["plugins"])
    assert said.faults == (
        "the plug-in parts.py of foreign 1 differs there from that here",
        "the plug-in parts.py of foreign 1 is not installed",
    )


def test_the_needs_of_trials(monkeypatch):
    sent = source("f" * 64, folder="/only/here", files={"parts.py": b""})
    package = source("e" * 64, module="parts", distribution="foreign", version="1")
    small, large = tiny(0), tiny(1, batch_size=64)
    jobs = [job(small, plugins=(sent, package)), job(tiny(2)), job(large, memory=10**9)]
    found = needs_of(jobs)
    assert found.packages == (package,)  # the launch sends the content of the other
    assert (found.gpus, found.data) == (False, ())
    least = dict(found.memory)
    assert 10**5 < least[Shape(1, 0.0)] < least[Shape(1, 0.0, 10**9)]
    on_gpu = needs_of([job(large, gpus=1.0)])
    assert on_gpu.gpus
    assert dict(on_gpu.memory)[Shape(1, 1.0)] < least[Shape(1, 0.0, 10**9)]  # the data alone
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    assert not needs_of([job(large, gpus=1.0)]).gpus
    of_fashion = small.model_copy(update={"task": TaskSpec(name="fashion")})
    (data,) = needs_of([job(of_fashion)]).data
    assert (data.task, data.folder.partition("/")[0]) == ("fashion", "fashion")
