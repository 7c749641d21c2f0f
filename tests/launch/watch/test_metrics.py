"""What Prometheus reads of a launch, over HTTP while it runs."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.cli.app import execute
from harness.launch.progress import Several, Snapshot
from harness.launch.under_way import Launch
from harness.launch.watch.metrics import metrics_address, served
from harness.records.store import Store
from harness.training.host.stops import Signals
from tests.launch.fakes import FakeJobs, Watcher, job, tiny
from tests.launch.watch.test_journal import Nodes


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fetched(port, host="127.0.0.1"):
    """The samples by name and label; all are of the suite `demo`."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("suite") == "demo"
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_a_launch_is_read_while_it_runs(tmp_path, port):
    jobs = FakeJobs([job(tiny(seed), gpus=0.5) for seed in range(3)], [job(tiny(9))])
    pool, seen = Nodes({0: ["fault", "completed"], 1: ["diverged"]}), []
    with served(str(port), "demo") as metrics:
        assert fetched(port) == {}

        def look(snapshot):
            if snapshot.running:
                seen.append(fetched(port))

        launch = Launch(pool, jobs, tmp_path, 3, Several(metrics, Watcher(look)), Signals())
        launch.tally.takeovers = 4
        launch.all(jobs.ready())
        last = fetched(port)
    during = seen[-1]
    assert during["harness_trials", "running"] == 1
    assert during["harness_steps_per_second",] == pytest.approx(5.0, rel=0.01)
    assert during["harness_left_seconds",] > 0
    assert last["harness_trials", "running"] == 0
    assert last["harness_trials", "waiting"] == 1  # needs what diverged
    ended = {status: last["harness_trials_ended_total", status] for status in
             ("completed", "diverged", "failed", "faulted")}  # fmt: skip
    assert ended == {"completed": 2, "diverged": 1, "failed": 0, "faulted": 0}
    assert last["harness_retries_total",] == 1
    assert last["harness_lease_takeovers_total",] == 4
    assert last["harness_quarantined_nodes",] == 0
    assert last["harness_gpu_seconds_total",] == pytest.approx(4 * 10 * 0.5, rel=0.05)
    assert last["harness_cpu_seconds_total",] == pytest.approx(4 * 10, rel=0.05)
    assert last["harness_launch_seconds",] > 0
    assert "harness_left_seconds" in {name for name, *_ in last}


def test_the_port_is_closed_with_the_launch(port):
    with pytest.raises(RuntimeError, match="a bug"), served(str(port), "demo"):
        raise RuntimeError("a bug")
    with pytest.raises(urllib.error.URLError):
        fetched(port)
    with served(str(port), "demo"):  # and can be used again
        assert fetched(port) == {}


def test_off_by_default(monkeypatch):
    monkeypatch.setattr("prometheus_client.start_http_server", None)
    with served(None, "demo") as metrics:
        metrics.update(Snapshot((), (), 0, 1.0, None))


def test_beyond_loopback_a_line_says_what_is_exposed(port, capsys):
    with served(str(port), "demo"):
        assert capsys.readouterr().err == ""
    with served(f"0.0.0.0:{port}", "demo"):
        said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"harness: warning: whoever reaches port {port} of this machine can ")
    assert "A firewall closes it" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("head.lan:9000", ("head.lan", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_addresses(text, expected):
    assert metrics_address(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "host", "host:", ":9000", "::1:9000", "9" * 99])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"^--metrics takes PORT or HOST:PORT") as refused:
        metrics_address(text)
    assert "\n" not in str(refused.value)


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = str(taken.getsockname()[1])
        assert execute(["run", "demo", "--store", "new", "--metrics", address]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"cannot listen at '127.0.0.1', port {address}" in said
    assert not Store("new").is_there()
