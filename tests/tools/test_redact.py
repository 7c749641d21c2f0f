"""A password stands nowhere but in the hands of who needs it."""

import shlex

import pytest

from harness.tools.redact import redacted, redacted_command

SECRET = "hunter2"
TOLD = {
    f"postgresql://me:{SECRET}@host:5432/db": "postgresql://me:***@host:5432/db",
    f"postgresql+psycopg2://me:{SECRET}@host/db": "postgresql+psycopg2://me:***@host/db",
    f"postgresql://me:p@{SECRET}@host/db": "postgresql://me:***@host/db",
    f"postgresql://me:p/{SECRET}?#%@host/db": "postgresql://me:***@host/db",
    f"postgresql://me:p {SECRET}@host/db": "postgresql://me:***@host/db",
    f"postgresql://:{SECRET}@host/db": "postgresql://:***@host/db",
    f"--storage=postgresql://me:{SECRET}@host/db": "--storage=postgresql://me:***@host/db",
    f"postgresql://me@host/db?password={SECRET}": "postgresql://me@host/db?password=***",
    f"postgresql://host/db?user=me&PassWord={SECRET}&x=1": (
        "postgresql://host/db?user=me&PassWord=***&x=1"
    ),
    f"https://{SECRET}@host/data?v=1": "https://***@host/data?v=1",
    f"https://host/data?X-Amz-Signature={SECRET}&v=1": "https://host/data?X-Amz-Signature=***&v=1",
    f"https://host/data?access_token={SECRET}": "https://host/data?access_token=***",
    f"ray://me:{SECRET}@host:10001": "ray://me:***@host:10001",
}
PLAIN = (
    "postgresql://me@host/db", "sqlite:////a/b.db", "https://host/data?v=1", "a:b@c", "seeds=[0,1]",
    "--set", "training.lr=0.1", "127.0.0.1:6379", "arms.full=x", "/a/b@c", "mine.py:suite",
)  # fmt: skip


@pytest.mark.parametrize("text", TOLD)
def test_secrets_are_left_out(text):
    assert redacted(text) == TOLD[text]
    assert SECRET not in redacted(f"the storage {text}: no route")
    command = redacted_command(["harness", "tune", "mine.py:study", "--storage", text])
    assert SECRET not in command
    assert shlex.split(command)[-1] == TOLD[text]


@pytest.mark.parametrize("text", PLAIN)
def test_the_rest_stays(text):
    assert redacted(text) == text


def test_a_known_secret_is_found_however_it_is_spelled():
    said = 'no host "s@c" of "p%40s%40c", "p@s@c"'
    assert redacted(said, ["p@s@c"]) == 'no host "s@c" of "***", "***"'
    assert redacted(said, [None, ""]) == said
