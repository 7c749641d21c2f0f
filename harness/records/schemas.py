"""The parquet tables: every column with its type, unit and meaning, and how a file is written.

`SCHEMA_VERSION` rises when a column is removed or changes its meaning or type. Adding a column does
not change it: older files read as null in that column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.records.files import write_atomic
from harness.tools.inputs import cut, shown

SCHEMA_VERSION = 1
VERSION_KEY = b"schema_version"
TABLE_KEY = b"table"
SPEC_KEY = b"spec"  # a trial's own tables: its spec as JSON
_VERSION = re.compile(r"[0-9]{1,9}")
SPECS_KEY = b"specs"  # a suite's tables: {trial_id: spec} as JSON

_TEXT, _FLAG, _COUNT, _REAL = pa.string(), pa.bool_(), pa.int64(), pa.float64()
_REALS, _SIZES = pa.list_(pa.float64()), pa.list_(pa.int32())

_Column = tuple[str, pa.DataType, str, str]  # name, type, unit ("" if none), meaning

_TRIALS: list[_Column] = [
    ("trial_id", _TEXT, "", "hash of the spec; names the folder under trials/"),
    ("task", _TEXT, "", "name of the task"),
    ("model", _TEXT, "", "kind of SSM layer"),
    ("arm", _TEXT, "", "kind of arm; a resolved `small` is a `full` (see role)"),
    ("seed", _COUNT, "", "draws initial weights, batch order and dropout; never the split"),
    ("protocol", _TEXT, "", "how the model was selected: strict, published or release"),
    ("status", _TEXT, "", "completed, diverged or failed; in a suite's table damaged, too"),
    ("metric", _TEXT, "", "name of the task's metric"),
    ("higher_is_better", _FLAG, "", "direction of the metric"),
    ("val_metric", _REAL, "metric", "validation metric of the selected model"),
    ("test_metric", _REAL, "metric", "test metric of the selected model"),
    ("selected_step", _COUNT, "step", "optimizer steps of the selected model"),
    ("state_dims", _SIZES, "complex states", "N of each block, selected model; see orders"),
    (
        "state_dim_mean",
        _REAL,
        "complex states",
        "mean over blocks of N, or of the mean of its orders",
    ),
    ("state_dim_total", _COUNT, "complex states", "sum over blocks of N, or of orders"),
    (
        "orders",
        pa.list_(_SIZES),
        "complex states",
        "of each block the N of its systems, the largest of which is in state_dims; null where "
        "every block is one system",
    ),
    ("initial_state_dim", _REAL, "complex states", "mean N of the blocks at step 0"),
    ("parameters", _COUNT, "", "real parameters of the selected model"),
    ("train_flops", _REAL, "FLOP", "analytic cost of the training steps (recurrence form)"),
    ("seconds_setup", _REAL, "s", "data, model and compilation before the first step"),
    ("seconds_train", _REAL, "s", "training steps"),
    ("seconds_truncate", _REAL, "s", "truncations, their HSVs included"),
    ("seconds_spectra", _REAL, "s", "spectra that are recorded only"),
    ("seconds_evaluate", _REAL, "s", "evaluations, and timing the recurrent mode (under 0.3 s)"),
    ("seconds_checkpoint", _REAL, "s", "writing checkpoints"),
    ("seconds_total", _REAL, "s", "sum of the clocks that led to the result"),
    ("seconds_lost", _REAL, "s", "work done again after interruptions"),
    ("exclusive", _FLAG, "", "true where the timings may be compared"),
    ("threads", pa.int32(), "", "CPU threads of the trial, fixed for all of it"),
    ("device_share", _REAL, "", "fraction of the device it was given, 0 to 1"),
    ("peak_memory_bytes", _COUNT, "B", "peak memory: of the device, or of the process on a CPU"),
    ("energy_joules", _REAL, "J", "energy of the device; null where nothing measures it"),
    ("step_latency_seconds", _REAL, "s", "one step of one sequence in recurrent mode, median"),
    ("state_bytes", _COUNT, "B", "what recurrent mode remembers of one sequence between steps"),
    ("restarts", pa.int32(), "", "times it was resumed from a checkpoint"),
    ("forked_from", _TEXT, "", "trial_id that it was forked from; null if none"),
    ("flops_spent", _REAL, "FLOP", "training FLOPs done here: fewer for a fork"),
    ("seconds_spent", _REAL, "s", "what the trial cost here, redone work included"),
    ("flops_method", _REAL, "FLOP", "training FLOPs in total, prerequisites included"),
    ("seconds_method", _REAL, "s", "seconds in total, prerequisites included"),
    ("seconds_protocol", _REAL, "s", "training by the protocol's own clock, this trial alone"),
    ("backend", _TEXT, "", "what computes the scan: names of the blocks' backends, by comma"),
    ("device", _TEXT, "", "the device's model name"),
    ("torch_version", _TEXT, "", "version of torch"),
    ("git_commit", _TEXT, "", "commit of the harness; null outside a repository"),
    ("data_fingerprint", _TEXT, "", "hash of the data"),
    ("plugins", _TEXT, "", "plug-ins that it ran with, a JSON list; null if none"),
]

_CURVES: list[_Column] = [
    ("trial_id", _TEXT, "", "see trials"),
    ("step", _COUNT, "step", "optimizer steps done"),
    ("split", _TEXT, "", "train, validation or test"),
    ("metric", _TEXT, "", "what `value` measures: loss, the task's metric, ..."),
    ("value", _REAL, "metric", "the value; NaN or infinite where training diverged"),
    ("seconds", _REAL, "s", "seconds of the trial's work up to here"),
]

_TRUNCATIONS: list[_Column] = [
    ("trial_id", _TEXT, "", "see trials"),
    ("step", _COUNT, "step", "the event comes right after this optimizer step"),
    ("block", pa.int32(), "", "index of the block, from 0"),
    ("dim_before", pa.int32(), "complex states", "N before"),
    ("dim_after", pa.int32(), "complex states", "N after; more than before at a rollback"),
    ("orders_after", _SIZES, "complex states", "N of each system after; null for a single one"),
    ("tau", _REAL, "", "fraction of HSV sum discarded at most; null for given sizes"),
    ("energy_kept", _REAL, "", "kept share of the HSV sum, of mode_shares where modes were chosen"),
    (
        "error_bound",
        _REAL,
        "gain",
        "bound of the H-infinity norm of what was lost; null at a rollback, or without white noise",
    ),
    (
        "gramians",
        _TEXT,
        "",
        "controllability/observability, as signal/task; mean_modes; null for white",
    ),
    ("output_error", _REAL, "", "|y - y_r| / |y| of the block, on held-out training examples"),
    ("stabilised", _TEXT, "", "what took the place of an unstable projection; null if nothing"),
    ("poles_moved", _REAL, "", "how far at most, where projected onto stable poles; else null"),
    ("refit", _TEXT, "", "what was fitted to the layer's outputs afterwards; null if nothing"),
    ("weighted_singular_values", _REALS, "", "that ranks were chosen by, descending; null if HSVs"),
    ("val_before", _REAL, "metric", "validation metric before the event; null if not measured"),
    ("val_after", _REAL, "metric", "validation metric after the event; null if not measured"),
    ("seconds", _REAL, "s", "time of the event"),
]

_SPECTRA: list[_Column] = [
    ("trial_id", _TEXT, "", "see trials"),
    ("step", _COUNT, "step", "optimizer steps done"),
    ("block", pa.int32(), "", "index of the block, from 0"),
    ("hankel_singular_values", _REALS, "gain", "HSVs, descending; of a stack see orders"),
    ("mode_shares", _REALS, "gain", "Re diag (PQ)^(1/2), in parameter order; sums to the HSVs'"),
    (
        "orders",
        _SIZES,
        "complex states",
        "N of each system, as many entries of either list, system by system; null for a single one",
    ),
]

_ROLES: list[_Column] = [
    ("label", _TEXT, "", "the row of the comparison it belongs to"),
    ("role", _TEXT, "", "the arm it stands for in this suite"),
    ("matches", _TEXT, "", "label of the row whose size it matches; null if none"),
    ("comparison", _TEXT, "", "key of its comparison; other comparisons' rows are no reference"),
]


def _schema(columns: Sequence[_Column]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(name, kind, metadata={"unit": unit, "doc": doc})
            for name, kind, unit, doc in columns
        ]
    )


SCHEMAS: dict[str, pa.Schema] = {
    "trials": _schema(_TRIALS),
    "curves": _schema(_CURVES),
    "truncations": _schema(_TRUNCATIONS),
    "spectra": _schema(_SPECTRA),
}
ROLE_SCHEMA = _schema(_ROLES)  # appended to the fixed columns in a suite's copy of `trials`
TRIAL_TABLES = ("curves", "truncations", "spectra")  # in each trial's folder


def canonical(obj: Any) -> str:
    """Compact JSON with sorted keys; NaN raises ValueError."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def flatten(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested spec to dotted paths: `{"arm": {"tau": 0.1}}` to `{"arm.tau": 0.1}`.

    Lists and other non-scalars become JSON text, so that every value is a scalar.
    """
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{path}."))
        elif value is None or isinstance(value, str | bool | int | float):
            flat[path] = value
        else:
            flat[path] = canonical(value)
    return flat


def make_table(
    name: str, rows: Iterable[Mapping[str, Any]], spec: Mapping[str, Any] | None = None
) -> pa.Table:
    """Rows of the table `name` under its schema; absent columns are null.

    Raises ValueError for a column that the schema does not have or a value of another type.
    """
    schema = SCHEMAS[name]
    rows = list(rows)
    unknown = sorted({key for row in rows for key in row} - set(schema.names))
    if unknown:
        # pyarrow would drop them silently.
        raise ValueError(f"table {name} has no column {', '.join(unknown)}")
    metadata = {SPEC_KEY: canonical(spec)} if spec is not None else {}
    return stamp(_columns(rows, schema), name, metadata)


def trials_table(rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]):
    """A suite's `trials` from (record, spec, roles) triples.

    Columns: the fixed ones, those of `ROLE_SCHEMA`, `spec_json`, then `spec.<path>`, sorted.
    A spec column has the type of its values (bool, int64, float64 or string); where trials
    disagree, its values are JSON text.
    """
    fixed = make_table("trials", [record for record, _, _ in rows])
    roles = _columns([role for _, _, role in rows], ROLE_SCHEMA)
    flat = [flatten(spec) for _, spec, _ in rows]
    table = fixed
    for field in roles.schema:
        table = table.append_column(field, roles[field.name])
    specs = pa.array([canonical(spec) for _, spec, _ in rows], pa.string())
    table = table.append_column("spec_json", specs)
    for path in sorted({key for one in flat for key in one}):
        table = table.append_column(f"spec.{path}", _typed([one.get(path) for one in flat]))
    return stamp(table, "trials", {})


def stamp(table: pa.Table, name: str, metadata: Mapping[bytes, str]) -> pa.Table:
    """`table` with the schema's name and version, and `metadata`, in its file metadata."""
    return table.replace_schema_metadata(
        {TABLE_KEY: name, VERSION_KEY: str(SCHEMA_VERSION), **metadata}
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically."""
    write_atomic(path, table_bytes(table))


def table_bytes(table: pa.Table) -> bytes:
    """What `write_table` writes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def read_table(path: Path, name: str) -> pa.Table:
    """Read a file of the table `name`, of this schema version or an older one.

    Columns that an old file lacks are null; columns beyond the schema are kept, last.
    Raises FileNotFoundError, or a one-line ValueError for a file that is damaged, holds another
    table, or was written by a newer harness.
    """
    return parse_table(Path(path).read_bytes(), name, path)


def parse_table(data: bytes, name: str, what: object) -> pa.Table:
    """The table in the bytes of a file that messages call `what`; see `read_table`."""
    try:
        # In this thread: a process that ends while pyarrow starts others is aborted.
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        metadata = table.schema.metadata or {}
        found = cut(metadata.get(TABLE_KEY, b"").decode(errors="replace"))
        if found != name:
            raise ValueError(f"{what} holds the table {found or '(none of ours)'!r}, not {name!r}")
        version = metadata.get(VERSION_KEY, b"").decode(errors="replace")
        if not _VERSION.fullmatch(version):
            raise ValueError(f"{what} has no schema version, but {shown(version)}")
        if int(version) > SCHEMA_VERSION:
            raise ValueError(
                f"{what} has schema version {version}; this harness reads up to {SCHEMA_VERSION}"
            )
        return _upgrade(table, SCHEMAS[name])
    except (pa.ArrowException, OSError, OverflowError, KeyError) as error:
        raise ValueError(f"{what} cannot be read: {_first_line(error)}") from None


def file_spec(table: pa.Table) -> dict[str, Any] | None:
    """The spec in the metadata of a trial's own table, or None."""
    text = (table.schema.metadata or {}).get(SPEC_KEY)
    return json.loads(text) if text else None


def _columns(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        try:
            arrays.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ValueError(
                f"column {field.name} must be {field.type}: {_first_line(error)}"
            ) from None
    return pa.Table.from_arrays(arrays, schema=schema)


def _upgrade(table: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays, fields = [], []
    for field in schema:
        known = field.name in table.column_names
        column = table[field.name].cast(field.type) if known else None
        arrays.append(column if known else pa.nulls(table.num_rows, field.type))
        fields.append(field)
    for field in table.schema:
        if field.name not in schema.names:
            arrays.append(table[field.name])
            fields.append(field)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, table.schema.metadata))


def _typed(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
        values = [value if value is None else float(value) for value in values]
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if len(kinds) <= 1:
        return pa.array(values, types[kinds.pop()] if kinds else pa.string())
    return pa.array([v if v is None else canonical(v) for v in values], pa.string())


def _first_line(error: BaseException) -> str:
    return cut((str(error).splitlines() or [type(error).__name__])[0])
