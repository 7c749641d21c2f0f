"""Where code stands: what counts as its source, and that a worker gets all of it and no other."""

import hashlib
import json
import linecache
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from harness import plugins, tasks
from harness.plugins.source import digest, listed, source_of
from harness.suite import ModelSpec, Suite, TaskSpec, TrialSpec, canonical, load
from harness.suite.bring import bring, receive

from . import code

pytestmark = pytest.mark.usefixtures("plugged")
ROOT = Path(__file__).parents[2]
HELPED = code.LAYER.replace("import harness\n", "import harness\nfrom shapes.square import side\n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def helped(here):
    """A layer whose file imports a package beside it, which imports another module."""
    (here / "mine.py").write_text(HELPED)
    (here / "shapes").mkdir()
    (here / "shapes" / "__init__.py").write_text("")
    (here / "shapes" / "square.py").write_text("from . import line\nside = line.length\n")
    (here / "shapes" / "line.py").write_text("import math\nlength = 1\n")
    (here / "unused.py").write_text("")
    return here


def test_one_file_has_the_sum_that_every_tool_gives(here):
    (here / "mine.py").write_text(code.LAYER)
    bring("mine.py")
    (one,) = plugins.plugins()
    assert one.source.sha256 == hashlib.sha256(code.LAYER.encode()).hexdigest()
    assert one.source.files == {"mine.py": code.LAYER.encode()}
    assert str(one.source) == "mine.py"
    assert str(one) == "layer through"


def test_modules_beside_it_belong_to_it(helped):
    bring("mine.py")
    (one,) = plugins.plugins()
    names = {"mine.py", "shapes/__init__.py", "shapes/square.py", "shapes/line.py"}
    assert set(one.source.files) == names
    before = one.source.sha256
    (helped / "shapes" / "line.py").write_text("length = 2\n")
    bring("mine.py", anew=True)
    assert plugins.plugins()[0].source.sha256 != before


def test_what_a_suite_lists_belongs_to_it(here):
    (here / "one.py").write_text(code.LAYER)
    (here / "user.py").write_text(code.ARM + code.suite(layer="through", plugins=["one.py"]))
    load("user.py")
    arm = plugins.find("arm", "halve")
    assert set(arm.source.files) == {"user.py", "one.py"}
    assert set(plugins.find("layer", "through").source.files) == {"one.py"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Suite(plugins=['a.py', 'b'])", ["a.py", "b"]),
        ("s.Study(name='x', plugins=('a.py',))", ["a.py"]),
        ("Suite(plugins=made())", []),
        ("Other(plugins=['a.py'])", []),
        ("(", []),
        ("\0", []),
    ],
)
def test_what_a_source_lists(text, names):
    assert listed(text.encode()) == names


def test_loading_a_file_again_replaces_it_and_what_was_made_of_it_goes_on(here):
    (here / "mine.py").write_text(code.LAYER + code.suite(layer="through"))
    first = load("mine.py")
    second = load("mine.py")
    kinds = [type(suite.comparisons[0].model) for suite in (first, second)]
    assert kinds[0] is not kinds[1]
    again = Suite.model_validate(first)
    assert type(again.comparisons[0].model) is kinds[1]
    assert again == second
    assert len(plugins.plugins()) == 1


def test_validating_a_suite_loads_nothing_again(here):
    (here / "mine.py").write_text(code.LAYER)
    (here / "user.py").write_text(code.suite(layer="through", plugins=["mine.py"]))
    suite = load("user.py")
    assert suite.plugins == (str(here / "mine.py"),)
    (here / "mine.py").write_text("1 / 0\n")
    again = Suite.model_validate(suite.model_dump(mode="json"))
    assert again == suite


def test_a_suite_without_plug_ins_is_stored_as_before():
    comparison = {"task": {"name": "digits"}, "arms": {"full": {"kind": "full"}}}
    suite = Suite(name="plain", comparisons=[comparison])
    assert "plugins" not in suite.model_dump(mode="json")
    assert "plugins" not in suite.model_dump_json()


