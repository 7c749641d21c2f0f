"""A Ray cluster on hosts, started by the scripts that `harness cluster render` makes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from harness.records.store import Store
from tests.cli.test_process import HARNESS, PATHS
from tests.cluster.conftest import described, workers

from .machines import Host, Site

LONG_ENOUGH = 300  # seconds until something must have happened, on a machine with other work
HEAD, GROUP = "head.sh", "worker-gpu.sh"


class RayCluster:
    """A head without CPUs on the first host, and a worker with one CPU on each of the others."""

    def __init__(self, site: Site, hosts: int, **variables: str) -> None:
        self.site = site
        self.variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "RAY_"))},
            "PATH": f"{sys.exec_prefix}/bin:{os.environ['PATH']}",
            "PYTHONPATH": PATHS,
            "HOME": str(site.folder),
            "TMPDIR": str(site.own),
            "RAY_TMPDIR": str(site.own),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(site.folder / ".harness" / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "HARNESS_DEVICE": "cpu",
            **variables,
        }
        (site.folder / ".harness").mkdir(mode=0o700)
        (site.folder / ".harness" / "token").write_text("a" * 64)
        self._render()
        self.head = site.add()
        self.address = f"{self.head.address}:6379"
        self.daemons: dict[str, psutil.Process] = {}
        self.start_head()
        self.workers = [self.add_worker() for _ in range(hosts)]
        for worker in self.workers:
            self.until(lambda worker=worker: self.has_joined(worker), f"{worker.name} to join")

    def _render(self) -> None:
        from harness.cluster import render

        group = workers(cpus=1, gpus=0, accelerator=None, spot=False, max=1)
        shared = str(self.site.shared)
        files = render(
            described(workers=[group], setup=None, secrets=None, shared={"path": shared},
                      store=f"{shared}/store", data=f"{shared}/data"),
            "hosts",
        )  # fmt: skip
        for name, text in files.items():
            # The dashboard takes seconds of a small machine, and nothing here needs it.
            text = text.replace(" --block", " --include-dashboard=false --block")
            text = text if name == HEAD else text.replace("--include-dashboard=false ", "")
            (self.site.folder / name).write_text(text)

    def start_head(self) -> None:
        """Start the head, and wait until it takes connections."""
        self._daemon(self.head, HEAD, self.head.address)
        self.until(lambda: self.head.run("bash", "-c", f"</dev/tcp/{self.head.address}/6379")
                   .returncode == 0, "the head")  # fmt: skip

    def restart_head(self) -> None:
        """End what is left of the head's Ray, start it anew, and wait for the workers."""
        for process in self.head.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.start_head()
        for worker in self.workers:
            log = self.log(worker.name)
            self.until(lambda log=log: log.read_text().count("Ray runtime started") > 1, log.name)

    def add_worker(self, *before: str | Path, disk: str = "2g", **variables: str) -> Host:
        """Another host that joins; its Ray is started by the words of `before`, if any."""
        host = self.site.add(disk)
        self._daemon(host, GROUP, self.address, before=before, **variables)
        return host

    def _daemon(self, host: Host, script: str, *words: str, before=(), **variables: str) -> None:
        self.daemons[host.name] = host.start(
            *before, "bash", self.site.folder / script, *words,
            log=self.log(host.name), cwd=self.site.folder, env={**self.variables, **variables},
        )  # fmt: skip

    def log(self, name: str) -> Path:
        """What a host's Ray or a run has said."""
        return self.site.folder / f"{name}.log"

    def has_joined(self, host: Host) -> bool:
        """Whether its newest Ray runs."""
        starts = self.log(host.name).read_text().split("Local node IP")
        return len(starts) > 1 and "Ray runtime started" in starts[-1]

    def until(self, true: Callable[[], object], what: str, seconds: float = LONG_ENOUGH) -> None:
        """Wait, and say what was waited for, and what all have said, where it does not come."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"waited for {what}\n{self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        """All logs."""
        logs = sorted(self.site.folder.glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')}" for path in logs)


class Run:
    """A `harness run` on a host, watched: which results the store has had, and on which host each
    trial was seen."""

    def __init__(
        self,
        cluster: RayCluster,
        suite: str,
        *options: str,
        on: Host | None = None,
        name: str = "run",
        store: str | None = None,
        before: tuple[str, ...] = (),
        **variables: str,
    ) -> None:
        shared = cluster.site.shared
        self.cluster, self.host, self.log = cluster, on or cluster.head, cluster.log(name)
        self.store = Store(shared / "store")
        (shared / "suite.py").write_text(suite)
        where = "--store", store or str(shared / "store"), "--address", cluster.address
        self.begun = time.monotonic()
        self.process = self.host.start(
            *before, *HARNESS, "run", "suite.py", *where, *options,
            log=self.log, cwd=shared, env={**cluster.variables, **variables},
        )  # fmt: skip
        self.outer = cluster.site.started[-1]
        self.results: set[tuple[str, int, int]] = set()
        self.seen_on: set[str] = set()  # hosts that were at a trial

    @property
    def said(self) -> str:
        """Standard output and standard error so far."""
        return self.log.read_text(errors="replace")

    def look(self) -> None:
        """Note the results that are there, of which a trial that ends twice has had two, and the
        hosts that are at work."""
        self.seen_on |= {runs_on(self.store, trial_id) or "" for trial_id in self.store.trials()}
        for trial_id in self.store.ended_trials():
            with contextlib.suppress(FileNotFoundError):
                found = (self.store.trial(trial_id).path / "result.json").stat()
                self.results.add((trial_id, found.st_ino, found.st_mtime_ns))

    def until(self, true: Callable[[], object], what: str, seconds: float = LONG_ENOUGH) -> None:
        """Wait for something that comes before the end of the run."""

        def now() -> object:
            self.look()
            return true() or self.outer.poll() is not None

        self.cluster.until(now, what, seconds)
        assert true(), f"the run ended before {what}\n{self.cluster.said()}"

    def watch(self, seconds: float) -> None:
        """Let it go on for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(0.1)

    def code(self, seconds: float = LONG_ENOUGH) -> int:
        """The exit code, once the run has ended."""
        self.until(lambda: self.outer.poll() is not None, "the end of the run", seconds)
        self.look()
        return self.outer.returncode

    def trial_under_way(self) -> tuple[str, Host]:
        """A paced trial that has taken a checkpoint and not ended, and the host it runs on."""
        found: list[tuple[str, Host]] = []
        self.until(lambda: found.extend(self._under_way()) or found, "a checkpoint")
        return found[0]

    def _under_way(self) -> list[tuple[str, Host]]:
        hosts = {host.name: host for host in self.cluster.workers}
        found = []
        for path in self.store.root.glob("trials/*/**/checkpoint/state.safetensors"):
            trial_id = path.relative_to(self.store.root).parts[1]
            name = runs_on(self.store, trial_id)
            trial = self.store.trial(trial_id)
            kind = (trial.spec() or {})["arm"]["kind"]
            if name in hosts and kind.startswith("paced") and not trial.ended():
                found.append((trial_id, hosts[name]))
        return found

    def kill(self) -> None:
        """SIGKILL to the driver."""
        self.process.kill()
        self.outer.wait()


def runs_on(store: Store, trial_id: str) -> str | None:
    """The name of the host whose process holds the trial's claim, if one does."""
    from harness.records.lease import Claim, claim_key

    stored = store.storage.read(claim_key(f"trial-{trial_id}"))
    if stored is None:
        return None
    claim = Claim.unpacked(stored.data)
    return claim.process.host if claim.held else None


def is_plain(said: str) -> bool:
    """Whether it can be shown to a person: no traceback, nor the stacks and logs of Ray's C++."""
    return not re.search(r"Traceback|\[.* [ECW] \d+ \d+\]|0x[0-9a-f]{6}|\*\*\* ", said)
