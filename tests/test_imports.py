"""Who may import what: design.md section 3, as tests. The arrows run from verbs to mathematics."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "harness").rglob("*.py"))

UPWARD = {"training", "launch", "records", "report"}
FORBIDDEN = {  # room: rooms and packages that it never imports, not even inside a function
    "models": {*UPWARD, "ray", "mlflow", "optuna"},
    "reduction": {*UPWARD, "ray", "mlflow", "optuna"},
    "tasks": {*UPWARD, "ray", "mlflow", "optuna"},
    "training": {"launch", "report", "ray", "mlflow", "optuna"},
    "report": {"training", "launch", "torch", "ray", "mlflow"},
}
NO_ARMS = {"__init__", "base", "kinds", "rank_rules", "sized"}  # what arms are made from
# Besides records, which keeps the store: tasks keep data, the cluster keeps its own Ray's folder,
# and the machine's memory counter is reset by writing to the kernel.
WRITERS = {"records", "tasks"}
WRITING_FILES = {"launch/local/folder.py", "launch/local/keeper.py", "training/machine.py"}
WRITES = {"write_text", "write_bytes", "mkdir", "unlink", "rmdir", "rename", "touch", "symlink_to"}


def room_of(file):
    """`models` for harness/models/lru.py, `plan` for harness/plan.py."""
    return file.relative_to(ROOT / "harness").with_suffix("").parts[0]


@functools.cache
def imports(file):
    """Full names of all that a file imports, wherever in it: `harness.models.lru`, `torch.nn`."""
    names = []
    package = ("harness", *file.relative_to(ROOT / "harness").parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *([node.module] if node.module else [])))
            names += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return names


def target(name):
    """The room of ours that a full name lies in, or else the package of others."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "harness" else first


def loaded_by(statements):
    """Top-level names of the modules loaded in a fresh process after these statements."""
    code = f"{statements}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def modules_of(*rooms):
    """Every module of these rooms, as an import statement."""
    files = [file for file in FILES if room_of(file) in rooms]
    parts = (file.relative_to(ROOT).with_suffix("").parts for file in files)
    return "import " + ", ".join(".".join(p).removesuffix(".__init__") for p in parts)


@pytest.mark.parametrize(
    ("statements", "absent"),
    [
        ("import harness.cli", {"torch", "ray", "mlflow", "optuna", "pandas", "matplotlib"}),
        ("import harness.launch, harness.suite", {"torch", "ray", "mlflow", "pandas"}),
        (modules_of("report"), {"torch", "ray", "mlflow", "optuna"}),
        (
            modules_of("models", "reduction", "training", "tasks", "arms", "suite"),
            {"ray", "mlflow", "optuna"},
        ),
    ],
    ids=["cli", "launch", "report", "mathematics"],
)
def test_what_is_not_loaded(statements, absent):
    loaded = loaded_by(statements)
    assert "harness" in loaded
    assert not loaded & absent


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_does_not_look_up(room):
    files = [file for file in FILES if room_of(file) == room]
    assert files
    found = {(file.name, name) for file in files for name in imports(file)}
    assert not {(file, name) for file, name in found if target(name) in FORBIDDEN[room]}


def test_only_launch_imports_ray_and_only_records_mlflow():
    for package, room in (("ray", "launch"), ("mlflow", "records")):
        assert {room_of(f) for f in FILES if package in map(target, imports(f))} <= {room}


def test_the_arrows_between_rooms_run_one_way():
    rooms = {room_of(file) for file in FILES}
    graph = {room: set() for room in rooms}
    for file in FILES:
        graph[room_of(file)] |= {target(name) for name in imports(file)} & rooms
    for room, targets in graph.items():
        targets.discard(room)
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("reduction") < order.index("training") < order.index("cli")


def test_arms_do_not_import_each_other():
    arms = {file.stem for file in FILES if room_of(file) == "arms"} - NO_ARMS
    assert {"full", "small", "in_training", "post_hoc"} <= arms
    pairs = {
        (arm, other)
        for arm in arms | NO_ARMS - {"__init__"}
        for name in imports(ROOT / "harness" / "arms" / f"{arm}.py")
        for other in arms
        if name.startswith(f"harness.arms.{other}")
    }
    assert not pairs


def writes(file):
    """Calls in a file that write to a file system, as far as their names tell."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        name = call.rpartition(".")[2]
        given = [ast.unparse(value) for value in (*node.args, *(k.value for k in node.keywords))]
        opened = name == "open" and {"'w'", "'wb'", "'a'", "'x'"} & set(given)
        if opened or name in WRITES or call in ("os.replace", "shutil.rmtree"):
            yield f"{file.name}:{node.lineno} {call}"


def test_only_records_writes_to_the_store():
    bystanders = [f for f in FILES if room_of(f) not in WRITERS]
    bystanders = [f for f in bystanders if not str(f).endswith(tuple(WRITING_FILES))]
    assert not [found for file in bystanders for found in writes(file)]
    assert list(writes(ROOT / "harness" / "records" / "files.py"))  # the test sees what there is
