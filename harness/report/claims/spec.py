"""A claim as data: where it was published, and the tests that decide it here.

Accuracies, their differences and their tolerances are in percent, as published; sizes are in
complex states; speeds are ratios.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.spec import Spec
from harness.suite.explain import known
from harness.tools.inputs import cut, shown

Positive = Annotated[float, Field(gt=0.0)]
Text = Annotated[str, Field(min_length=1)]

# Columns of the comparison that a value may name, and costs that a ratio may name.
VALUE_COLUMNS = ("metric_top3", "metric_mean", "state_dim_mean", "state_dim_total")
COST_COLUMNS = ("seconds", "published_seconds", "flops")
MEASURES = ("spearman", "overlap", "outside")


class Tolerance(Spec):
    """How far ours may be from theirs, in the value's unit or relative to it, and why."""

    points: Annotated[float, Field(ge=0.0)] | None = None
    relative: Positive | None = None
    why: Text

    @model_validator(mode="after")
    def _one_kind(self) -> Tolerance:
        if (self.points is None) == (self.relative is None):
            raise ValueError("give either points or relative")
        return self

    def around(self, value: float) -> tuple[float, float]:
        """The bounds of what counts as this value."""
        half = self.points if self.points is not None else (self.relative or 0.0) * abs(value)
        return value - half, value + half

    @property
    def text(self) -> str:
        """`±1` or `±15 %`."""
        if self.points is not None:
            return f"±{self.points:g}"
        return f"±{(self.relative or 0.0) * 100:g} %"


class ValuePart(Spec):
    """A column of one row against the published value: the claim's, unless given here.

    `at_states`, here and in the parts below, is the mean size of the published `row`. A row of ours
    that differs by more than the tolerance `size` is a different experiment.
    """

    kind: Literal["value"]
    row: Text
    column: Text
    value: float | None = None
    tolerance: Text
    at_states: Positive | None = None


class DifferencePart(Spec):
    """One row minus another, paired by seed, positive if the first is better, against a margin.

    noninferior: above -margin. better: above it. worse: below -margin. equivalent: within it.
    no_better: below it.
    """

    kind: Literal["difference"]
    row: Text
    minus: Text
    goal: Literal["noninferior", "better", "worse", "equivalent", "no_better"]
    margin: Text
    at_states: Positive | None = None


class RatioPart(Spec):
    """How many times cheaper a row is: the cost of `to` over that of `row` (and of `plus`).

    `seconds` are totals; `published_seconds` follow the protocol's clock, which under `published`
    counts only training steps and evaluations.
    """

    kind: Literal["ratio"]
    row: Text
    to: Text
    plus: Text | None = None
    column: Text
    value: Positive | None = None
    tolerance: Text | None = None
    at_least: Positive | None = None
    why: Text | None = None
    at_states: Positive | None = None

    @model_validator(mode="after")
    def _one_target(self) -> RatioPart:
        if (self.tolerance is None) == (self.at_least is None):
            raise ValueError("give either tolerance or at_least")
        if self.at_least is not None and self.why is None:
            raise ValueError("at_least needs a why")
        return self


class StabilityPart(Spec):
    """A measure of rank stability at a fraction of training, against a threshold."""

    kind: Literal["stability"]
    row: Text
    measure: Text
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    at_least: float
    why: Text


AnyPart = Annotated[
    ValuePart | DifferencePart | RatioPart | StabilityPart, Field(discriminator="kind")
]


class Test(Spec):
    """A suite whose rows decide the claim; all parts must hold.

    `analogue`: the task or size differs from the claim's, so no outcome reproduces the paper's
    number. `leaves_out` names what is not tested.
    """

    suite: Text
    comparison: Text | None = None
    analogue: bool = False
    leaves_out: str = ""
    parts: Annotated[tuple[AnyPart, ...], Field(strict=False, min_length=1)]


class Claim(Spec):
    """One published statement, with the tests that decide it or the reason why none does."""

    id: Text
    statement: Text
    source: Text
    confidence: Text
    dataset: str = ""
    metric: str = ""
    value: str = ""
    plus_minus: str = ""
    note: str = ""
    not_run: str = ""
    tests: Annotated[tuple[Test, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _tested_or_not(self) -> Claim:
        if bool(self.tests) == bool(self.not_run):
            raise ValueError("give either tests or not_run, the reason why there are none")
        if self.number is not None and not math.isfinite(self.number):
            raise ValueError(
                f"value {shown(self.value)} of claim {cut(self.id)}: it must be finite"
            )
        return self

    @property
    def number(self) -> float | None:
        """The published value, where it is one number."""
        try:
            return float(self.value)
        except ValueError:
            return None


class Claims(Spec):
    """A file of claims. Tests refer to tolerances by name, so that each reason is given once."""

    tolerances: dict[str, Tolerance] = Field(default_factory=dict)
    claims: Annotated[tuple[Claim, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _names_are_known(self) -> Claims:
        ids = [claim.id for claim in self.claims]
        twice = next((one for one, count in Counter(ids).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"claim {cut(twice)} is listed twice")
        for claim in self.claims:
            for test in claim.tests:
                for part in test.parts:
                    try:
                        self._check(claim, part)
                    except ValueError as error:
                        raise ValueError(f"claim {claim.id}: {error}") from None
        return self

    def _check(self, claim: Claim, part: Any) -> None:
        size = "size" if getattr(part, "at_states", None) is not None else None
        for name in (getattr(part, "tolerance", None), getattr(part, "margin", None), size):
            if name is not None and name not in self.tolerances:
                listed = ", ".join(self.tolerances) or "none"
                raise ValueError(f"no tolerance {shown(name)}; use one of {listed}")
        columns = {
            "value": ("column", VALUE_COLUMNS),
            "ratio": ("column", COST_COLUMNS),
            "stability": ("measure", MEASURES),
        }
        if part.kind in columns:
            field, allowed = columns[part.kind]
            if getattr(part, field) not in allowed:
                raise ValueError(
                    f"no {field} {shown(getattr(part, field))} for a {part.kind}; use one of "
                    f"{', '.join(allowed)}"
                )
        if part.kind == "difference":
            margin = self.tolerances[part.margin].points
            if margin is None or (margin == 0 and part.goal in ("noninferior", "equivalent")):
                raise ValueError(f"margin {shown(part.margin)}: {part.goal} needs points above 0")
        by_value = part.kind == "value" or (part.kind == "ratio" and part.tolerance is not None)
        if by_value and part.value is None and claim.number is None:
            raise ValueError(
                f"{shown(claim.value)} is not one number: the test must name its value"
            )


known(Claims, Claim, Tolerance)