def test_ids_keep_the_kind_that_is_a_field_s_default(here):
    (here / "mine.py").write_text(code.ARM + code.TASK + code.LAYER)
    bring("mine.py")
    trial = TrialSpec(task={"name": "mine"}, model={"kind": "through"}, arm={"kind": "halve"})
    wanted = '{"arm":{"kind":"halve"},"model":{"kind":"through"},"task":{"name":"mine"}}'
    assert canonical(trial) == wanted
    assert TrialSpec.model_validate_json(trial.model_dump_json()) == trial


def test_code_from_a_notebook_s_cell_has_a_source_but_goes_nowhere(monkeypatch):
    cell = code.ARM.strip() + "\n"
    monkeypatch.setitem(linecache.cache, "<cell>", (len(cell), None, cell.splitlines(True), ""))
    monkeypatch.setitem(sys.modules, "celled", ModuleType("celled"))
    exec(compile(cell, "<cell>", "exec"), vars(sys.modules["celled"]))
    (one,) = plugins.plugins()
    assert one.source.sha256 == hashlib.sha256(cell.encode()).hexdigest()
    trial = TrialSpec(task={"name": "digits"}, arm={"kind": "halve"})
    with pytest.raises(ValueError, match="the code of arm halve was typed in: put it into a file"):
        plugins.sources_of(trial)


def test_code_of_which_nothing_is_left_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "celled", ModuleType("celled"))
    with pytest.raises(ValueError, match="the code of Halve stands in no file: put it into one"):
        exec(compile(code.ARM, "<gone>", "exec"), vars(sys.modules["celled"]))


RECEIVE = """
import json, sys
from harness.plugins import Source, plugins
from harness.suite import ModelSpec
from harness.suite.bring import receive

told = json.load(sys.stdin)
files = {name: text.encode() for name, text in told.pop("files").items()}
receive([Source(**told, files=files)])
print(ModelSpec(kind="through").kind, *(one.source.sha256 for one in plugins()))
"""


def elsewhere(source, folder):
    """A process in another folder that receives a source, and says what it has then."""
    told = {"file": source.file, "sha256": source.sha256, "folder": source.folder}
    told["module"] = source.module
    told["files"] = {name: content.decode() for name, content in source.files.items()}
    return subprocess.run(
        [sys.executable, "-c", RECEIVE], cwd=folder, input=json.dumps(told),
        capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )  # fmt: skip


def test_a_process_in_another_folder_gets_the_code_and_the_modules_beside_it(
    helped, tmp_path_factory
):
    bring("mine.py")
    source = plugins.plugins()[0].source
    for path in (helped / "mine.py", helped / "shapes" / "line.py"):
        path.write_text("1 / 0\n")  # what lies there now is not what was loaded
    done = elsewhere(source, tmp_path_factory.mktemp("elsewhere"))
    assert done.stdout.split() == ["through", source.sha256], done.stderr


def test_what_did_not_arrive_whole_is_refused(here):
    (here / "mine.py").write_text(code.LAYER)
    bring("mine.py")
    source = plugins.plugins()[0].source
    other = replace(source, files={"mine.py": b"pass\n"})
    with pytest.raises(ValueError, match=r"the plug-in mine\.py did not arrive as it was sent"):
        receive([other])


def test_a_suite_s_own_file_is_sent_whole_with_its_plug_ins(here, tmp_path_factory):
    (here / "one.py").write_text(code.ARM)
    text = code.suite(layer="through", arm="halve", plugins=["one.py"])
    (here / "user.py").write_text(code.LAYER + text)
    load("user.py")
    source = plugins.find("layer", "through").source
    done = elsewhere(source, tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stderr
    assert source.sha256 in done.stdout


def test_a_module_that_is_imported_as_any_other_is_sent_by_its_file():
    source = source_of(digest)  # harness is installed, or on the path: one of its own modules
    assert source.file == "harness/plugins/source.py"


def test_a_task_s_implementation_may_stand_in_its_own_file(here):
    text = code.TASK.replace("import Digits\n", "import Digits\nclass Mine(Digits): pass\n")
    text = text.replace("= Digits", '= f"{__name__}:Mine"')
    (here / "mine.py").write_text(text)
    bring("mine.py")
    assert type(tasks.build(TaskSpec(name="mine"))).__name__ == "Mine"


def test_a_model_without_a_kind_is_an_lru_still():
    assert ModelSpec().kind == "lru"
