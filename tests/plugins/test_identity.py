"""A plug-in's source is a part of what decides a result: recorded, compared, marked, missed."""

import hashlib
import json
import re

import pytest

from harness import plugins
from harness.cli.app import execute
from harness.planning.plan import Plan
from harness.planning.plan_file import write_plan
from harness.records.schemas import read_table
from harness.records.store import Store
from harness.report.rebuild import comparison_of, lacking, rebuild
from harness.suite import load
from harness.suite.bring import bring
from harness.training.trial import Execution, Interrupted, run_trial

from . import code

pytestmark = pytest.mark.usefixtures("plugged")
OTHER = code.LAYER.replace("return self.factor", "return 2 * self.factor")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A layer in a file of its own, and a suite that lists it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    (tmp_path / "mine.py").write_text(code.LAYER)
    (tmp_path / "user.py").write_text(code.suite(layer="through", plugins=["mine.py"]))
    return tmp_path


def trials():
    return [role.trial for role in load("user.py").roles()]


def reported(store):
    """The suite's tables, made from what has ended."""
    plan = Plan(load("user.py"), store)
    write_plan(plan, "harness run user.py")
    return rebuild("mine", store)


def sum_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_manifest_and_record_say_which_code_it_ran_with(here):
    store = Store.open("store")
    spec = trials()[0]
    record = run_trial(spec, store)["record"]
    recorded = {
        "what": "layer",
        "name": "through",
        "file": "mine.py",
        "distribution": None,
        "version": None,
        "sha256": sum_of(code.LAYER),
    }
    manifest = store.trial(spec.trial_id).manifest()
    assert manifest["plugins"] == json.loads(record["plugins"]) == [recorded]
    assert manifest["identity"]["source of layer through (SHA-256)"] == recorded["sha256"]


def test_only_what_a_trial_uses_is_its_own(here):
    (here / "more.py").write_text(code.ARM)
    bring("more.py")
    spec = trials()[0]
    assert [str(one) for one in plugins.used_by(spec)] == ["layer through"]
    assert {one.file for one in plugins.sources_of(spec)} == {"mine.py"}


def test_a_trial_does_not_go_on_with_other_code(here):
    store = Store.open("store")
    spec = trials()[0]
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(stop=lambda: True))
    (here / "mine.py").write_text(OTHER)
    spec = trials()[0]
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    with pytest.raises(ValueError, match="cannot go on") as refused:
        run_trial(spec, store)
    assert str(refused.value) == (
        f"trial {spec.trial_id} was begun with source of layer through (SHA-256) "
        f"{sum_of(code.LAYER)} and cannot go on with {sum_of(OTHER)}: "
        "the result would not be bit-identical"
    )
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
    (here / "mine.py").write_text(code.LAYER)
    assert run_trial(trials()[0], store)["status"] == "completed"


def test_rows_that_mix_two_sources_are_marked(here, capsys):
    store = Store.open("store")
    run_trial(trials()[0], store)
    reported(store)
    assert comparison_of("mine", store).mixed.tolist() == [""]
    (here / "mine.py").write_text(OTHER)
    run_trial(trials()[1], store)
    reported(store)
    (row,) = comparison_of("mine", store).itertuples()
    assert row.mixed == "plugin"
    sums = sorted(f"layer through {sum_of(text)[:12]}" for text in (code.LAYER, OTHER))
    assert row.plugins == ", ".join(sums)
    assert execute(["table", "mine", "--store", "store"]) == 0
    out = capsys.readouterr().out
    assert "row *" in out
    assert "its trials mix plugin" in out


def test_a_record_whose_plug_in_is_gone_reports_and_says_what_it_lacks(here, plugged, capsys):
    store = Store.open("store")
    for spec in trials():
        run_trial(spec, store)
    reported(store)
    (here / "mine.py").unlink()
    assert lacking("mine", store) == []
    with pytest.MonkeyPatch.context() as patch:
        from harness.models.specs import MODEL_UNION

        patch.setattr(plugged, "_plugins", {})
        patch.delitem(MODEL_UNION.specs, "through")
        patch.setattr(MODEL_UNION, "_adapter", None)
        for verb in ("report", "table"):
            assert execute([verb, "mine", "--store", "store"]) == 0
            out, err = capsys.readouterr()
            assert err == (
                "harness: note: layer through is not loaded here: its code stood in mine.py "
                f"(SHA-256 {sum_of(code.LAYER)[:12]}). Records are reported without it; its "
                "trials run with it alone\n"
            )
            assert out
        for verb, name in (("run", "user.py"), ("plan", "user.py")):
            assert execute([verb, name, "--store", "store"]) == 2
            assert re.search(r"no plug-in file .*mine.py", capsys.readouterr().err)
    table = read_table(store.suite("mine").folder / "trials.parquet", "trials").to_pandas()
    assert table.model.tolist() == ["through", "through"]


def test_a_file_from_before_there_were_plug_ins_still_reads(here):
    """The column is null there, and in a row beside others it mixes nothing."""
    store = Store.open("store")
    (here / "user.py").write_text(code.suite())
    for spec in trials():
        run_trial(spec, store)
    reported(store)
    path = store.suite("mine").folder / "trials.parquet"
    frame = read_table(path, "trials").to_pandas()
    assert frame.plugins.isna().all()
    from harness.report.comparison.compare import compare

    assert compare(frame.drop(columns="plugins")).equals(compare(frame))
    assert compare(frame).mixed.tolist() == [""]


def test_a_rank_rule_is_a_part_of_it_too(here):
    rule = "import harness\n@harness.rank_rule\ndef thirds(arm, systems, event):\n    return "
    (here / "rules.py").write_text(rule + "[max(1, len(one.hsv) // 3) for one in systems]\n")
    bring("rules.py")
    from harness.suite import InTrainingSpec, TrialSpec

    arm = InTrainingSpec(rule="thirds", end=0.5, count=1)
    spec = TrialSpec(
        task={"name": "digits"},
        model={"blocks": 1, "width": 4, "state_dim": 9},
        training={"steps": 20, "evaluate_every": 10},
        arm=arm,
    )
    record = run_trial(spec, Store.open("store"))["record"]
    assert [one["name"] for one in json.loads(record["plugins"])] == ["thirds"]
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="rank rule energy is one of the harness's own"):
        exec(compile(rule.replace("thirds", "energy") + "[]", str(here / "rules.py"), "exec"), {})
