"""Slurm on this host for a test: munged, slurmctld and slurmd by hand, all in one folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=2,batch_sched_delay=1
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


def lacks():
    """Why Slurm cannot be started here, or None."""
    if os.geteuid() != 0:
        return "slurmd and munged are started as root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    return (
        f"Slurm is not here: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else None
    )


def _path():
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SlurmHost:
    """One node with as many CPUs as this host; `call` runs Slurm's commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons = []

    def start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        text = CONFIGURATION.format(
            host=socket.gethostname(),
            folder=self.folder,
            controller=_free_port(),
            node=_free_port(),
            cpus=os.cpu_count(),
        )
        (self.folder / "slurm.conf").write_text(text)
        names = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "munge.pid",
            "seed-file": "munge.seed",
            "log-file": "munge.log",
        }
        munge = [f"--{option}={self.folder / name}" for option, name in names.items()]
        # `--force`: the folder's parents may be open to others, as /tmp is.
        self._daemon("munged", "--foreground", "--force", *munge)
        self.until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-c")
        self.until(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T", check=False), "slurmd")

    def stop(self):
        """End what runs, also the jobs: they would outlive slurmd."""
        self.call("scancel", "--user=root", check=False)
        with contextlib.suppress(AssertionError):
            self.until(lambda: not self.call("squeue", "-h", check=False).strip(), "the end", 30)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, *words, check=True, **environment):
        """The standard output of one of Slurm's commands."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout + (done.stderr if "--test-only" in words else "")

    def state(self, job):
        """The job's state, as scontrol has it."""
        shown = self.call("scontrol", "show", "job", job, check=False)
        return dict(word.partition("=")[::2] for word in shown.split()).get("JobState", "gone")

    def wait(self, job, states, seconds=300):
        """Wait until the job is in one of these states; returns it."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, (state, self.logs())
            time.sleep(1)
        return state

    def logs(self):
        """What the jobs have written."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*-*.log")))

    def _daemon(self, name, *words):
        log = open(self.folder / f"{name}.out", "w")  # noqa: SIM115  the daemon keeps it
        program = shutil.which(name, path=_path())
        self.daemons.append(
            subprocess.Popen(
                [program, *words], env=self.environment, stdout=log, stderr=log, cwd=self.folder
            )
        )

    def until(self, true, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{what} does not start: see {self.folder}"
            time.sleep(0.2)
