"""Hands a run to a cluster as one of Ray's jobs, with the code that it needs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import environment, plugins
from harness.plugins.source import with_imports
from harness.tools.inputs import LONGEST, cut, read_bounded, shown
from harness.tools.notes import waiting
from harness.tools.redact import redacted

PORT = 8265  # of Ray's dashboard, which takes jobs
ANSWER_SECONDS = 5.0
START_SECONDS = 60.0  # from a dashboard's first answer until the cluster takes jobs
STARTING = "No available agent"  # what Ray says until then
LARGEST_NOTE = 2**16  # bytes of an answer that is none of Ray's


def dashboard(address: str) -> str:
    """The URL of a dashboard: `HOST` and `HOST:PORT` are http, on port 8265 if none is given.

    Raises:
        ValueError: it is none.
    """
    wrong = (
        f"--to takes HOST, HOST:PORT or http(s)://HOST:PORT of a dashboard, not {shown(address)}"
    )
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port
    except ValueError:
        raise ValueError(wrong) from None
    plain = not (url.username or url.password or url.query or url.fragment)
    if url.scheme not in ("http", "https") or not url.hostname or not plain:
        raise ValueError(redacted(wrong))
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]%-]{1,253}", host) or len(url.path) > LONGEST:
        raise ValueError(wrong)
    if port is None:
        port = PORT if url.scheme == "http" else 443
    return f"{url.scheme}://{host}:{port}{url.path.rstrip('/')}"


def check_dashboard(url: str) -> None:
    """Raise ValueError, within seconds, unless a dashboard of our Ray's version takes our token."""
    import requests  # installed with Ray, which takes seconds to import

    headers = _token_header()
    try:
        with requests.Session() as session:
            session.trust_env = False  # the token is for the cluster, not for a proxy
            answer = session.get(
                f"{url}/api/version",
                headers=headers,
                timeout=ANSWER_SECONDS,
                stream=True,
            )
            body = answer.raw.read(LARGEST_NOTE, decode_content=True)
    except (requests.exceptions.RequestException, OSError, ValueError):
        raise ValueError(
            f"no Ray dashboard answers at {url}; it listens on its head's loopback unless asked "
            f"otherwise: ssh -L {PORT}:127.0.0.1:{PORT} HEAD leads there"
        ) from None
    if answer.status_code in (401, 403):
        raise ValueError(_token_refused(url))
    version = re.search(rb'"ray_version": *"([^"]{1,60})"', body)
    if answer.status_code != 200 or version is None:
        raise ValueError(f"what answers at {url} is no Ray dashboard")
    theirs, ours = version[1].decode(errors="replace"), importlib.metadata.version("ray")
    if theirs != ours:
        raise ValueError(
            f"the cluster at {url} runs Ray {theirs}, this machine has {ours}: "
            "install the same here"
        )


