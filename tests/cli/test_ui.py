"""`harness ui`: to this machine only, unless asked otherwise."""

import os

import pytest

from harness.cli.app import execute


class Served(Exception):
    """This process would be MLflow's server now."""


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The words of the server's command."""
    (tmp_path / "mlflow.db").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("HARNESS_MLFLOW", "HARNESS_STORE"):
        monkeypatch.delenv(name, raising=False)
    words = []

    def become(program, arguments):
        words.extend(arguments)
        raise Served

    monkeypatch.setattr(os, "execv", become)
    return words


def test_it_listens_on_loopback(served, capsys):
    with pytest.raises(Served):
        execute(["ui", "--store", ".", "--port", "5999"])
    assert served[served.index("--host") + 1] == "127.0.0.1"
    assert capsys.readouterr().err == ""


def test_asked_to_listen_elsewhere_it_says_what_is_open(served, capsys):
    with pytest.raises(Served):
        execute(["ui", "--store", ".", "--port", "5999", "--host", "0.0.0.0"])
    assert served[served.index("--host") + 1] == "0.0.0.0"
    said = capsys.readouterr().err
    assert "whoever reaches port 5999 of this machine can read and change" in said
    assert "A firewall closes it" in said
    assert said.count("\n") == 1


def test_an_address_of_another_machine_is_refused(served, capsys):
    assert execute(["ui", "--store", ".", "--host", "203.0.113.1"]) == 2
    assert "cannot listen at '203.0.113.1', port 5000" in capsys.readouterr().err
    assert served == []


def test_with_a_server_for_all_it_says_where_that_is(served, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_MLFLOW", "https://me:hush@mlflow.example")
    assert execute(["ui", "--store", "."]) == 2
    said = capsys.readouterr().err
    assert said.endswith("the suites are shown at https://***@mlflow.example\n")
