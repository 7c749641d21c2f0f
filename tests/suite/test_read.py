"""A trial's spec from a file: read as it stands, or refused in one line that names the fault."""

import json

import pytest

from harness.suite import TrialSpec
from harness.suite.read import read_trial

ONE_LINE = r"\A[^\n]+\Z"
SPEC = {"task": {"name": "digits"}, "arm": {"kind": "in_training"}}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "spec.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def refusal_of(path):
    with pytest.raises(ValueError, match=ONE_LINE) as refused:
        read_trial(path)
    message = str(refused.value)
    assert str(path) in message
    return message


def test_a_spec_comes_back_as_it_was(written):
    spec = TrialSpec.model_validate({**SPEC, "model": {"state_dim": [7, 5]}, "seed": 3})
    assert read_trial(written(spec.model_dump_json())) == spec
    assert (
        read_trial(written({**SPEC, "spec_version": 1})).trial_id
        == read_trial(written(SPEC)).trial_id
    )


def test_a_byte_order_mark_is_no_part_of_a_spec(written):
    marked = written(b"\xef\xbb\xbf" + json.dumps(SPEC).encode())
    assert read_trial(marked) == TrialSpec.model_validate(SPEC)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not valid JSON: Expecting value"),
        ("{", "is not valid JSON: Expecting property name"),
        ("nonsense\nof lines", "is not valid JSON: Expecting value"),
        (b"\xff\xfe{}", "is not valid JSON: byte 0 is not UTF-8 text"),
        ("[" * 100_000, "is not valid JSON: it is nested too deeply"),
        ("[]", "must hold a JSON object, not list"),
        ('"text"', "must hold a JSON object, not str"),
        ("null", "must hold a JSON object, not NoneType"),
        ('{"training": {"lr": NaN}}', "NaN is not a number that a spec may hold"),
        ('{"training": {"lr": -Infinity}}', "-Infinity is not a number that a spec may hold"),
        ('{"seed": 1, "seed": 2}', "'seed' stands there twice"),
        ('{"arm": {"tau": 0.1, "kind": "full", "tau": 0.2}}', "'tau' stands there twice"),
    ],
)
def test_what_is_no_spec_at_all(written, content, said):
    assert said in refusal_of(written(content))


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1], 1.5])
def test_another_version_is_refused_before_anything_else(written, version):
    path = written({"spec_version": version, "surprise": 1})
    message = refusal_of(path)
    assert message == f"{path}: spec_version {version!r} is unknown; this harness reads 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": -1}, "seed: Input should be greater than or equal to 0 (got -1)"),
        ({"seed": 1.0}, "seed: Input should be a valid integer (got 1.0)"),
        ({"surprise": 1}, "surprise: no such field; there are spec_version, task, model, "),
        ({"task": {}}, "task: 'name' is missing"),
        ({"task": {"name": "digits", "window": 2}}, "task.window: no such field; there are split"),
        ({"arm": {"kind": "full", "tau": 0.1}}, "arm.tau: no such field; there are kind"),
        (
            {"arm": {"kind": "in_training", "tau": 2}},
            "arm.tau: Input should be less than 1 (got 2)",
        ),
        (
            {"arm": {"kind": "small", "match": "seed", "to": {"kind": "in_training", "tua": 1}}},
            "arm.to.tua: no such field; there are kind, tau, start, ",
        ),
        ({"training": {"stepz": 1}}, "training.stepz: no such field; there are steps, "),
        ({"training": {"steps": "9" * 999}}, "training.steps: Input should be a valid integer"),
        ({"model": {"state_dim": [1, 2, 3]}}, "model: state_dim lists 3 sizes for 2 blocks"),
        ({"model": {"state_dim": 0}}, "model.state_dim: Input should be greater than or equal to"),
        ({"model": 3}, "model: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(written, change, said):
    path = written({**SPEC, **change})
    message = refusal_of(path)
    assert message.startswith(f"{path}: {said}")
    assert len(message) < len(str(path)) + 250


def test_an_unknown_kind_lists_those_there_are(written):
    message = refusal_of(written({**SPEC, "arm": {"kind": "nope"}}))
    for kind in ("full", "in_training", "post_hoc", "small"):
        assert f"'{kind}'" in message


def test_several_faults_are_counted(written):
    message = refusal_of(written({**SPEC, "seed": -1, "surprise": 1}))
    assert message.endswith("(and 1 more)")


def test_a_number_beyond_floats_is_refused(written):
    message = refusal_of(written('{"task": {"name": "digits"}, "training": {"lr": 1e999}}'))
    assert "training.lr: Input should be a finite number (got inf)" in message


def test_a_missing_file_and_a_folder(tmp_path):
    missing = tmp_path / "nope.json"
    assert refusal_of(missing) == f"cannot read {missing}: No such file or directory"
    assert refusal_of(tmp_path) == f"cannot read {tmp_path}: Is a directory"
