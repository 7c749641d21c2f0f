"""Reads claims: a TOML file, and the tables of published results that it may name."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.report.claims.spec import Claims
from harness.suite import Comparison, Suite, explain, load
from harness.tools.inputs import cut, os_reason, read_bounded

SHIPPED = Path(__file__).with_name("claims.toml")  # of the paper
RIVALS = Path(__file__).with_name("rivals.toml")  # of other methods
OWN = Path(__file__).with_name("own_claims.toml")  # of this repository
LARGEST = 16 * 2**20  # bytes of a file
FROM_TABLE = ("dataset", "statement", "metric", "value", "plus_minus", "confidence", "source",
              "note")  # fmt: skip


def read_claims(path: Path = SHIPPED) -> Claims:
    """The claims of a TOML file, in its order.

    `published = "FILE.csv"` names a table beside it, or several in a list. A claim takes the fields
    that it does not set from the line with its id, and every line must have a claim.

    Raises:
        ValueError: one line naming the file and what is wrong in it.
    """
    name = cut(str(path))
    try:
        content = tomllib.loads(_text(path))
        tables = content.pop("published", [])
        for table in tables if isinstance(tables, list) else [tables]:
            _fill(content, _published(path.with_name(str(table))))
        return Claims.model_validate(content)
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    except RecursionError:
        raise ValueError(f"{name}: it is nested too deeply") from None
    except ValidationError as error:
        raise ValueError(f"{name}: {explain(error)}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def all_claims() -> Claims:
    """The claims of the paper, those of its rivals, then those of this repository."""
    files = [read_claims(path) for path in (SHIPPED, RIVALS, OWN)]
    tolerances = {name: one for file in files for name, one in file.tolerances.items()}
    return Claims(tolerances=tolerances, claims=tuple(c for file in files for c in file.claims))


def suites_of(claims: Claims, only: str | None = None) -> dict[str, Suite]:
    """The suites that tests name, by that name; or just `only`.

    Every row that is tested must be in its suite, so that a typo in a file of claims does not pass
    as `not run`.

    Raises:
        ValueError: one line naming the claim, and the suite, comparison or row that is missing.
    """
    found: dict[str, Suite] = {}
    for claim in claims.claims:
        for test in claim.tests:
            if only is not None and test.suite != only:
                continue
            try:
                if test.suite not in found:
                    found[test.suite] = load(test.suite)
                comparison = comparison_of(found[test.suite], test.comparison)
                _check_rows(test.suite, comparison, test.parts)
            except ValueError as error:
                raise ValueError(f"claim {claim.id}: {error}") from None
    return found


def comparison_of(suite: Suite, key: str | None) -> Comparison:
    """The comparison with this key; without a key, the only one.

    Raises:
        ValueError: there is none, or there are several and no key.
    """
    keys = [comparison.key for comparison in suite.comparisons]
    if key is None and len(keys) == 1:
        return suite.comparisons[0]
    if key not in keys:
        what = f"no comparison {key!r}" if key else "several comparisons, so the test must name one"
        raise ValueError(f"suite {suite.name} has {what}; use one of {', '.join(keys)}")
    return suite.comparisons[keys.index(key)]


def _check_rows(suite: str, comparison: Comparison, parts: Iterable[Any]) -> None:
    for part in parts:
        for field in ("row", "minus", "to", "plus"):
            label = getattr(part, field, None)
            if label is not None and label not in comparison.arms:
                have = list(comparison.arms)
                listed = ", ".join(have[:8]) + (", ..." if len(have) > 8 else "")
                raise ValueError(f"suite {suite} has no row {label!r}; it has {listed}")


def _text(path: Path) -> str:
    try:
        return read_bounded(path, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} of {path.name} is not UTF-8 text") from None


def _published(path: Path) -> dict[str, dict[str, str]]:
    try:
        lines = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a CSV table: {error}") from None
    absent = [name for name in ("id", *FROM_TABLE) if lines and lines[0].get(name) is None]
    if not lines or absent:
        raise ValueError(f"{path.name} lacks columns: {', '.join(absent) or 'all of them'}")
    return {line["id"]: {name: line[name] for name in FROM_TABLE} for line in lines}


def _fill(content: dict[str, Any], published: dict[str, dict[str, str]]) -> None:
    claims = content.get("claims")
    if not isinstance(claims, list):
        return
    for claim in claims:
        if isinstance(claim, dict) and isinstance(claim.get("id"), str):
            for name, text in published.get(claim["id"], {}).items():
                claim.setdefault(name, text)
    ids = {claim.get("id") for claim in claims if isinstance(claim, dict)}
    left_out = [name for name in published if name not in ids]
    if left_out:
        raise ValueError(
            f"the published result {left_out[0]} has no claim here: test it, or say why not"
        )
