"""What `harness status` says of launches, from the store alone."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from harness.cli import status as cli
from harness.cli.app import execute
from harness.launch.watch.lines import MOST_ROWS, status_lines
from harness.launch.watch.note import Failure, LaunchNote, RunningTrial
from harness.launch.watch.status import SILENT, LaunchStatus, Watch
from harness.records.drained import mark_drained
from harness.records.launch_notes import READ_AT_MOST, write_note
from harness.records.storage import Folder
from harness.records.store import Store

NOW = time.time()


TRIAL = RunningTrial(
    trial_id="a", label="digits/full", seed=0, node="gpu-7", attempt=1, state="running",
    since=NOW - 60, seconds=60.0, cpus=1, gpus=0.5, step=300, steps=400, rate=5.0, left=20.0,
)  # fmt: skip
NOTE = LaunchNote(
    launch="one", suite="demo", command="harness run demo", host="head", process=12,
    address="local", begun=NOW - 90, written=NOW, as_of=NOW,
)  # fmt: skip


def trial(seed=0, **changes):
    return TRIAL.model_copy(update={"seed": seed, **changes})


def note(launch="one", **changes):
    changes.setdefault("as_of", changes.get("written", NOW))
    return NOTE.model_copy(update={"launch": launch, **changes})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def leave(store, one, age=0.0):
    write_note(store, one.suite, one.launch, one.model_dump_json().encode())
    os.utime(
        store.suite(one.suite).folder / "launches" / f"{one.launch}.json", (time.time() - age,) * 2
    )


def test_a_launch_that_runs():
    one = note(
        before=5, counts={"completed": 2, "diverged": 1, "failed": 1}, waiting=7, left=600.0,
        retries=2, gpu_hours=1.5, cpu_hours=9.0, elsewhere=3, progress="searching: 3 candidates",
        quarantined=("node gpu-3 gets no more trials: it cannot make a worker",),
        running=(trial(), trial(1, state="pending", step=None, rate=None, left=None, attempt=2)),
        failures=(Failure(trial_id="f", label="vowels/small", seed=3, status="failed",
                          message="no\nsuch thing"),),
    )  # fmt: skip
    assert status_lines(LaunchStatus(one, 3.0)) == [
        "demo: running for 90 s, process 12 on head; last note 3.0 s ago",
        "  8 done (5 before this launch), 1 running, 1 pending, 7 waiting, 3 run by another "
        "launch, 1 diverged, 1 failed, 2 retries; about 10 min left",
        "  spent 1.50 GPU-hours; launch one at local: harness run demo",
        "  searching: 3 candidates",
        "  node gpu-3 gets no more trials: it cannot make a worker",
        "  trial                    seed  node   step     rate  for   left",
        "  digits/full              0     gpu-7  300/400  5/s   60 s  20 s",
        "  digits/full (attempt 2)  1     gpu-7  pending        60 s",
        "  2 did not complete; the last 1:",
        "  failed vowels/small, seed 3: no such thing",
    ]


@pytest.mark.parametrize(
    ("state", "age", "said"),
    [
        ("done", 30.0, "done, 30 s ago, after 90 s"),
        ("interrupted", 30.0, "interrupted 30 s ago, after 90 s"),
        ("lost", 30.0, "ended 30 s ago, after 90 s: the head of its Ray cluster was lost"),
        ("failed", 30.0, "ended by an error 30 s ago, after 90 s: Halted: no"),
        ("running", 300.0, "no note for 5 min: process 12 on head was killed or is cut off from "
         "the store"),
    ],
)  # fmt: skip
def test_how_a_launch_ended(state, age, said):
    one = note(state=state, message="Halted: no", running=(trial(),) if state == "running" else ())
    lines = status_lines(LaunchStatus(one, age))
    assert lines[0] == f"demo: {said}"
    there = "  1 trials ran at the last note: digits/full, seed 0 on gpu-7"
    assert (there in lines) == (state == "running")


def test_hours_of_cpus_where_there_is_no_gpu_and_a_loop_that_hangs():
    one = note(cpu_hours=0.25, running=tuple(map(trial, range(MOST_ROWS + 5))))
    one = one.model_copy(update={"as_of": one.written - 2 * SILENT})
    lines = status_lines(LaunchStatus(one, 1.0))
    assert lines[0].endswith("last note 1.0 s ago; its loop has been silent for 2 min")
    assert lines[2].startswith("  spent 0.25 CPU-hours")
    assert lines[-1] == "  and 5 more"


def test_two_launches_at_once_are_both_shown_and_older_ones_are_not(store):
    leave(store, note("old", begun=NOW - 900, written=NOW - 800, state="done"), 800)
    leave(store, note("first", begun=NOW - 500))
    leave(store, note("beside", begun=NOW - 450, written=NOW - 200, state="interrupted"), 200)
    leave(store, note("second", begun=NOW - 100))
    leave(store, note("other", suite="else", begun=NOW - 700, written=NOW - 600, state="done"), 600)
    assert [one.note.launch for one in Watch(store).look()] == ["second", "first", "other"]
    assert [one.note.launch for one in Watch(store).look("demo")] == ["second", "first"]
    leave(store, note("second", begun=NOW - 100, state="done"))
    leave(store, note("first", begun=NOW - 500, written=NOW - 50, state="done"), 50)
    assert [one.note.launch for one in Watch(store).look("demo")] == ["second", "first"]


def test_only_the_newest_notes_are_read(store, monkeypatch):
    for k in range(READ_AT_MOST + 5):
        leave(store, note(f"n{k}", begun=NOW - k, state="done"), age=k)
    read, whole = [], Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, key: read.append(key) or whole(self, key))
    assert Watch(store).look("demo")[0].note.launch == "n0"
    assert len(read) == READ_AT_MOST


def test_a_note_that_changes_is_of_a_living_launch_whatever_the_clocks_say(store):
    watch = Watch(store)
    leave(store, note(), age=3600)
    assert watch.look()[0].state == "silent"
    assert watch.look()[0].state == "silent"
    leave(store, note(written=NOW + 1), age=3600)
    assert watch.look()[0].state == "running"
    leave(store, note(written=NOW + 2), age=-3600)
    assert watch.look()[0].age == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "is no store: it holds neither trials nor suites"),
        (("demo",), "is no store: it holds neither trials nor suites"),
        (("none_such.py",), "none_such.py"),
    ],
)
def test_without_a_store(store, capsys, arguments, said):
    assert execute(["status", *arguments, "--store", str(store.root)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert not store.root.exists()


@pytest.mark.parametrize("arguments", [(), ("demo",)])
def test_a_store_of_before_there_were_notes(store, capsys, arguments):
    store.suite("demo").write_plan({"trials": []})
    assert execute(["status", *arguments, "--store", str(store.root)]) == 2
    assert "no launch has left a note of its state in" in capsys.readouterr().err


def test_a_damaged_note_is_left_out_and_said(store, capsys):
    leave(store, note("whole"))
    write_note(store, "demo", "torn", b'{"launch": "to')
    assert [one.note.launch for one in Watch(store).look()] == ["whole"]
    assert capsys.readouterr().err.count("the note of launch torn cannot be read") == 1


def test_as_json(store, capsys):
    leave(store, note(running=(trial(),)))
    assert execute(["status", "--json", "--store", str(store.root)]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["suite"], said["state"], said["alive"]) == ("demo", "running", True)
    assert 0.0 <= said["age"] < 60.0
    assert said["running"][0]["node"] == "gpu-7"


def test_drained_nodes_are_shown(store, capsys):
    leave(store, note())
    look = ["status", "--store", str(store.root)]
    assert execute(look) == 0
    assert "drained" not in capsys.readouterr().out
    for node in ("gpu-8", "gpu-7"):
        mark_drained(store, node)
    assert execute(look) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"in the store: gpu-7 \(for [\d.]+ s\), gpu-8 \(for [\d.]+ s\)$", last)
    assert execute([*look, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["drained"] == ["gpu-7", "gpu-8"]


def test_it_watches_until_every_launch_is_over(store, capsys, monkeypatch):
    leave(store, note())
    states = ["running", "done"]

    def sleep(seconds):
        leave(store, note(written=NOW + 1, state=states.pop(0)))

    monkeypatch.setattr(cli.time, "sleep", sleep)
    assert execute(["status", "demo", "--watch", "--json", "--store", str(store.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)[0]["state"] for line in lines] == ["running", "running", "done"]


def test_it_loads_neither_ray_nor_torch_nor_pandas(store):
    leave(store, note(running=(trial(),)))
    code = (
        "import sys; from harness.cli.app import execute\n"
        f"assert execute(['status', '--store', {str(store.root)!r}]) == 0\n"
        "assert not {'ray', 'torch', 'pandas', 'mlflow', 'optuna'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
