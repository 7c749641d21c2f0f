"""What is written comes back; what was written by version 1 stays readable."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.records import schemas
from harness.tasks.base import SPLITS

FIXTURES = Path(__file__).parent / "fixtures"

# Written out here a second time on purpose: a column that is renamed or lost must show.
DESIGN = {
    "trials": """trial_id task model arm seed protocol status metric higher_is_better val_metric
        test_metric selected_step state_dims state_dim_mean state_dim_total initial_state_dim
        parameters train_flops seconds_setup seconds_train seconds_truncate seconds_spectra
        seconds_evaluate seconds_checkpoint seconds_total seconds_lost exclusive threads
        device_share peak_memory_bytes energy_joules step_latency_seconds state_bytes restarts
        forked_from flops_spent seconds_spent backend device torch_version git_commit
        data_fingerprint""",
    "curves": "trial_id step split metric value seconds",
    "truncations": """trial_id step block dim_before dim_after tau energy_kept error_bound
        val_before val_after seconds""",
    "spectra": "trial_id step block hankel_singular_values mode_shares",
}


LATER = {  # all null in older files; orders in those of models without stacks; weights in white
    "trials": {"flops_method", "seconds_method", "seconds_protocol", "orders", "plugins"},
    "truncations": {
        "orders_after",
        "gramians",
        "output_error",
        "stabilised",
        "poles_moved",
        "refit",
        "weighted_singular_values",
    },
    "spectra": {"orders"},
}


@pytest.mark.parametrize("name", DESIGN)
def test_columns_are_those_of_the_design(name):
    extra = LATER.get(name, set())
    names = schemas.SCHEMAS[name].names
    assert [one for one in names if one not in extra] == DESIGN[name].split()
    assert extra <= set(names)


@pytest.mark.parametrize("name", DESIGN)
def test_every_column_is_documented(name):
    for field in schemas.SCHEMAS[name]:
        assert set(field.metadata) == {b"unit", b"doc"}
        assert field.metadata[b"doc"]


def test_the_splits_of_a_curve_are_those_of_the_tasks():
    doc = schemas.SCHEMAS["curves"].field("split").metadata[b"doc"].decode()
    assert doc.replace(" or", ",").split(", ") == list(SPLITS)


def test_round_trip_with_metadata(tmp_path, spec):
    rows = [
        {"trial_id": "t", "step": 0, "block": 1, "hankel_singular_values": [3.0, 1e-300],
         "mode_shares": [1.0, 2.0], "orders": [1, 1]},
        {"trial_id": "t", "step": 5, "block": 0, "hankel_singular_values": [], "mode_shares": None,
         "orders": None},
    ]  # fmt: skip
    path = tmp_path / "spectra.parquet"
    schemas.write_table(path, schemas.make_table("spectra", rows, spec))
    table = schemas.read_table(path, "spectra")
    assert table.to_pylist() == rows
    assert table.schema.equals(schemas.SCHEMAS["spectra"], check_metadata=False)
    assert table.schema.field("step").metadata[b"unit"] == b"step"
    assert schemas.file_spec(table) == spec
    assert table.schema.metadata[b"schema_version"] == b"1"


def test_not_a_number_survives_in_a_curve(tmp_path):
    path = tmp_path / "curves.parquet"
    schemas.write_table(path, schemas.make_table("curves", [{"value": math.nan}, {"value": None}]))
    values = schemas.read_table(path, "curves")["value"].to_pylist()
    assert math.isnan(values[0])
    assert values[1] is None


@pytest.mark.parametrize(
    ("row", "message"),
    [({"loss": 1.0}, "no column loss"), ({"step": "x"}, "column step must be int64")],
)
def test_rows_that_do_not_fit_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        schemas.make_table("curves", [row])


def test_spec_columns_have_the_type_of_their_values():
    specs = [
        {"seed": 0, "model": {"state_dim": 8, "r": 1}, "arm": {"tau": 0.1, "on": True}},
        {"seed": 1, "model": {"state_dim": [8, 4], "r": 0.5}, "arm": {"kind": "x"}},
    ]
    table = schemas.trials_table([({"trial_id": str(k)}, s, {}) for k, s in enumerate(specs)])
    columns = {name: table[name].to_pylist() for name in table.column_names if "spec." in name}
    assert columns == {
        "spec.arm.kind": [None, "x"],
        "spec.arm.on": [True, None],
        "spec.arm.tau": [0.1, None],
        "spec.model.r": [1.0, 0.5],
        "spec.model.state_dim": ["8", '"[8,4]"'],
        "spec.seed": [0, 1],
    }
    assert table.schema.field("spec.seed").type == pa.int64()


def test_version_1_files_stay_readable():
    trials = schemas.read_table(FIXTURES / "trials_v1.parquet", "trials").to_pylist()
    assert [row["trial_id"] for row in trials] == ["00000000000000a1", "00000000000000a1"]
    assert [row["role"] for row in trials] == ["full", "small"]
    assert trials[0]["state_dims"] == [64, 64]
    assert trials[0]["test_metric"] == 0.95
    assert trials[0]["spec.training.lr"] == 0.004
    assert trials[0]["state_bytes"] is None  # a column that came later
    curves = schemas.read_table(FIXTURES / "curves_v1.parquet", "curves")
    assert schemas.file_spec(curves)["model"]["state_dim"] == 64
    assert curves["value"].to_pylist() == [0.0, 1 / 3, 2 / 3]


def test_a_column_that_came_later_is_null_in_old_files(tmp_path):
    table = schemas.make_table("curves", [{"trial_id": "t", "step": 1, "value": 2.0}])
    old = table.drop_columns(["split"]).append_column("extra", pa.array([7]))
    path = tmp_path / "curves.parquet"
    schemas.write_table(path, old)
    back = schemas.read_table(path, "curves")
    assert back.column_names == [*schemas.SCHEMAS["curves"].names, "extra"]
    assert back["split"].to_pylist() == [None]
    assert back["value"].to_pylist() == [2.0]


def test_files_that_are_not_ours_are_refused_in_one_line(tmp_path):
    path = tmp_path / "curves.parquet"
    good = schemas.make_table("curves", [])
    newer = {**good.schema.metadata, b"schema_version": b"2"}
    cases = [
        (lambda: schemas.write_table(path, schemas.make_table("spectra", [])), "not 'curves'"),
        (lambda: pq.write_table(pa.table({"a": [1]}), path), "none of ours"),
        (lambda: schemas.write_table(path, good.replace_schema_metadata(newer)), "version 2"),
        (lambda: path.write_bytes(b"PAR1 torn"), "cannot be read"),
        (lambda: path.write_bytes(b""), "cannot be read"),
    ]
    for write, message in cases:
        write()
        with pytest.raises(ValueError, match=message) as caught:
            schemas.read_table(path, "curves")
        assert "\n" not in str(caught.value)
        assert "curves.parquet" in str(caught.value)
