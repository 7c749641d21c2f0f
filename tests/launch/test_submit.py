"""`harness submit`: what it ships, where it refuses, and a real job on a real cluster."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.cli import app as cli
from harness.launch.address import default_address
from harness.launch.submit import _submitted, check_dashboard, dashboard, stage
from harness.records.store import Store
from harness.suite import load
from tests.cli.conftest import TINY
from tests.servers import QuietHandler, QuietServer, answering

PLUGIN = """
import harness
from helper import KIND

@harness.rank_rule
def keep_two(arm, systems, event):
    return [2 for _ in systems]
"""


@contextlib.contextmanager
def serving(status, body, silent=False):
    """A server that answers every request so; yields HOST:PORT and what it was asked with."""
    asked, over = [], threading.Event()

    class Handler(QuietHandler):
        def do_GET(self):
            asked.append(dict(self.headers))
            if silent:
                over.wait()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with answering(QuietServer(("127.0.0.1", 0), Handler)) as server:
        yield f"127.0.0.1:{server.server_port}", asked
        over.set()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("head", "http://head:8265"),
        ("head:80", "http://head:80"),
        ("[::1]:8265", "http://[::1]:8265"),
        ("http://head/", "http://head:8265"),
        ("https://ray.example.org/team", "https://ray.example.org:443/team"),
    ],
)
def test_a_dashboards_address(given, url):
    assert dashboard(given) == url


@pytest.mark.parametrize(
    "given",
    ["", "a b", "head:99999", "head:x", "ray://head:10001", "http://", "http://h?x=1", "h a/x"],
)
def test_what_is_no_address_of_a_dashboard(given):
    with pytest.raises(ValueError, match=r"^--to takes HOST, HOST:PORT or [^\n]*$"):
        dashboard(given)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="--to takes") as refusal:
        dashboard("http://me:hunter2@head:8265")
    assert "hunter2" not in str(refusal.value)


OURS = f'{{"version": "4", "ray_version": "{importlib.metadata.version("ray")}"}}'.encode()
ANSWERS = [
    (200, b'{"ray_version": "2.9.1"}', "runs Ray 2.9.1, this machine has"),
    (200, b"<html>", "is no Ray dashboard"),
    (404, OURS, "is no Ray dashboard"),
    (500, b"", "is no Ray dashboard"),
    (401, b"", "asks for a token: set RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH"),
    (403, b"", "asks for a token: set RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH"),
]


@pytest.mark.parametrize(("status", "body", "says"), ANSWERS)
def test_what_answers_is_told_apart(monkeypatch, status, body, says):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with serving(status, body) as (address, _):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as refusal:
            check_dashboard(dashboard(address))
        assert says in str(refusal.value)
        assert address in str(refusal.value)


def test_a_dashboard_of_our_version_passes_whatever_ray_address_says(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(200, OURS) as (address, asked):
        check_dashboard(dashboard(address))
    assert len(asked) == 1


def test_the_token_is_shown_as_ray_shows_it(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("abc\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with serving(200, OURS) as (address, asked):
        check_dashboard(dashboard(address))
    assert asked[0]["Authorization"] == "Bearer abc"


def test_silence_is_refused_within_seconds(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr("harness.launch.submit.ANSWER_SECONDS", 0.2)
    with (
        serving(200, OURS, silent=True) as (address, _),
        pytest.raises(ValueError, match="no Ray dashboard answers at"),
    ):
        check_dashboard(dashboard(address))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the tiny suite in it."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


BAD = [
    (("tiny.py", "--to", "127.0.0.1:1", "--store", "/x"), "no Ray dashboard answers at http://127"),
    (("tiny.py", "--to", "127.0.0.1:1", "--store", "x"), "--store of a job is an absolute path"),
    (("tiny.py", "--to", "a..b", "--store", "/x"), "no Ray dashboard answers at http://a..b:8265"),
    (("none.py", "--to", "127.0.0.1:1", "--store", "/x"), "no suite file none.py"),
    (("tiny.py", "--to", "h:x", "--store", "/x"), "--to takes HOST"),
    (("tiny.py", "--to", "127.0.0.1:1"), "Missing option '--store'"),
    (("tiny.py", "--to", "h", "--store", "/x", "--set", "seed=1"), "no comparison of tiny has it"),
]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_bad_input_is_one_line(here, capsys, words, says):
    assert cli.execute(["submit", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_setting_with_a_secret_is_not_sent(here, capsys, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA_MIRROR", "https://me:hunter2@mirror")
    assert cli.execute(["submit", "tiny.py", "--to", "h", "--store", "/x"]) == 2
    said = capsys.readouterr().err
    assert "HARNESS_DATA_MIRROR holds a secret" in said
    assert "hunter2" not in said


def test_what_a_suite_needs_is_shipped_and_nothing_else(here, plugged, tmp_path):
    project = here / "project"
    (project / "mine").mkdir(parents=True)
    (project / "plug").mkdir()
    (project / "plug" / "rule.py").write_text(PLUGIN)
    (project / "plug" / "helper.py").write_text("KIND = 1\n")
    (project / "mine" / "beside.py").write_text("STEPS = 40\n")
    (project / "mine" / "data.csv").write_text("1,2\n")
    suite = TINY.replace('name="tiny",', 'name="tiny", plugins=("../plug/rule.py",),')
    text = suite.replace("steps=40", "steps=STEPS").replace(
        "from harness.suite import *", "from beside import STEPS\nfrom harness.suite import *"
    )
    (project / "mine" / "tiny.py").write_text(text)
    load("project/mine/tiny.py")
    sent = tmp_path / "sent"
    sent.mkdir()
    assert stage("project/mine/tiny.py:suite", sent) == "mine/tiny.py:suite"
    found = {str(path.relative_to(sent)) for path in sent.rglob("*") if path.is_file()}
    assert found == {"mine/tiny.py", "mine/beside.py", "plug/rule.py", "plug/helper.py"}
    assert (sent / "mine" / "tiny.py").read_text() == text


def test_a_suite_of_ours_keeps_its_name(here, plugged, tmp_path):
    assert stage("demo", tmp_path / "sent") == "demo"
    assert not (tmp_path / "sent").exists()


def test_a_cluster_that_is_still_starting_is_given_a_while(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said = ["Request failed: No available agent to submit job"] * 2

    class Client:
        def submit_job(self, **job):
            if said:
                raise RuntimeError(said.pop())
            return job["submission_id"]

    assert _submitted(Client(), "http://h:1", submission_id="x") == "x"
    said.append("Request failed: no")
    with pytest.raises(
        ValueError, match=r"^the cluster at http://h:1 refuses: Request failed: no$"
    ):
        _submitted(Client(), "http://h:1", submission_id="x")


def test_in_a_job_the_default_address_is_its_cluster(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    assert default_address() == "local"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert default_address() == "auto"


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """`ray start --head` with a dashboard and a token: its dashboard, and the token's file."""
    from harness.launch.local.folder import private_folder

    folder = private_folder()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("a" * 64)
    # Jobs go by the agent's port, whose default another Ray on this machine may have.
    port, dashboard_port, client, agent = free_ports(4)
    environment = {
        **os.environ,
        "PATH": f"{sys.exec_prefix}/bin:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    options = {
        "port": port, "dashboard-port": dashboard_port, "dashboard-host": "127.0.0.1",
        "num-cpus": 2, "temp-dir": folder / "ray", "object-store-memory": 80 * 2**20,
        "ray-client-server-port": client, "dashboard-agent-listen-port": agent,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items()]
    log = open(folder / "head.log", "w")  # noqa: SIM115  the process keeps it
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *words],
        env=environment, stdout=log, stderr=log, start_new_session=True, cwd=folder,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", dashboard_port)):
            break
        said = (folder / "head.log").read_text()
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
    yield f"127.0.0.1:{dashboard_port}", token
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)


