"""What a suite shows while runs of it come and go: a launch without Ray, of trials that train."""

import contextlib
import io
import json
import shlex
import shutil

import pandas as pd
import pytest

from harness.cli import app as cli
from harness.launch import Outcome
from harness.launch import run_suite as run
from harness.records.files import write_json
from harness.records.store import Store
from harness.report.rebuild import comparison_of, rebuild
from tests.cli.conftest import TINY
from tests.cli.test_claims import CLAIM
from tests.faults import full_from
from tests.tune.playing import STUDY, Killed, launching
from tests.tune.test_cli import FILE


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the tiny suite in it, and a store; without pictures and mirror,
    which take most of the time and have tests of their own."""
    for name in ("write.draw", "ranks.rank_figure.draw"):
        monkeypatch.setattr(f"harness.report.{name}", lambda *_: {})
    monkeypatch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def harness(here, monkeypatch, capsys):
    """`harness(*arguments, stop=..., kill=..., end=...)`: a command line in this process, with
    the launch of `launching`; (code, out, err)."""

    def call(*arguments, stop=None, kill=None, end=None):
        words = [str(word) for word in arguments]
        monkeypatch.setattr(run, "launch", launching(stop, kill, end))
        monkeypatch.setattr("harness.launch.preflight.check_launch", lambda *_: None)
        monkeypatch.setattr("sys.argv", ["harness", *words])
        code = cli.execute(words)
        return code, *capsys.readouterr()

    return call


NEW = ("run", "tiny.py", "--set", "training.lr=0.02")


def shows(store, names=("full", "in_training", "post_hoc", "small"), lr=0.01):
    """What table and report show is the run of these rows."""
    rebuild("tiny", store)
    comparison = comparison_of("tiny", store)
    trials = pd.read_parquet(store.suite("tiny").folder / "trials.parquet")
    return set(comparison.label) == set(names) and set(trials["spec.training.lr"]) == {lr}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a store after a run that ended, and the table that it printed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(run, "launch", launching())
        patch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
        patch.setattr("sys.argv", ["harness", "run", "tiny.py"])
        arguments = ["run", str(folder / "tiny.py"), "--store", str(folder / "store")]
        assert cli.execute(arguments) == 0
    return folder / "store", out.getvalue()


@pytest.fixture
def ran(here, finished):
    """The store of a run that ended, and the table that it printed."""
    shutil.copytree(finished[0], here / "store")
    return Store(here / "store"), finished[1]


def test_interrupted_before_a_trial_has_ended(ran, harness):
    store, table = ran
    code, out, err = harness(*NEW, stop=0)
    assert (code, out) == (130, "")
    assert "interrupted before a trial had ended" in err
    assert "show what they showed before this run" in err
    assert f"Go on with: {shlex.join(['harness', *NEW])}" in err
    assert harness("table", "tiny") == (0, table, "")
    assert shows(store)


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["harness.report.publish.collect", "harness.report.write_report"])
def test_interrupted_in_the_midst_of_tables(ran, harness, monkeypatch, at):
    _, table = ran
    with monkeypatch.context() as patch:
        patch.setattr(at, interrupt)
        code, out, err = harness("run", "tiny.py")
    assert (code, out) == (130, "")
    assert "Go on with: harness run tiny.py\n" in err
    assert harness("run", "tiny.py")[:2] == (0, table)


def test_interrupted_in_the_mirror_the_table_is_there(ran, harness, monkeypatch):
    _, table = ran
    monkeypatch.setattr("harness.records.mirror.mirror.update", interrupt)
    code, out, err = harness("run", "tiny.py")
    assert (code, out) == (130, table)
    assert "Go on with: harness run tiny.py\n" in err


def test_interrupted_later_it_shows_what_is_new(ran, harness):
    store, _ = ran
    code, out, _ = harness(*NEW, stop=3)
    assert code == 130
    assert "full" in out
    assert shows(store, ("full", "in_training"), 0.02)


@pytest.mark.parametrize(("ended", "lr"), [(0, 0.01), (1, 0.02)])
def test_killed_it_shows_what_there_is(ran, harness, ended, lr):
    store, _ = ran
    with pytest.raises(Killed):
        harness(*NEW, kill=ended)
    assert shows(store, ("full",) if ended else ("full", "in_training", "post_hoc", "small"), lr)


def failed(job):
    store = Store("store")
    record = {
        "trial_id": job.trial_id, "status": "failed", "task": "digits", "model": "lru",
        "arm": job.spec["arm"]["kind"], "seed": job.spec["seed"], "protocol": "strict",
        "metric": "accuracy", "higher_is_better": True, "train_flops": 0.0, "flops_spent": 0.0,
        "seconds_spent": 0.0, "restarts": 0,
    }  # fmt: skip
    folder = store.trial(job.trial_id)
    folder.begin(job.spec, {})
    folder.finish({}, {"status": "failed", "message": "no", "record": record})
    return Outcome("failed", "no", 0.0)


@pytest.mark.parametrize("end", [failed, lambda job: Outcome("faulted", "lost", 0.0)])
def test_when_nothing_came_of_it(ran, harness, end):
    store, table = ran
    code, out, err = harness(*NEW, end=end)
    assert (code, out) == (3, "")
    assert "show what they showed before this run" in err
    assert harness("table", "tiny") == (0, table, "")
    assert shows(store)


def test_only_rows_that_both_runs_have_are_no_news(ran, harness):
    """`full` is the same trial in both: that it has ended is nothing that this run has done."""
    store, table = ran
    new = ("run", "tiny.py", "--set", "arms.in_training.tau=0.2", "--only", "*/in_training")
    code, _, _ = harness(*new, stop=0)
    assert code == 130
    assert harness("table", "tiny") == (0, table, "")
    code, out, _ = harness(*new)
    assert code == 0
    assert "post_hoc" not in out
    assert shows(store, ("full", "in_training"))


def test_fewer_seeds_are_shown_when_asked_for(ran, harness):
    _, table = ran
    code, out, _ = harness("run", "tiny.py", "--set", "seeds=[0]")
    assert code == 0
    assert out != table
    assert harness("table", "tiny") == (0, out, "")


def test_in_a_new_store_a_run_that_failed_is_shown(here, harness):
    code, out, err = harness("run", "tiny.py", end=failed)
    assert code == 3, err
    assert "full" in out


def test_other_settings_hide_what_was_shown_and_that_is_said(ran, harness):
    store, table = ran
    code, _, err = harness(*NEW)
    assert code == 0
    said = "tiny showed 8 trials before that this run has not. The store keeps them: "
    assert f"{said}`harness run tiny.py --name NAME` shows them under another name\n" in err
    assert shows(store, lr=0.02)
    assert "before" not in harness(*NEW)[2]  # said once
    code, out, err = harness("run", "tiny.py", "--name", "tiny-before")
    assert (code, out) == (0, table)
    assert "nothing was missing" in err
    assert "before" not in err.replace("tiny-before", "")
    assert harness("table", "tiny-before") == (0, table, "")
    assert shows(store, lr=0.02)


@pytest.mark.parametrize("grown", ["seeds=[0,1,2]", None])
def test_a_suite_that_has_grown_hides_nothing(ran, harness, grown, here):
    if grown is None:
        text = (here / "tiny.py").read_text()
        more = '"more": InTrainingSpec(kind="in_training", tau=0.4, end=0.5, count=1),\n"small": '
        (here / "tiny.py").write_text(text.replace('"small": ', more))
    code, _, err = harness("run", "tiny.py", *(("--set", grown) if grown else ()))
    assert code == 0
    assert "before" not in err


def test_a_part_is_hidden(ran, harness):
    _, _, err = harness("run", "tiny.py", "--set", "seeds=[0]")
    assert "tiny showed 4 trials before" in err
    _, _, err = harness("run", "tiny.py", "--set", "seeds=[0,1]")
    assert "before" not in err


def test_every_verb_knows_another_name(ran, harness, here):
    store, table = ran
    assert harness(*NEW, "--name", "quick")[0] == 0
    (here / "tiny.py").unlink()
    assert harness("table", "tiny") == (0, table, "")
    code, quick, _ = harness("table", "quick")
    assert (code, quick != table) == (0, True)
    code, out, _ = harness("report", "quick")
    assert (code, out) == (0, f"{store.suite('quick').folder / 'index.html'}\n")
    code, out, _ = harness("plan", "quick")
    assert code == 0
    assert "8 trials, 0 missing" in out


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x" * 1000])
def test_a_name_that_is_none_is_refused(here, harness, name):
    code, out, err = harness("run", "tiny.py", "--name", name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "name" in err
    assert len(err) < 500
    assert not (here / "store").exists()


def test_the_name_of_a_study_is_taken(here, harness):
    store = Store(here / "store")
    write_json(store.suite("taken").folder / "study.json", {})
    code, _, err = harness("run", "tiny.py", "--name", "taken")
    assert code == 2
    assert "holds a study taken: give the run a --name" in err


def test_claims_judge_a_run_under_another_name(here, harness):
    fields = {"suite": "tiny.py", "kind": "difference", "row": "in_training"}
    (here / "claims.toml").write_text(CLAIM.format(**fields))
    asked = ("claims", "--claims", "claims.toml", "--json")
    assert harness("run", "tiny.py", "--name", "quick")[0] == 0
    verdicts = [json.loads(harness(*asked, *suite)[1]) for suite in ((), ("quick",), ("tiny.py",))]
    texts = [json.dumps(one) for one in verdicts]
    assert ["not run" in text for text in texts] == [True, False, True]


@pytest.mark.parametrize("command", [("report", "tiny"), ("run", "tiny.py")])
def test_a_full_disk_at_any_write_of_tables_and_page(ran, harness, monkeypatch, command):
    """Every file of the suite is the old one or the new one, whole; with room it all goes on."""
    store, table = ran
    # Drawing takes a second or two; what is written is what counts here.
    monkeypatch.setattr("harness.report.write.draw", lambda _: {"rows.svg": b"<svg/>" * 1000})
    folder = store.suite("tiny").folder

    def content():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = content()
    assert harness(*command)[0] == 0
    after = content()
    k, refused = 0, ["something"]
    while refused:
        for path in after:
            path.unlink(missing_ok=True)
        for path, data in before.items():
            path.write_bytes(data)
        with full_from(k, store.root) as refused:
            code, _, err = harness(*command)
        if refused:
            assert (code, err.count("\n")) == (2, 1), err
            assert "No space left on device" in err
            now = content()
            assert before.keys() <= now.keys() <= before.keys() | after.keys()
            assert all(now[path] in (before.get(path), after.get(path)) for path in now)
        k += 7  # coprime to the writes of a file, so that each kind is met
    assert k > 30
    assert code == 0
    assert content() == after
    assert harness("table", "tiny") == (0, table, "")


def test_a_full_disk_when_a_run_begins(ran, harness):
    store, table = ran
    with full_from(0, store.root):
        code, _, err = harness(*NEW, "--name", "new", end=failed)
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left on device" in err
    assert store.kind_of("new") is None
    assert harness("table", "tiny") == (0, table, "")
    assert harness(*NEW, "--name", "new")[0] == 0


def status(harness, *arguments):
    code, out, _ = harness("status", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_status_tells_of_each_run_from_the_store(ran, harness):
    (done,) = status(harness, "tiny")
    assert (done["state"], done["before"], done["command"]) == ("done", 0, "harness run tiny.py")
    harness(*NEW, "--name", "new", stop=2)
    names = [(one["suite"], one["state"]) for one in status(harness)]
    assert names == [("new", "interrupted"), ("tiny", "done")]
    assert status(harness, "new")[0]["counts"] == {"completed": 2}
    with pytest.raises(RuntimeError):
        harness(*NEW, "--name", "new", end=broken)
    (failed_run,) = status(harness, "new")
    assert (failed_run["state"], failed_run["before"]) == ("failed", 2)
    assert failed_run["message"] == "RuntimeError: a bug"


def test_status_tells_of_a_study(here, harness):
    (here / "mine.py").write_text(FILE.replace("{content}", repr(STUDY)))
    harness("tune", "mine.py:study", stop=1)
    (one,) = status(harness, "tiny")
    assert (one["suite"], one["state"], one["counts"]) == ("tiny", "interrupted", {"completed": 1})
    assert one["command"] == "harness tune mine.py:study"


def broken(job):
    raise RuntimeError("a bug")
