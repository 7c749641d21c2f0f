"""Packages with an entry point in the group `harness.plugins`."""

import hashlib
import sys

import pytest

from harness import plugins
from harness.cli.app import execute
from harness.plugins.source import source_of
from harness.suite import ModelSpec, TrialSpec, load

from . import code

pytestmark = pytest.mark.usefixtures("plugged")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a package where Python finds it, as an installer does: modules and their metadata."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def install(module, text, version="1.2"):
        package, about = site / module, site / f"{module}-{version}.dist-info"
        package.mkdir(parents=True, exist_ok=True)
        about.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "parts.py").write_text(text)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n"
        )
        (about / "top_level.txt").write_text(f"{module}\n")
        (about / "entry_points.txt").write_text(f"[harness.plugins]\nparts = {module}.parts\n")
        return package / "parts.py"

    yield install
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {path.name for path in site.iterdir()}:
            del sys.modules[name]


def test_its_kinds_take_part_without_a_word(installed):
    file = installed("foreign_layers", code.LAYER)
    trial = TrialSpec(task={"name": "digits"}, model={"kind": "through"}, arm={"kind": "full"})
    (used,) = plugins.used_by(trial)
    assert used.record() == {
        "what": "layer",
        "name": "through",
        "file": "foreign_layers/parts.py",
        "distribution": "foreign_layers",
        "version": "1.2",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (source,) = plugins.sources_of(trial)
    assert (source.module, source.files) == ("foreign_layers.parts", {})


def test_nothing_is_imported_for_what_is_ours(installed):
    installed("foreign_layers", "raise SystemExit(3)\n")
    TrialSpec(task={"name": "digits"}, model={"kind": "gru"}, arm={"kind": "full"})
    assert "foreign_layers.parts" not in sys.modules


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to"),
        (code.ARM.replace('"halve"', '"full"'), "ValueError: arm full is one of the harness's own"),
    ],
)
def test_a_broken_one_is_named_where_something_is_missed_and_breaks_nothing_else(
    installed, tmp_path, monkeypatch, capsys, text, fault
):
    installed("broken_parts", text)
    installed("foreign_layers", code.LAYER)
    assert ModelSpec(kind="through").kind == "through"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.json").write_text('{"task": {"name": "digits"}, "arm": {"kind": "nope"}}')
    assert execute(["trial", "spec.json"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"; plug-in parts of package broken_parts 1.2 does not load: {fault}" in said
    (tmp_path / "good.py").write_text(code.suite())
    assert execute(["plan", "good.py", "--store", "store"]) == 0


def test_a_suite_may_name_the_module(installed, tmp_path, monkeypatch):
    installed("foreign_layers", code.LAYER)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user.py").write_text(code.suite(layer="through", plugins=["foreign_layers.parts"]))
    suite = load("user.py")
    assert suite.plugins == ("foreign_layers.parts",)
    assert suite.comparisons[0].model.kind == "through"


def test_a_package_of_ours_has_its_own_version():
    assert source_of(pytest.fixture).distribution == "pytest"