def submitted(here, *words, **environment):
    """`harness submit` as a process: Ray keeps the first token that a process has read."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | environment
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "harness", "submit", *map(str, words)],
        env=given | {"PYTHONPATH": root}, cwd=here, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_job_runs_the_suite_on_its_cluster(here, head):
    address, token = head
    (here / "rule.py").write_text(PLUGIN.replace("from helper import KIND\n", ""))
    text = TINY.replace('name="tiny",', 'name="tiny", plugins=("rule.py",),')
    (here / "tiny.py").write_text(text)
    words = ["tiny.py", "--to", address, "--store", here / "store", "--set", "training.steps=8"]
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    done = submitted(here, *words, "--follow", **ours)
    assert done.returncode == 0, done.stdout + done.stderr
    job, *output = done.stdout.splitlines()
    assert job.startswith("harness-")
    assert "8 trials in" in "\n".join(output)
    store = Store.open(str(here / "store"), create=False)
    assert store.suites() == ["tiny"]
    again = submitted(here, *words, **ours)  # detached: it is over at once, the job is not
    assert again.returncode == 0
    assert f"ray job stop {again.stdout.strip()}" in again.stderr


@pytest.mark.slow
def test_a_jobs_refusal_is_its_exit_code(here, head):
    address, token = head
    words = ["tiny.py", "--to", address, "--store", here / "store", "--gpus", "7", "--follow"]
    done = submitted(here, *words, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    assert done.returncode == 2
    assert "a trial asks for 1 CPUs and 7 GPUs" in done.stdout


@pytest.mark.slow
def test_a_wrong_token_and_none_are_one_line(here, head, tmp_path):
    address, _ = head
    other = tmp_path / "other"
    other.write_text("b" * 64)
    words = ["tiny.py", "--to", address, "--store", "/x"]
    none = submitted(here, *words, RAY_AUTH_MODE="disabled")
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.count("\n") == 1
    assert "asks for a token: set RAY_AUTH_MODE=token" in none.stderr
    wrong = submitted(here, *words, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(other))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert f"has another token than the one in {other}" in wrong.stderr
    gone = submitted(here, *words, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="/nowhere")
    assert gone.returncode == 2
    assert gone.stderr.count("\n") == 1
    assert "no token of Ray's in /nowhere" in gone.stderr
