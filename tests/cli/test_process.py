"""The command as a process: what only a real one shows of streams, signals and folders."""

import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HARNESS = [sys.executable, "-c", "from harness.cli.app import main; main()"]
# A process of its own finds the harness that this one tests.
PATHS = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)

STORED = Path(__file__).parents[1] / "stored" / "store.tar.xz"


def environment(**variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    return {**kept, "PYTHONPATH": PATHS, **variables}


def harness(*arguments, **options):
    options = {"env": environment(), "timeout": 120, **options}
    return subprocess.run([*HARNESS, *arguments], capture_output=True, check=False, **options)


def refused(done):
    """The one line of a refusal."""
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert done.stdout == b""
    assert said.startswith("harness: ")
    assert said.count("\n") == 1
    return said


def test_an_endless_loop_in_a_suite_answers_ctrl_c(here):
    (here / "loop.py").write_text("print('begun', flush=True)\nwhile True: pass\n")
    running = subprocess.Popen(
        [*HARNESS, "plan", "loop.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        assert running.stdout.readline() == b"begun\n"
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert said == b"harness: interrupted\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_suite_that_closes_a_stream(here, stream):
    text = (here / "tiny.py").read_text()
    (here / "closing.py").write_text(f"{text}\nimport sys\nsys.{stream}.close()\n")
    says = "closing.py: ValueError: it has closed standard output or standard error"
    assert says in refused(harness("plan", "closing.py"))


def test_a_suite_that_takes_a_stream_away_is_planned(here):
    text = (here / "tiny.py").read_text()
    (here / "quiet.py").write_text(f"{text}\nimport io, sys\nsys.stdout = io.StringIO()\n")
    assert b"tiny in " in harness("plan", "quiet.py").stdout


def test_a_suite_that_leaves_for_another_folder_takes_no_store_with_it(here):
    text = (here / "tiny.py").read_text()
    (here / "away.py").write_text(f"{text}\nimport os\nos.chdir('/')\n")
    done = harness("plan", "away.py", "--store", "store")
    assert f"tiny in {here}/store" in done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("plan", "demo"), "the working directory is gone"),
        (("claims", "--store", "x"), "the working directory is gone"),
        (("doctor",), "the working directory is gone"),
        (("plan", "tiny.py"), "no suite file tiny.py"),
        (("trial", "spec.json"), "cannot read spec.json: No such file or directory"),
    ],
)
def test_a_working_directory_that_is_gone(here, tmp_path_factory, arguments, says):
    gone = tmp_path_factory.mktemp("gone")
    script = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); {HARNESS[-1]}"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        check=False,
        env=environment(),
        cwd=here,
    )
    assert says in refused(done)


def test_a_trial_of_absolute_paths_in_a_directory_that_is_gone(here, tmp_path_factory):
    spec = here / "whole.json"
    spec.write_text('{"task": {"name": "digits"}, "arm": {"kind": "full"}}')
    gone = tmp_path_factory.mktemp("gone")
    script = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); {HARNESS[-1]}"
    done = subprocess.run(
        [sys.executable, "-c", script, "trial", str(spec), "--store", str(here / "store")],
        capture_output=True,
        check=False,
        env=environment(),
        cwd=here,
    )
    assert "the working directory is gone" in refused(done)


@pytest.mark.parametrize("name", [b"suite-\xff", b"\x80"])
def test_an_argument_that_is_no_text(here, name):
    said = refused(harness(b"plan", name))
    assert "argument 2 is not UTF-8 text" in said


def test_no_home_at_all(here):
    said = refused(harness("plan", "tiny.py", env=environment(HARNESS_STORE="~nobody-here/x")))
    assert "the store's path '~nobody-here/x': there is no such user" in said


def test_without_standard_error_nothing_goes_elsewhere(here):
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *HARNESS, "plan", "nosuch"],
        stdout=subprocess.PIPE,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with a table to print."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED) as tar:
        tar.extractall(folder, filter="data")
    return str(folder / "store")


@pytest.mark.parametrize(
    ("encoding", "has", "lacks"),
    [("utf-8", "±", "+-"), ("latin-1", "±", "−"), ("ascii", "+-", "±"), ("cp437", "±", "−")],
)
def test_a_terminal_that_cannot_show_it_all_gets_the_table(stored, encoding, has, lacks):
    done = harness("table", "tiny", "--store", stored, env=environment(PYTHONIOENCODING=encoding))
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert has in text
    assert lacks not in text


def test_a_reader_that_leaves_is_no_fault(stored):
    command = [*HARNESS, "table", "tiny", "--store", stored, "--format", "json"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == 1


@pytest.mark.parametrize("arguments", [("table", "tiny"), ("table", "tiny", "--format", "json")])
def test_output_that_has_no_room_is_one_line(stored, arguments):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*HARNESS, *arguments, "--store", stored],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"harness: ")
    assert done.stderr.endswith(b"No space left on device\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("store", ["/dev/full", "/dev/null/x"])
def test_a_store_that_is_a_device(here, store):
    assert "is not a folder" in refused(harness("run", "tiny.py", "--store", store))
