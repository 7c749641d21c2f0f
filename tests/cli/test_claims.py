"""`harness claims`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest

import suites
from harness.cli.app import execute

CLAIM = """
[[claims]]
id = "gain"
statement = "Truncation beats small from scratch."
source = "nowhere"
confidence = "low"
[[claims.tests]]
suite = "{suite}"
parts = [{{ kind = "{kind}", row = "{row}", minus = "small", goal = "better", margin = "zero" }}]
[tolerances.zero]
points = 0.0
why = "as in the tables"
"""


@pytest.fixture
def claims_file(here):
    """Writes a file of one claim about the tiny suite; `changes` replace its parts."""

    def write(**changes):
        fields = {"suite": "tiny.py", "kind": "difference", "row": "in_training", **changes}
        (here / "own.toml").write_text(CLAIM.format(**fields))
        return "own.toml"

    return write


def test_an_empty_store_reproduces_nothing_and_says_of_each_claim_why(here, capsys):
    assert execute(["claims", "--store", "nowhere", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    verdicts = document["verdicts"]
    assert {one["id"] for one in verdicts} >= {"smnist_full", "mamba_cifar", "rank_stability"}
    assert {one["verdict"] for one in verdicts} == {"not run"}
    assert all(one["reason"] for one in verdicts)
    assert not (here / "nowhere").exists()


def test_text_is_readable_and_grouped_by_suite(here, capsys):
    assert execute(["claims"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 120 for line in out.splitlines())
    places = [
        out.index(f"\n{suite}: ") for suite in ("paper.smnist", "paper.scifar", "not tested here")
    ]
    assert places == sorted(places)


def test_one_suite_alone(here, capsys):
    assert execute(["claims", "paper.imdb", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verdicts"]
    assert {one["suite"] for one in found} == {"paper.imdb"}
    assert "imdb_small" in {one["id"] for one in found}


def test_a_shipped_suite_by_its_file_is_the_same(here, refusal, capsys):
    file = Path(suites.__path__[0]).resolve() / "paper.py"
    assert execute(["claims", f"{file}:imdb"]) == 0
    by_file = capsys.readouterr().out
    assert execute(["claims", "paper.imdb"]) == 0
    assert by_file == capsys.readouterr().out
    assert "no claim is tested by a suite 'tiny.py'; they name paper" in refusal(
        "claims", "tiny.py"
    )
    assert "no suite file gone.py" in refusal("claims", "gone.py")


def test_claims_of_ones_own(here, claims_file, capsys):
    assert execute(["claims", "--claims", claims_file()]) == 0
    assert "no trial of tiny.py has ended here" in capsys.readouterr().out
    assert execute(["claims", "tiny", "--claims", "own.toml"]) == 0


def test_what_is_refused(refusal, claims_file):
    assert "no claim is tested by a suite 'nothing'; they name paper.smnist," in refusal(
        "claims", "nothing"
    )
    missing = claims_file(suite="paper.nothing")
    assert "claim gain: " in refusal("claims", "--claims", missing)
    assert "has no row 'other'; it has full" in refusal(
        "claims", "--claims", claims_file(row="other")
    )
    assert "own.toml: claims.0.tests.0.parts.0" in refusal(
        "claims", "--claims", claims_file(kind="x")
    )
    assert "cannot read gone.toml" in refusal("claims", "--claims", "gone.toml")
