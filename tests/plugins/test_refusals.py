"""Whatever is wrong with a plug-in is one line that names it; nothing is registered or written."""

import re

import pytest

from harness import plugins
from harness.cli.app import execute
from harness.suite import load

from . import code

pytestmark = pytest.mark.usefixtures("plugged")

ARM, LAYER, TASK = code.ARM, code.LAYER, code.TASK


def line_of(text, part):
    """The line of a file in which this stands; the decorator's, for the class after it."""
    return text[: text.index(part)].count("\n") + 1


CASES = {
    "arm of another base": (
        ARM.replace("(Arm)", "(dict)"),
        "@arm takes a class derived from harness.arms.base.Arm, and class Halve is none",
    ),
    "arm that is a function": (
        "import harness\n@harness.arm\ndef halve(): pass\n",
        "@arm takes a class derived from harness.arms.base.Arm, and function halve is none",
    ),
    "arm without a kind": (
        ARM.replace('kind: Literal["halve"] = "halve"', "other: int = 1"),
        'class Halve (mine.py) needs a field `kind: Literal["ITS_NAME"]`',
    ),
    "arm of two kinds": (
        ARM.replace('Literal["halve"]', 'Literal["halve", "third"]'),
        'class Halve (mine.py) needs a field `kind: Literal["ITS_NAME"]`',
    ),
    "arm of our kind": (
        ARM.replace('"halve"', '"full"'),
        "arm full is one of the harness's own: choose another kind",
    ),
    "arm of a kind that names no column": (
        ARM.replace('"halve"', '"half a loaf"'),
        "arm 'half a loaf': a kind is letters, digits, '_', '.' and '-'",
    ),
    "arm's field without a default": (
        ARM.replace("share: float = 0.5", "share: float"),
        "arm Halve: field `share` needs a default",
    ),
    "arm's field without a type": (
        ARM.replace("share: float = 0.5", "share = 0.5"),
        "A non-annotated attribute was detected: `share = 0.5`",
    ),
    "task of another base": (
        TASK.replace("(TaskSpecBase)", "(dict)"),
        "@task takes a class derived from harness.tasks.specs.base.TaskSpecBase, and class MineSpec"
        " is none",
    ),
    "task without a name": (
        TASK.replace('name: Literal["mine"] = "mine"', "other: int = 1"),
        'class MineSpec (mine.py) needs a field `name: Literal["ITS_NAME"]`',
    ),
    "task of our name": (
        TASK.replace('"mine"', '"digits"'),
        "task digits is one of the harness's own: choose another name",
    ),
    "task of no metric": (
        TASK.replace('"accuracy"', '"beauty"'),
        "task mine has the metric 'beauty'; there are accuracy",
    ),
    "task without an implementation": (
        TASK.replace("implementation: ClassVar = Digits", ""),
        "task mine does not say its `implementation`",
    ),
    "task without info": (
        TASK.replace("def info", "def shapes"),
        "task mine does not say its `info`, the shapes that a model needs",
    ),
    "task's field without a default": (
        TASK + "    size: int\n",
        "task MineSpec: field `size` needs a default",
    ),
    "layer of another base": (
        LAYER.replace("(Layer)", "(nn.Module)"),
        "@layer takes a class derived from harness.models.layers.base.Layer, and class Through is "
        "none",
    ),
    "layer without a kind": (
        LAYER.replace('kind = "through"', "sort = 1"),
        'layer Through needs a kind: `kind = "its_name"`',
    ),
    "layer of our kind": (
        LAYER.replace('"through"', '"gru"'),
        "layer gru is one of the harness's own: choose another kind",
    ),
    "layer that lacks a part": (
        LAYER.replace("def step", "def stride"),
        "layer Through lacks step",
    ),
    "layer without its cost": (
        LAYER.replace("def layer_flops", "def flops"),
        "layer through does not say its cost: `layer_flops(spec, state_dim)`",
    ),
    "layer's option without a default": (
        LAYER.replace("factor: float = 1.0", "factor: float"),
        "layer through: option factor needs a default",
    ),
    "layer's option without a type": (
        LAYER.replace("factor: float = 1.0", "factor=1.0"),
        "layer through: option factor needs a type",
    ),
    "layer's options that have no names": (
        LAYER.replace("factor: float = 1.0", "**factor: float"),
        "layer through: option **factor: float cannot be a field: name each",
    ),
    "layer's option that every model has": (
        LAYER.replace("factor: float", "dropout: float").replace("factor, state", "1.0, state"),
        "layer through: option dropout is a field of every model: rename it",
    ),
    "layer that takes sizes otherwise": (
        LAYER.replace("width: int, state_dim: int", "state_dim: int, width: int"),
        "layer through: its constructor takes width and state_dim first",
    ),
    "raises": ("import harness\n\n1 / 0\n", "ZeroDivisionError: division by zero"),
    "imports what is not there": ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module"),
    "is no Python": ("def (\n", "invalid syntax"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_with_file_and_line(here, case):
    text, said = CASES[case]
    (here / "mine.py").write_text(text + code.suite())
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        load("mine.py")
    assert re.match(r"mine.py, line \d+: [^\n]+\Z", str(refused.value))
    assert not plugins.plugins()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["plugins", "import"])
def test_it_is_refused_beside_a_suite(here, case, way):
    text, said = CASES[case]
    (here / "mine.py").write_text(text)
    first = "import mine\n" if way == "import" else ""
    (here / "user.py").write_text(first + code.suite(plugins=["mine.py"] * (way == "plugins")))
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        load("user.py")
    assert re.search(r"mine.py, line \d+", str(refused.value)) or "mine.py, line" in said
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", ["arm of our kind", "raises", "layer that lacks a part"])
def test_no_verb_writes_anything(here, capsys, case):
    text, said = CASES[case]
    (here / "mine.py").write_text(text)
    (here / "user.py").write_text(code.suite(plugins=["mine.py"]))
    (here / "spec.json").write_text('{"task": {"name": "digits"}, "arm": {"kind": "full"}}')
    before = sorted(here.rglob("*"))
    for arguments in (
        ["plan", "user.py"],
        ["run", "user.py", "--store", "store"],
        ["trial", "spec.json", "--plugin", "mine.py", "--store", "store"],
    ):
        assert execute(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_name_that_another_plug_in_has_is_refused(here):
    (here / "one.py").write_text(code.ARM)
    (here / "two.py").write_text("# another\n" + code.ARM)
    (here / "user.py").write_text(code.suite(plugins=["one.py", "two.py"]))
    with pytest.raises(
        ValueError, match=r"two.py, line 7: .*arm halve is registered by one.py already: choose"
    ):
        load("user.py")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.py", "no plug-in file "),
        ("no-module", "a plug-in is FILE.py or the name of an installed module, not 'no-module'"),
        ("nowhere_to_be_found", "nowhere_to_be_found: ModuleNotFoundError: No module named"),
        ("empty.py", "empty.py registers no plug-in: harness.layer, .arm, .task and .rank_rule"),
    ],
)
def test_a_plug_in_that_is_not_there(here, capsys, name, said):
    (here / "empty.py").write_text("")
    (here / "user.py").write_text(code.suite(plugins=[name]))
    (here / "spec.json").write_text("{}")
    for arguments in (["plan", "user.py"], ["trial", "spec.json", "--plugin", name]):
        assert execute(arguments) == 2
        assert said in capsys.readouterr().err


def test_an_unknown_kind_lists_what_is_registered_and_how_to_bring_more(here, capsys):
    (here / "mine.py").write_text(code.ARM)
    (here / "spec.json").write_text('{"task": {"name": "digits"}, "arm": {"kind": "third"}}')
    assert execute(["trial", "spec.json", "--plugin", "mine.py"]) == 2
    said = capsys.readouterr().err
    assert "spec.json: arm: no kind 'third'; there are 'full'" in said
    assert "'halve'" in said
    assert said.endswith("; --plugin FILE.py brings one of your own\n")


def test_a_wrong_option_of_a_plug_in_is_named_by_its_path(here):
    (here / "mine.py").write_text(code.ARM)
    text = code.suite(plugins=["mine.py"], arm="halve")
    (here / "user.py").write_text(text.replace("'halve'}", "'halve', 'part': 1}"))
    with pytest.raises(ValueError, match=r"arms\.row\.part: no such field; there are kind, share"):
        load("user.py")
