"""What a study shows while it goes on: nothing that it showed before is lost on the way."""

import json

import pytest

from harness.cli.app import execute
from harness.launch import Interrupted
from harness.launch import run_suite as run
from harness.records.store import Store
from harness.tune.rebuild_study import rebuild_study
from harness.tune.run_study import run_study
from harness.tune.search import ask_and_tell as search_room
from harness.tune.search.ask_and_tell import Search
from tests.postgres import postgres_server

from .playing import STUDY, Killed, concluded, launching, tiny_study
from .playing import run as train

FEW, MORE = {"candidates": 4}, {"candidates": 8}


@pytest.fixture
def without_pictures(monkeypatch):
    """Pictures and the mirror take most of the time, and have tests of their own."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    for name in ("study.study_page.draw", "study.study_page.importance", "write.draw"):
        monkeypatch.setattr(f"harness.report.{name}", lambda *_: {})
    monkeypatch.setattr("harness.report.ranks.rank_figure.draw", lambda *_: {})
    monkeypatch.setattr("harness.report.study.study_page._page", lambda *_: "<html>")
    monkeypatch.setattr("harness.records.mirror.mirror.update", lambda *_: None)


@pytest.fixture
def tune(tmp_path, monkeypatch, without_pictures):
    """`tune(budget, stop=..., kill=...)`: run the tiny study, which may be cut short."""
    store = Store.open(tmp_path / "store")

    def call(budget, finalists=1, **cut):
        monkeypatch.setattr(run, "launch", launching(**cut))
        study = tiny_study(budget=budget, finalists=finalists)
        return run_study(study, store, "harness tune tiny")

    call.store = store
    return call


def shown(store):
    """What study.json and the answer say, after a report from records alone."""
    rebuild_study("tiny", store)
    content = json.loads((store.suite("tiny").folder / "study.json").read_text())
    return content, (store.suite("tiny").folder / "answer.md").read_text()


@pytest.mark.slow
def test_an_answer_stands_until_there_is_another(tune):
    assert tune(FEW).published
    before, answer = shown(tune.store)
    assert before["recommendation"]
    with pytest.raises(Killed):
        tune(MORE, kill=0)
    assert shown(tune.store)[1] == answer
    summary = tune(MORE, stop=0)
    assert summary.interrupted
    after, _ = shown(tune.store)
    assert after["recommendation"] == before["recommendation"]

    def until_the_confirmation(job):
        if job.spec["seed"] >= 10:
            raise Interrupted([])
        return train(job, tune.store)

    assert tune(MORE, finalists=2, end=until_the_confirmation).interrupted
    after, _ = shown(tune.store)
    assert len(after["candidates"]) == 8
    assert after["state"] == "confirming"
    assert after["recommendation"] == before["recommendation"]
    tune(MORE, finalists=2)
    after, _ = shown(tune.store)
    assert (after["state"], len(after["finalists"])) == ("done", 2)
    assert len(after["recommendation"]["rows"]) > len(before["recommendation"]["rows"])


def test_a_walk_over_known_candidates_hides_none(tune, monkeypatch):
    tune(MORE)
    before, answer = shown(tune.store)

    def killed_on_the_way(search, k):
        if k == 1:
            raise Killed
        return batch(search, k)

    batch = Search.batch
    monkeypatch.setattr(Search, "batch", killed_on_the_way)
    with pytest.raises(Killed):
        tune(MORE)
    assert shown(tune.store) == (before, answer)


def test_a_password_is_nowhere_in_the_store(tmp_path, monkeypatch, capfd):
    """All files of a study that was interrupted, gone on with and reported, MLflow's too."""
    secret = "hunter2swordfish"
    url = f"postgresql://me:p@{secret}%2F@host/db?password={secret}"
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import json\nfrom harness.tune import Study\n"
        f"study = Study.model_validate_json({json.dumps(STUDY | {'budget': FEW})!r})\n"
    )
    opened = search_room.open_search
    monkeypatch.setattr(
        search_room, "open_search", lambda study, _, store: opened(study, None, store)
    )
    words = ["tune", "mine.py:study", "--store", "store", "--storage", url]
    monkeypatch.setattr("sys.argv", ["harness", *words])
    for cut, code in ({"stop": 3}, 130), ({}, 0):
        monkeypatch.setattr(run, "launch", launching(**cut))
        assert execute(words) == code
    assert execute(["report", "tiny", "--store", "store"]) == 0
    said = "".join(capfd.readouterr())
    assert "Go on with: harness tune" in said
    assert "PGPASSWORD" in said
    assert secret not in said
    holding = [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert {"mlflow.db", "launches.json", "index.html", "study.json"} <= {p.name for p in holding}
    assert not [p for p in holding if secret.encode() in p.read_bytes()]
    page = (tmp_path / "store" / "suites" / "tiny" / "index.html").read_text()
    assert "***" in page


@pytest.mark.slow
def test_a_study_whose_server_stays_away_ends_with_what_it_has_and_goes_on_later(
    tmp_path, monkeypatch, without_pictures
):
    """The server dies while the first batch trains; the report needs only the store."""
    undisturbed, store = Store(tmp_path / "undisturbed"), Store(tmp_path / "store")
    study = tiny_study(budget={"candidates": 4})
    monkeypatch.setattr(search_room, "PATIENCE", 0.0)
    monkeypatch.setattr(run, "launch", launching())
    run_study(study, undisturbed, "harness tune tiny")
    with postgres_server() as server:
        url = server.database("study")

        def end(job):
            if job.spec["arm"]["kind"] == "in_training" and server.running.poll() is None:
                server.stop()
            return train(job, store)

        monkeypatch.setattr(run, "launch", launching(end=end))
        summary = run_study(study, store, "harness tune tiny", storage_url=url)
        (said,) = summary.unfinished
        assert said.startswith("the storage postgresql://harness@127.0.0.1")
        assert said.endswith("What was done is kept: tune again once it answers")
        server.start()
        monkeypatch.setattr(run, "launch", launching())
        assert run_study(study, store, "harness tune tiny", storage_url=url).unfinished == []
    assert concluded(store) == concluded(undisturbed)
