"""No secret of the environment or of a URL is found in what a run and a study leave, or say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow.parquet as pq
import pytest

from harness.cli.app import execute
from tests.tune.playing import STUDY
from tests.tune.test_cli import FILE

SUITE = """
from harness.suite import *

suite = Suite(
    name="hushed",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=4, state_dim=8),
            training=TrainingSpec(steps=40, batch_size=20, evaluate_every=20),
            arms={"full": FullSpec(kind="full")},
        ),
    ),
)
"""
# One in each place where people put secrets, each with characters that URLs and shells escape.
PLACES = ("storage", "mirror", "tracking", "aws", "session", "pg", "weights")
SECRETS = {place: f"hush/{place}'7%" for place in PLACES}
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
    "AWS_SESSION_TOKEN": SECRETS["session"],
    "MLFLOW_TRACKING_USERNAME": "tests",
    "MLFLOW_TRACKING_PASSWORD": SECRETS["tracking"],
    "PGPASSWORD": SECRETS["pg"],
    "WANDB_API_KEY": SECRETS["weights"],
    "HARNESS_DATA_MIRROR": f"https://me:{quote(SECRETS['mirror'], safe='')}@mirror.invalid/x",
}


def spellings(secret):
    """As it is, and as URLs, JSON and shells write it."""
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}


def found_in(text: bytes, where) -> list[str]:
    return [
        f"{place} in {where}"
        for place, secret in SECRETS.items()
        if any(one.encode() in text for one in spellings(secret))
    ]


def found_below(folder: Path) -> list[str]:
    """Every secret in the files below a folder; columns are looked at as they are read."""
    found, looked = [], 0
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        looked += 1
        found += found_in(path.read_bytes(), path)
        found += found_in(os.fsencode(path), "the name of a file")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content = repr(table.to_pylist()), repr(table.schema.metadata)
            found += found_in(" ".join(content).encode(), path)
    assert looked, f"nothing below {folder}"
    return found


def test_the_search_finds_what_it_looks_for(tmp_path):
    import pyarrow as pa

    for number, (_, secret) in enumerate(SECRETS.items()):
        table = pa.table({"url": [f"https://me:{quote(secret, safe='')}@x"] * 1000})
        pq.write_table(table, tmp_path / f"{number}.parquet", compression="zstd")
    assert {one.partition(" ")[0] for one in found_below(tmp_path)} == set(PLACES)


@pytest.fixture
def here(tmp_path, monkeypatch, ray_cluster):
    for name in [name for name in os.environ if name.startswith(("HARNESS_", "AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hushed.py").write_text(SUITE)
    changes = {"batch": 2, "startup": 2, "budget": {"candidates": 4}}
    (tmp_path / "mine.py").write_text(FILE.replace("{content}", repr(STUDY | changes)))
    return tmp_path


def test_no_secret_is_left_or_said(here, ray_address, postgres, monkeypatch, capfd):
    where = urlsplit(postgres)
    password = quote(SECRETS["storage"], safe="")
    storage = f"postgresql://{where.username}:{password}@{where.hostname}:{where.port}{where.path}"
    there = "--store", "store", "--address", ray_address

    def said(code, *words):
        monkeypatch.setattr("sys.argv", ["harness", *words])
        assert execute(list(words)) == code
        out, err = capfd.readouterr()
        return out + err

    output = [
        said(0, "run", "hushed.py", *there, "--concurrency", "1"),
        said(0, "tune", "mine.py:study", *there, "--storage", storage, "--concurrency", "1"),
        said(0, "status", "--store", "store"),
        said(0, "doctor", "--store", "store", "--address", ray_address),
        said(2, "tune", "mine.py:study", *there, "--storage", storage.replace(where.path, "/no")),
        said(2, "tune", "mine.py:study", *there, "--storage", storage.replace("@", "@@")),
    ]
    assert "hushed" in output[0]
    assert "***" in (here / "store/suites/tiny/index.html").read_text()  # of the command
    assert not found_in("\n".join(output).encode(), "what is printed")
    for secret_file in (here / "hushed.py", here / "mine.py"):
        assert not found_in(secret_file.read_bytes(), secret_file)
    assert found_below(here / "store") == []
    # What Ray keeps: its logs, and the environments of its workers.
    assert found_below(Path(os.environ["RAY_TMPDIR"])) == []
