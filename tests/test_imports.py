"""Who may import what: design.md section 3, as tests. The arrows run from verbs to mathematics."""

import ast
import functools
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
# From the verbs down to mathematics: a room imports only what stands after it.
ORDER = (
    "__main__", "cli", "bench", "__init__", "api", "tune", "launch", "cluster", "report",
    "planning", "testing", "training", "records", "suite", "plugins", "arms", "reduction", "models",
    "tasks", "protocols", "spec", "environment", "tools",
)  # fmt: skip
NO_ARMS = {
    "__init__",
    "base",
    "given",
    "kinds",
    "rank_rules",
    "sized",
    "weighted",
}  # what arms are made from
# Besides records, which keeps the store: tasks keep data, the cluster keeps its own Ray's folder,
# what a job needs is staged in a temporary folder, the machine's memory counter is reset by writing
# to the kernel, and files for other clusters go where the user says.
WRITERS = {"records", "tasks"}
WRITING_FILES = {
    "launch/local/folder.py",
    "launch/local/keeper.py",
    "launch/submit.py",
    "training/host/machine.py",
    "cluster/render.py",
}
WRITES = {"write_text", "write_bytes", "mkdir", "unlink", "rmdir", "rename", "touch", "symlink_to"}


def room_of(file):
    """`models` for harness/models/lru.py, `spec` for harness/spec.py."""
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


def module_of(file):
    """`harness.tasks` for harness/tasks/__init__.py."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def ours(file, modules):
    """The files that a file imports, as modules: of `from harness.tasks import base` only base,
    and of a name that is no module the file that has it."""
    found = set()
    package = ("harness", *file.relative_to(ROOT / "harness").parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*base, *([node.module] if node.module else [])))
            full = (f"{base}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else base for name in full}
    return found & modules.keys()


def reached(module, graph):
    """All modules that imports lead to from this one; itself only by a circle."""
    seen, todo = set(), [*graph[module]]
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


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
        ("import harness.cli.app", {"torch", "ray", "mlflow", "optuna", "pandas", "matplotlib"}),
        ("import harness.launch, harness.suite", {"torch", "ray", "mlflow", "pandas"}),
        (modules_of("report"), {"torch", "ray", "mlflow", "optuna"}),
        (modules_of("cluster"), {"torch", "ray", "mlflow", "optuna", "pandas"}),
        (
            modules_of("models", "reduction", "training", "tasks", "arms", "suite"),
            {"ray", "mlflow", "optuna"},
        ),
    ],
    ids=["cli", "launch", "report", "cluster", "mathematics"],
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
    place = {room: number for number, room in enumerate(ORDER)}
    assert not {room_of(file) for file in FILES} - place.keys()  # a new room has its place in it
    upward = {
        (room, other)
        for file in FILES
        for room, other in ((room_of(file), target(name)) for name in imports(file))
        if place[room] > place.get(other, len(ORDER))
    }
    assert not upward


def test_no_file_imports_one_that_imports_it():
    modules = {module_of(file): file for file in FILES}
    graph = {module: ours(file, modules) - {module} for module, file in modules.items()}
    circles = {
        frozenset({module, *(m for m in reached(module, graph) if module in reached(m, graph))})
        for module in graph
        if module in reached(module, graph)
    }
    assert not circles


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import harness.tasks.base", {"harness.tasks.base"}),
        ("from harness.tasks import base, TaskInfo", {"harness.tasks.base", "harness.tasks"}),
        ("from . import cache", {"harness.tasks.storage.cache"}),
        ("from ..base import Task", {"harness.tasks.base"}),
        ("def late():\n    from harness.tasks.base import Task", {"harness.tasks.base"}),
        ("if TYPE_CHECKING:\n    import harness.spec", {"harness.spec"}),
    ],
)
def test_every_import_is_seen(tmp_path, monkeypatch, statement, found):
    modules = {module_of(file): file for file in FILES}
    file = tmp_path / "harness" / "tasks" / "storage" / "some.py"
    file.parent.mkdir(parents=True)
    file.write_text(statement)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert ours(file, modules) == found


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


# What reads and writes files for the room of records, and for nobody else.
OF_RECORDS = ("files", "sealed", "tensors", "lease.acquire", "storage", "schemas.read_table",
              "schemas.write_table", "schemas.parse_table")  # fmt: skip
# Optuna's database is Optuna's to open, and the sources of plug-ins lie in folders of their own.
NAMES_A_FILE = {"tune/search/optuna_storage.py", "suite/bring.py"}


def reaches_into_the_store(file):
    """Where a file goes past the names that records offers: imports of what reads files, a path
    below the root of a store, and the folder of a trial or a suite."""
    banned = ("pyarrow.parquet", *(f"harness.records.{name}" for name in OF_RECORDS))
    yield from (name for name in imports(file) if name.startswith(banned))
    for node in ast.walk(ast.parse(file.read_text())):
        joined = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if joined and ast.unparse(node.left).endswith(".root"):
            yield f"{file.name}:{node.lineno} {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and node.attr in ("path", "folder"):
            of = ast.unparse(node.value)
            if of.endswith((")", "records", "source", ".folder")):
                yield f"{file.name}:{node.lineno} {ast.unparse(node)}"


def test_only_records_opens_files_of_the_store():
    outside = [file for file in FILES if room_of(file) not in ("records", "tasks")]
    outside = [file for file in outside if not str(file).endswith(tuple(NAMES_A_FILE))]
    assert not [found for file in outside for found in reaches_into_the_store(file)]
    # The test sees what there is.
    for name in ("store", "mirror/mirror_content", "trial_dir", "suite_records"):
        assert [*reaches_into_the_store(ROOT / "harness" / "records" / f"{name}.py")]
