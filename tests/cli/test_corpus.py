"""Hostile and damaged inputs, some hundreds: each is one clear line, exit code 2, nothing written,
within bounded time and memory. The cases stand in `corpus_*.py`."""

import faulthandler
import json
import re
import resource
import signal

import pytest

from harness.tools.inputs import cut

from . import (
    corpus_arguments,
    corpus_environment,
    corpus_settings,
    corpus_specs,
    corpus_stores,
    corpus_suites,
)
from .test_bad_input import TRIAL

ROOM = 3 * 2**30  # bytes that a refusal may take beyond what is there already
LONGEST = 700  # characters of a refusal, lists of what is allowed included
SECONDS = 60  # a refusal takes a fraction of one; what hangs must not hang the tests


def cases(module):
    """Parameters with short ids, the same in every process: what a case holds may be megabytes, or
    a function, which is shown with its address."""
    shown = (re.sub(" at 0x[0-9a-f]+", "", repr(case[0])[:200]) for case in module.CASES)
    return [
        pytest.param(*case, id=f"{number}-{cut(text, 40)}")
        for number, (case, text) in enumerate(zip(module.CASES, shown, strict=True))
    ]


@pytest.fixture(autouse=True)
def bounded():
    """Bounds on time and memory, so that a case that has none fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))

    def expired(number, frame):
        faulthandler.dump_traceback()
        raise AssertionError(f"no answer within {SECONDS} s")

    handler = signal.signal(signal.SIGALRM, expired)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("arguments", "says"), cases(corpus_arguments))
def test_arguments(refusal, arguments, says):
    assert says in refusal(*arguments, longest=LONGEST)


@pytest.mark.parametrize(("setting", "says"), cases(corpus_settings))
def test_settings(refusal, setting, says):
    assert says in refusal("plan", "tiny.py", "--set", setting, longest=LONGEST)


@pytest.mark.parametrize(("content", "says"), cases(corpus_specs))
def test_specs(refusal, here, content, says):
    if isinstance(content, dict):
        content = json.dumps({**TRIAL, **content}).encode()
    (here / "spec.json").write_bytes(content)
    assert says in refusal("trial", "spec.json", longest=LONGEST)


@pytest.mark.parametrize(("text", "says"), cases(corpus_suites))
def test_suites(refusal, here, text, says):
    (here / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert says in refusal("plan", "mine.py", longest=LONGEST)


@pytest.mark.parametrize(("make", "arguments", "says"), cases(corpus_stores))
def test_stores(refusal, here, make, arguments, says):
    make(here)
    assert says in refusal(*arguments, longest=LONGEST)


@pytest.mark.parametrize(("variables", "arguments", "says"), cases(corpus_environment))
def test_environment(refusal, spec_file, monkeypatch, variables, arguments, says):
    spec_file(TRIAL)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, False)
    assert says in refusal(*arguments, longest=LONGEST)


def test_there_are_three_hundred():
    modules = (
        corpus_arguments, corpus_environment, corpus_settings, corpus_specs, corpus_stores,
        corpus_suites,
    )  # fmt: skip
    assert len({repr(case) for module in modules for case in module.CASES}) >= 300