def _token_header() -> dict[str, str]:
    """What shows our token, where Ray's client looks for it, if it is to show one.

    Raises:
        ValueError: there is none.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if not token:
        try:
            token = read_bounded(file, LARGEST_NOTE).decode("ascii")
        except (OSError, ValueError):
            token = ""
    if not token.strip() or not token.strip().isprintable():
        raise ValueError(f"no token of Ray's in {cut(str(file))} (RAY_AUTH_TOKEN_PATH)")
    return {"Authorization": f"Bearer {token.strip()}"}


def _token_refused(url: str) -> str:
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            f"the cluster at {url} asks for a token: set RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH"
        )
    where = f"the one in {cut(given)}" if given else "ours"
    return f"the cluster at {url} has another token than {where} (RAY_AUTH_TOKEN_PATH)"


def submit(url: str, suite: str, options: Sequence[str]) -> str:
    """Submit `harness run SUITE OPTIONS` as a job, detached; returns its id.

    The suite has been loaded, and its plug-ins with it. The job gets this harness, the suites that
    come with it, the suite's file with what it imports, the plug-ins' files, and our settings.

    Raises:
        ValueError: see `check_dashboard`; a setting that holds a secret; the cluster refuses.
    """
    settings = environment.forwarded()
    for name, value in settings.items():
        if redacted(value) != value:
            raise ValueError(f"{name} holds a secret, which the dashboard would show: set it there")
    check_dashboard(url)
    with tempfile.TemporaryDirectory() as folder:
        name = stage(suite, Path(folder))
        words = ["python", "-m", "harness", "run", name, *options]
        with _client(url) as client:
            return _submitted(
                client,
                url,
                entrypoint=shlex.join(words),
                submission_id=f"harness-{secrets.token_hex(6)}",
                runtime_env={
                    "working_dir": folder,
                    "py_modules": _packages(),
                    "env_vars": settings,
                },
            )


def _submitted(client: Any, url: str, **job: Any) -> str:
    """The id of the submitted job. A cluster that is still starting is given a while."""
    give_up = time.monotonic() + START_SECONDS
    with waiting(f"the cluster at {url} takes the job"):
        while True:
            try:
                return str(client.submit_job(**job))
            except RuntimeError as error:
                if STARTING in str(error) and time.monotonic() < give_up:
                    time.sleep(2.0)
                    continue
                raise ValueError(f"the cluster at {url} refuses: {cut(str(error))}") from None


def follow(url: str, job: str) -> int:
    """Print a job's output until it ends; returns its exit code.

    Raises:
        ValueError: the connection was lost; the job goes on.
    """
    with _client(url) as client:

        async def tail() -> None:
            async for text in client.tail_job_logs(job):
                print(text, end="", flush=True)

        try:
            asyncio.run(tail())
            info = client.get_job_info(job)
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"lost the output of {job}, which goes on: {cut(str(error))}"
            ) from None
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    if str(info.status) == "SUCCEEDED":
        return 0
    raise ValueError(f"{job} ended as {info.status}: {cut(info.message or 'no message')}")


def stage(suite: str, folder: Path) -> str:
    """Copy what a suite's file needs below `folder`, and return the suite's name from there.

    A suite that comes with the harness needs nothing, and keeps its name.
    """
    path, _, attribute = suite.partition(":")
    files = _plugin_files()
    if path.endswith(".py"):
        files |= _beside(Path(path))
    if not files:
        return suite
    common = Path(os.path.commonpath([file.parent for file in files]))
    for file, content in files.items():
        copy = folder / file.relative_to(common)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    if not path.endswith(".py"):
        return suite
    name = str(Path(path).resolve().relative_to(common))
    return f"{name}:{attribute}" if attribute else name


def _beside(file: Path) -> dict[Path, bytes]:
    """A file, and the modules and plug-ins beside it that it imports or lists."""
    folder = file.resolve().parent
    found = with_imports(file.name, folder)
    return {(folder / name).resolve(): content for name, content in found.items()}


def _plugin_files() -> dict[Path, bytes]:
    """The files of the plug-ins that are loaded, but for those of installed packages."""
    sources = [one.source for one in plugins.plugins() if one.source.distribution is None]
    return {
        Path(one.folder, name).resolve(): content
        for one in sources
        for name, content in one.files.items()
    }


def _packages() -> list[str]:
    """The folders of our own packages."""
    import harness
    import suites

    return [str(Path(package.__path__[0])) for package in (harness, suites)]


@contextlib.contextmanager
def _client(url: str) -> Iterator[Any]:
    """Ray's client of a dashboard. Ray would rather go where RAY_ADDRESS points."""
    from ray.job_submission import JobSubmissionClient

    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    kept: Mapping[str, str] = {n: os.environ.pop(n) for n in names if n in os.environ}
    try:
        with _quiet():
            yield JobSubmissionClient(url)
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of Ray's client, for which our lines stand."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


__all__ = ["check_dashboard", "dashboard", "follow", "stage", "submit"]
