"""The smaller verbs, and how quickly and lightly the command starts."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest

from harness.__main__ import main
from harness.cli.app import execute
from harness.suite import TaskSpec
from harness.tasks import build

VERBS = {
    "plan", "run", "submit", "shard", "trial", "tune", "report", "table", "claims", "data", "bench",
    "cluster", "ui", "doctor", "status",
}  # fmt: skip
HEAVY = ("torch", "ray", "mlflow", "pandas", "matplotlib", "pyarrow", "sklearn", "scipy", "numpy")


def test_help_names_every_verb_and_no_other(capsys):
    assert execute(["--help"]) == 0
    out = capsys.readouterr().out
    lines = out.partition("Commands:")[2].splitlines()
    assert {line.split()[0] for line in lines if line[:3].strip()} <= VERBS
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(capsys, verb):
    assert execute([verb, "--help"]) == 0
    assert "Usage: harness" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["data"], ["bench"], ["cluster"]])
def test_no_verb_is_answered_with_the_help(capsys, arguments):
    assert execute(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: harness")
    assert "Commands:" in err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from harness.cli.app import execute; execute(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_a_plan_changes_nothing_and_counts(here, capsys):
    assert execute(["plan", "tiny.py", "--store", "store", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [(s["roles"], s["missing"], s["done"]) for s in plan["stages"]] == [(4, 4, 0)] * 2
    # 40 steps, batches of 20, 64 tokens, H 4, N 8: 3 x (8 N H + 8 N + 4 H^2 + 2 H) + the head.
    token, head = 8 * 8 * 4 + 8 * 8 + 4 * 4 * 4 + 2 * 4, 2 * 4 * 10
    assert plan["stages"][0]["estimated_flops"] == 4 * 40 * 20 * 3 * (64 * token + head)
    assert plan["stages"][0]["estimated_seconds"] == {}
    # Work for a GPU is launches only: 1 ms a step and block, 40 steps, 4 trials.
    assert plan["stages"][0]["estimated_gpu_hours"] == pytest.approx(4 * 40e-3 / 3600)
    assert not (here / "store").exists()
    assert execute(["plan", "tiny.py", "--store", "store"]) == 0
    out = capsys.readouterr().out
    assert "digits/in_training  2 missing" in out
    assert "time unknown" in out
    assert "GPU-hours of training by the paper's timings" in out


def test_a_trial_alone_prints_its_result_last_and_feeds_the_plan(here, spec_file, capsys):
    spec = {
        "task": {"name": "digits"},
        "model": {"blocks": 1, "width": 4, "state_dim": 8},
        "training": {"steps": 40, "batch_size": 20, "evaluate_every": 20, "lr": 0.01},
        "arm": {"kind": "full"},
    }
    path = spec_file(spec)
    assert execute(["trial", path, "--store", "store"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["status"] == "completed"
    assert execute(["trial", path, "--store", "store"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first
    assert execute(["plan", "tiny.py", "--store", "store", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["stages"][0]["done"] == 1
    (seconds,) = plan["stages"][0]["estimated_seconds"].values()
    assert seconds == pytest.approx(3 * first["record"]["seconds_total"])


def test_data_list_and_check(here, capsys):
    assert execute(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("digits", "pylib", "listops", "vowels"))
    assert "from: real handwritten digits (UCI), shipped with scikit-learn" in listed
    assert "here: no; made when first needed, or by harness data fetch vowels" in listed
    assert not (here / "data").exists()
    assert execute(["data", "check", "digits", "--data-dir", "data"]) == 0
    path = here / capsys.readouterr().out.splitlines()[-1]
    assert path.is_file()


def test_data_list_tells_what_is_in_the_folder(here, capsys):
    spec = TaskSpec(name="vowels", length=64, train=10, validation=4, test=4)
    build(spec, here / "elsewhere")
    assert execute(["data", "list", "--data-dir", "elsewhere"]) == 0
    listed = capsys.readouterr().out
    (path,) = (here / "elsewhere").glob("vowels/*/train.npz")
    shown, megabytes = path, path.stat().st_size / 1e6
    with np.load(path) as stored:
        checksum = str(stored["sha256"])[:16]
    assert f"here: {shown}, {megabytes:.3g} MB, sha256 {checksum}\n" in listed
    assert listed.count("elsewhere/vowels") == 3
    path.write_bytes(b"torn")
    assert execute(["data", "list", "--data-dir", "elsewhere"]) == 0
    assert f"here: {shown}, damaged\n" in capsys.readouterr().out


def test_doctor_says_what_is_here(capsys):
    assert execute(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "torch" in out
    assert "ray" in out
    assert "scan on cpu, width 8: toeplitz" in out
    assert "inner loops of the scan on a CPU:" in out


def test_ctrl_c_while_the_command_still_loads_is_one_line(monkeypatch, capsys):
    class Loading(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "harness.cli.app", Loading("harness.cli.app"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "harness: interrupted\n"
