"""Finding suites, and what is said of those that cannot be had."""

import re
import sys

import pytest

from harness.suite import Suite, available, load
from harness.suite.load import find
from harness.tune import Study

ONE_LINE = r"\A[^\n]+\Z"
GOOD = """
from harness.suite import Comparison, FullSpec, Suite, TaskSpec
arms = {"full": FullSpec(kind="full")}
suite = Suite(name="first", comparisons=[Comparison(task=TaskSpec(name="digits"), arms=arms)])
other = suite.model_copy(update={"name": "second"})
number = 3
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a suite's file into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return name

    return write


def refusal_of(name):
    with pytest.raises(ValueError, match=ONE_LINE) as refused:
        load(name)
    return str(refused.value)


def test_every_suite_that_comes_along_loads():
    assert isinstance(load("demo"), Suite)
    names = {"timing": ["digits", "vowels"], "ablations": ["digits", "digits_knobs", "smnist"]}
    names["paper"] = ["smnist", "scifar", "listops", "imdb", "aan", "pathfinder"]
    names["paper"] += ["smnist_release", "scifar_release", "mamba_scifar", "mamba_imdb"]
    names["rivals"] = [f"s5_{task}" for task in ("listops", "imdb", "aan", "cifar", "pathfinder")]
    names["rivals"] += [
        "s5_pathx",
        "s5_speech",
        "hsvr_cifar",
        "hsvr_smnist",
        "hsvr_imdb",
        "s4d_again",
    ]
    for module in available():
        for name in names.get(module, ["suite"]):
            found = find(f"{module}.{name}", (Suite, Study), "suite or study")
            assert found.description
            assert found.name == (module if name == "suite" else f"{module}.{name}")


def test_a_module_and_a_name_in_it():
    assert load("demo.suite") == load("demo")


def test_a_file_and_a_name_in_it(written, tmp_path):
    path = written(GOOD)
    assert load(path).name == "first"
    assert load(f"{path}:").name == "first"
    assert load(f"{path}:other").name == "second"
    assert load(str(tmp_path / path)).name == "first"


def test_a_file_is_read_anew(written):
    assert load(written(GOOD)).name == "first"
    assert load(written(GOOD.replace("first", "third"))).name == "third"


@pytest.mark.parametrize("name", ["nope", "nope.suite", "_hidden"])
def test_an_unknown_name_lists_those_there_are(name):
    message = refusal_of(name)
    assert message == f"no suite {name!r}; there are {', '.join(available())}, or FILE.py:NAME"


@pytest.mark.parametrize("name", ["", "a b", "demo.suite.more", "demo:suite", "folder/demo"])
def test_what_can_be_no_name_is_said(name):
    assert refusal_of(name) == f"{name!r} is neither a suite's name nor a path FILE.py[:NAME]"


@pytest.mark.parametrize("name", ["nope", "number"])
def test_a_file_without_such_a_suite_lists_those_it_has(written, name):
    path = written(GOOD)
    assert refusal_of(f"{path}:{name}") == f"{path} has no suite {name!r}; it has suite, other"


def test_a_file_without_any_suite_says_so(written):
    assert refusal_of(written("number = 3")) == "mine.py has no suite 'suite'; it has none"


def test_a_module_without_such_a_suite():
    assert re.search(r"demo\.py has no suite 'nope'; it has suite$", refusal_of("demo.nope"))


def test_a_path_that_does_not_exist_and_one_that_is_no_file(written, tmp_path):
    assert refusal_of("nope.py:suite") == "no suite file nope.py"
    (tmp_path / "folder.py").mkdir()
    assert refusal_of("folder.py") == "no suite file folder.py"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nsuite = (\n", "mine.py, line 2: '(' was never closed"),
        ("\n1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("def f():\n  import nope\nf()", "mine.py, line 2: ModuleNotFoundError: No module named"),
        ("raise ValueError('two\\nlines')", "mine.py, line 1: ValueError: two lines"),
        ("import sys\nsys.exit('enough')", "mine.py, line 2: SystemExit: enough"),
        (
            GOOD + "TaskSpec(name='digits', window=3)",
            "mine.py, line 7: window: no such field; there are split_seed, name",
        ),
        (
            GOOD + "Comparison(task=TaskSpec(name='digits'), arms=arms, seeds=(0, 0))",
            "mine.py, line 7: seeds: seeds repeat: [0, 0]",
        ),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(written, text, said):
    assert refusal_of(written(text)).startswith(said)


@pytest.fixture
def beside(written, tmp_path):
    """Writes a suite that takes its name from a module beside it, in a folder of this name."""

    def write(folder, said, name="naming"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(f"NAME = {said!r}\n")
        text = GOOD.replace('"first"', "NAME")
        return written(f"from {name} import NAME\n{text}", f"{folder}/mine.py")

    return write


def test_a_module_beside_a_suite_is_its_own(beside):
    one, two = beside("one", "of-one"), beside("two", "of-two")
    assert [load(name).name for name in (one, two, one)] == ["of-one", "of-two", "of-one"]


def test_a_module_beside_a_suite_is_read_anew_and_leaves_nothing(beside, tmp_path):
    path, name = beside("one", "before"), "naming"
    before, modules = list(sys.path), set(sys.modules)
    assert load(path).name == "before"
    (tmp_path / "one" / f"{name}.py").write_text("NAME = 'behind'\n")  # the same size
    assert load(path).name == "behind"
    assert sys.path == before
    assert set(sys.modules) - modules <= {"_suite_mine"}
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["mine.py", "naming.py"]


def test_a_package_beside_a_suite(written, tmp_path):
    package = tmp_path / "shared"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("NAME = 'deep'\n")
    path = written("from shared.deep import NAME\n" + GOOD.replace('"first"', "NAME"))
    for name in ("deep", "keep"):
        (package / "deep.py").write_text(f"NAME = {name!r}\n")
        assert load(path).name == name
    assert "shared" not in sys.modules


def test_what_a_suite_imports_from_elsewhere_stays(written, tmp_path, monkeypatch):
    library = tmp_path / "lib" / "site-packages"  # below the suite's folder, as in a project's own
    library.mkdir(parents=True)
    (library / "installed_for_a_test.py").write_text("")
    monkeypatch.syspath_prepend(str(library))
    path = written("import installed_for_a_test\n" + GOOD)
    assert load(path).name == "first"
    module = sys.modules["installed_for_a_test"]
    load(path)
    assert sys.modules["installed_for_a_test"] is module


def test_a_broken_module_beside_a_suite_is_named(beside, tmp_path):
    path = beside("one", "x")
    (tmp_path / "one" / "naming.py").write_text("(")
    assert refusal_of(path).startswith(f"one/mine.py: {tmp_path}/one/naming.py, line 1: '(' was")


def test_a_file_with_a_byte_order_mark(written, tmp_path):
    (tmp_path / "mine.py").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load("mine.py").name == "first"
