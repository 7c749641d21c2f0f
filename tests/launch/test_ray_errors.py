"""What Ray's own messages become: one line with cause, node and a way out."""

from types import SimpleNamespace

import pytest

from harness.launch.pool import Pool
from harness.launch.ray_errors import last_words, refusal, told
from tests.launch.test_pool import FakeRay, job, started

KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: TrialWorker
\tactor_id: 0a3d
\tpid: 25506
\tnamespace: harness-1
\tip: 10.0.0.7
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. There are some \
potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage.
"""
NODE = """The actor died unexpectedly before finishing this task.
\tclass_name: TrialWorker
\tip: 10.0.0.7
The actor is dead because its node has died. Node Id: 3a
"""
MEMORY = """Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.7, ID: 3a) where the task (actor ID: 0a, name=TrialWorker.__init__, \
pid=7, memory used=0.5GB) was running was 15.30GB / 16.00GB (0.956), which exceeds the memory usage
"""
UNMADE = """The actor died because of an error raised in its creation task, \x1b[36mray::\
TrialWorker.__init__()\x1b[39m (pid=7, ip=10.0.0.7, actor_id=0a)
RuntimeError: The actor with name TrialWorker failed to import on the worker. This may be because:

Traceback (most recent call last):
  File "ray/_private/function_manager.py", line 706, in _load_actor_class_from_gcs
ModuleNotFoundError: No module named 'harness'
"""
SETUP = """Failed to set up runtime environment.
Could not create the actor because its associated runtime env failed to be created.
OSError: [Errno 28] No space left on device
"""
UNAVAILABLE = (
    "The actor 1a53 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: "
    "recvmsg:Connection reset by peer rpc_code: 14. The task may have been executed on the actor."
)


def raised(name, text, **facts):
    """An error of Ray's, as far as what we look at goes."""
    return type(name, (Exception,), facts)(text)


@pytest.mark.parametrize(
    ("error", "status", "parts"),
    [
        (
            raised("ActorDiedError", KILLED),
            "fault",
            ["on node 10.0.0.7 died", "End of file", "--c"],
        ),
        (raised("ActorDiedError", NODE), "fault", ["the node was lost (10.0.0.7)"]),
        (
            raised("OutOfMemoryError", MEMORY),
            "fault",
            ["10.0.0.7", "15.30GB / 16.00GB", "--concur"],
        ),
        (
            raised("ActorDiedError", UNMADE, actor_init_failed=True),
            "refused",
            ["no worker can start on node 10.0.0.7: ModuleNotFoundError: No module"],
        ),
        (raised("RuntimeEnvSetupError", SETUP), "fault", ["no worker can start", "No space left"]),
        (
            raised("ActorUnavailableError", UNAVAILABLE),
            "fault",
            ["the worker cannot be reached", ": its connection broke"],
        ),
        (raised("WorkerCrashedError", "The worker died"), "fault", ["the worker died"]),
        (raised("RayTaskError(KeyError)", "x\n  y\nKeyError: 3"), "fault", ["worker: KeyError: 3"]),
        (raised("RayChannelError", ""), "fault", ["RayChannelError: no message"]),
        (raised("RayError", "x" * 10**6), "fault", ["xxx..."]),
    ],
)
def test_a_death_is_one_line_with_cause_and_place(error, status, parts):
    said, message = told(error)
    assert said == status
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert len(message) <= 500


def test_a_worker_of_which_ray_lost_hold_is_let_go_whoever_is_to_blame():
    ray = FakeRay({"CPU": 1.0})
    error = raised("ActorDiedError", UNMADE, actor_init_failed=True)
    ray.exceptions = SimpleNamespace(RayError=type(error))
    ray.get = lambda _: (_ for _ in ()).throw(error)
    pool = Pool(ray)
    slot = started(pool, job("a"))
    assert pool.result(slot)[1] == "refused"
    assert pool.slots == []
    assert ray.killed == [slot.actor]


VERSIONS = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node address: 10.0.0.7 was started with:
    Ray: 2.60.0
    Python: 3.11.2
"""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            RuntimeError(VERSIONS),
            "at H:1 runs Ray 2.60.0 and Python 3.11.7; here are Ray 2.60.0 and Python 3.11.2",
        ),
        (RuntimeError("No node info found matching attributes: ''"), "`ray start --address=H:1`"),
        (ConnectionError("one\n\n  two"), "cannot use the Ray cluster at H:1: one two"),
        (RuntimeError(), "cannot use the Ray cluster at H:1: RuntimeError"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_line(error, says):
    wrapped = ConnectionError("Failed to connect to Ray cluster at H:1")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert says in refusal(one, "H:1")
        assert "\n" not in refusal(one, "H:1")


FRAME = "/x/gcs_server(+0x14c3daa) [0x555b31635daa]"
LOG = f"""[2026-11-27 02:30:00,800 I 29491 29491] (gcs_server) main.cc:1: fine
[2026-11-27 02:30:00,900 E 29491 29491] (gcs_server) logging.cc:118: Unhandled exception: N5. \
what(): signal_set_service pipe: Too many open files [system:24] {FRAME}
{FRAME}
[2026-11-27 02:30:00,900 E 29491 29491] (gcs_server) logging.cc:474: *** SIGABRT received ***
[2026-11-27 02:30:00,900 E 29491 29491] (gcs_server) logging.cc:474:     @     0x7f0b69c5a050
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (LOG, "signal_set_service pipe: Too many open files"),
        (
            "[x E 1] (raylet) a.cc:1: first\n[x C 1] (raylet) b.cc:2:  Check failed: disk",
            "Check fa",
        ),
        ("[x I 1] (raylet) a.cc:1: all is well", ""),
        ("", ""),
    ],
)
def test_last_words_are_the_reason_and_no_stack(log, words):
    assert last_words(log).startswith(words)
    assert bool(last_words(log)) == bool(words)
    assert "0x" not in last_words(log)
