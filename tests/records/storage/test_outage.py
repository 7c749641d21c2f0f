"""An S3 server that fails, or is slow, for a while: a trial waits for it and loses nothing."""

from __future__ import annotations

import http.client
import secrets
import threading
import time

import pytest

from harness.records.storage import Bucket
from harness.records.store import Store
from harness.training.trial import Execution, run_trial
from tests.servers import QuietHandler, QuietServer, answering
from tests.training.trials import record_of, trial_spec

SPEC = trial_spec({"kind": "in_training"}, training={"steps": 40})
PASSED_ON = ("host", "content-type", "content-length", "if-match", "if-none-match", "range")


class Proxy(QuietServer):
    """Passes requests on to a server; while `answer` is set, gives that status instead; waits
    `delay` seconds before each."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port, self.answer, self.delay, self.refused = port, None, 0.0, 0


class Handler(QuietHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.server.delay)
        if self.server.answer is not None:
            self.server.refused += 1
            self._reply(self.server.answer, [], b"<Error><Code>SlowDown</Code></Error>")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        headers = {
            k: v for k, v in self.headers.items() if k.lower() in (*PASSED_ON, "authorization")
        }
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding",)]
        self._reply(answer.status, kept, data)
        connection.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on

    def _reply(self, status, headers, data):
        self.send_response(status)
        sent = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in sent:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@pytest.fixture
def proxy(moto, moto_server, monkeypatch):
    """A proxy before moto's server, which the environment names."""
    with answering(Proxy(moto_server)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server


@pytest.fixture
def store(proxy, moto):
    return Store(f"{moto}/{secrets.token_hex(4)}")


def run_through(store, proxy, monkeypatch, status, seconds):
    """The result of a trial whose server answers so for so long, in the middle of it."""
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv("HARNESS_LEASE_SECONDS", "2")
    passed = []

    def away(_):
        passed.append(1)
        if len(passed) == 2:
            proxy.answer = status
            timer = threading.Timer(seconds, setattr, (proxy, "answer", None))
            timer.daemon = True
            timer.start()

    return run_trial(SPEC, store, Execution(progress=away))


@pytest.mark.parametrize("status", [500, 503])
def test_a_trial_waits_while_the_server_fails(store, proxy, monkeypatch, tmp_path, status):
    result = run_through(store, proxy, monkeypatch, status, 5.0)
    assert proxy.refused > 2
    assert result["record"]["restarts"] == 0
    assert "epoch" not in result
    assert record_of(result) == record_of(run_trial(SPEC, Store(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 503])
def test_a_trial_waits_for_a_minute(store, proxy, monkeypatch, tmp_path, status):
    result = run_through(store, proxy, monkeypatch, status, 60.0)
    assert record_of(result) == record_of(run_trial(SPEC, Store(tmp_path)))


def test_a_slow_server_costs_time_and_no_claim(store, proxy, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_LEASE_SECONDS", "3")
    proxy.delay = 0.3
    result = run_trial(SPEC, store)
    assert record_of(result) == record_of(run_trial(SPEC, Store(tmp_path)))


def test_a_server_that_goes_on_failing_is_named_in_one_line(store, proxy, monkeypatch):
    proxy.answer = 503
    with pytest.raises(OSError, match=r".") as caught:
        Bucket(store.address, patient=False).write("x", b"1")
    assert "\n" not in str(caught.value)
    assert caught.value.filename == f"{store.address}/x"
    assert "503" in str(caught.value)
