"""The search space of a study: ranges of the timing knobs, and the grid of truncations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from harness.arms import Arm, InTrainingSpec
from harness.spec import Spec
from harness.tools.inputs import cut, shown

TIMING = ("start", "end", "count", "tau")
OPTIONS = tuple(name for name in InTrainingSpec.model_fields if name not in (*TIMING, "kind"))
Choices = Annotated[tuple[Any, ...], Field(strict=False, min_length=1, max_length=1_000)]
DIGITS = 9  # decimals of a fraction of training, enough for runs of 10^8 steps


class Floats(Spec):
    """Real numbers from `low` to `high`, both included; `log` searches their logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.low >= self.high:
            kind = "empty" if self.low == self.high else "inverted"
            raise ValueError(f"the range {self.low} to {self.high} is {kind}: low must be below")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range starts above 0, not at {self.low}")
        return self


class Ints(Spec):
    """Whole numbers from `low` to `high`, both included; they may be the same."""

    low: int
    high: int

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"the range {self.low} to {self.high} is inverted")
        return self


class Setting(Spec):
    """One truncation timing as fields of an in-training arm; `options` holds its other fields."""

    start: float
    end: float
    count: int
    tau: float
    options: dict[str, Any] = Field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields of an in-training arm that this sets."""
        return {**{name: getattr(self, name) for name in TIMING}, **self.options}


class Space(Spec):
    """The knobs of a study. `start`, `length` and `end` are fractions of training.

    Give exactly one of `length` and `end`. `options` maps other fields of an in-training arm to
    the values to try.
    """

    start: Floats
    length: Floats | None = None
    end: Floats | None = None
    count: Ints
    tau: Floats
    options: dict[str, Choices] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within_the_arm(self) -> Self:
        if (self.length is None) == (self.end is None):
            raise ValueError("give exactly one of length and end")
        for name, values in self.options.items():
            if name not in OPTIONS:
                raise ValueError(
                    f"options.{cut(name)}: no such option; there are {', '.join(OPTIONS)}"
                )
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"options.{name}: values repeat: {shown(list(values))}")
            for value in values:
                _accepted(f"options.{name}", name, value)
        for name, knob in self.knobs().items():
            if isinstance(knob, Floats | Ints):
                for side in ("low", "high"):
                    value = getattr(knob, side)
                    value = three_digits(value) if name == "tau" else value
                    _accepted(f"{name}.{side}", "end" if name == "length" else name, value)
        if self.end is not None and self.end.high <= self.start.low:
            raise ValueError(
                f"end reaches {self.end.high} at most, which is not after the earliest start, "
                f"{self.start.low}"
            )
        return self

    @property
    def window(self) -> str:
        """The knob that says where the window ends: `length` or `end`."""
        return "end" if self.length is None else "length"

    def knobs(self) -> dict[str, Floats | Ints | tuple[Any, ...]]:
        """Every knob by name, in the order in which it is drawn."""
        ends = self.end if self.length is None else self.length
        assert ends is not None
        knobs: dict[str, Floats | Ints | tuple[Any, ...]] = {"start": self.start}
        knobs |= {self.window: ends, "count": self.count, "tau": self.tau}
        return knobs | {name: self.options[name] for name in sorted(self.options)}

    def params(self, setting: Setting, arm: Arm) -> dict[str, Any]:
        """A setting as values of the knobs. An option that it leaves out is taken from `arm`.

        Raises:
            ValueError: the space does not search an option, or does not try its value.
        """
        others = set(setting.options) - set(self.options)
        if others:
            raise ValueError(f"option {cut(min(others))} is not searched: add it to space.options")
        ends = setting.end if self.window == "end" else round(setting.end - setting.start, DIGITS)
        chosen = {**arm.model_dump(include=set(self.options)), **setting.options}
        for name, value in chosen.items():
            if value not in self.options[name]:
                tried = ", ".join(map(str, self.options[name]))
                raise ValueError(f"option {name} is {cut(str(value))}; space.options tries {tried}")
        given = {"start": setting.start, self.window: ends, **chosen}
        given |= {"count": setting.count, "tau": setting.tau}
        return {name: given[name] for name in self.knobs()}

    def longest(self, grid: int) -> int:
        """Grid points in the longest window."""
        if self.length is None:
            assert self.end is not None
            return int((self.end.high - self.start.low) * grid + 1e-9)
        return int(min(self.length.high, 1 - self.start.low) * grid + 1e-9)

    def events(self, params: Mapping[str, Any], grid: int) -> tuple[int, int, int]:
        """(s, gap, count): event k = 1..count comes at grid point s + gap k, never past `grid`.

        gap is the length over count, rounded, and at least 1. If the window would pass the end of
        training, gap shrinks first and then count. An end before the start gives gap 1.
        """
        start = grid_start(params["start"], grid)
        span = params["end"] * grid - start if self.window == "end" else params["length"] * grid
        return start, *_gaps(span, params["count"], grid - start)

    def setting(self, params: Mapping[str, Any], grid: int) -> Setting:
        """The setting for values of the knobs: on the grid, with tau rounded to three digits."""
        start, gap, count = self.events(params, grid)
        return Setting(
            start=round(start / grid, DIGITS),
            end=round((start + gap * count) / grid, DIGITS),
            count=count,
            tau=three_digits(params["tau"]),
            options={name: params[name] for name in self.options},
        )

    def first_events(self, grid: int) -> set[int]:
        """The grid points at which the first event of a setting in this space can fall."""
        first, last = grid_start(self.start.low, grid), grid_start(self.start.high, grid)
        # Imported here because this module is loaded with every suite.
        import numpy as np

        counts = np.arange(self.count.low, min(self.count.high, grid) + 1)
        more = np.zeros(2 * grid + 2, dtype=np.int64)  # intervals that begin, less those that end
        for start in range(first, last + 1):
            most = np.maximum(1, (grid - start) // counts)
            low, high = (
                np.minimum(np.maximum(1, np.rint(self._span(side, start, grid) / counts)), most)
                for side in ("low", "high")
            )
            np.add.at(more, start + low.astype(int), 1)
            np.subtract.at(more, start + high.astype(int) + 1, 1)
        return set(np.flatnonzero(np.cumsum(more) > 0).tolist())

    def _span(self, side: str, start: int, grid: int) -> float:
        ends = getattr(self.end or self.length, side) * grid
        return ends - start if self.window == "end" else ends


def grid_start(start: float, grid: int) -> int:
    """The grid point nearest to a start that leaves room for one event after it."""
    return min(round(start * grid), grid - 1)


def three_digits(tau: float) -> float:
    """tau to three significant digits, so that trial ids do not depend on the last bits."""
    return float(f"{tau:.3g}")


def _gaps(span: float, count: int, room: int) -> tuple[int, int]:
    gap = min(max(1, round(span / count)), max(1, room // count))
    return gap, min(count, room)


def _accepted(where: str, field: str, value: Any) -> None:
    """Raise ValueError if an in-training arm would not take this value for its field, whatever its
    other fields are."""
    try:
        InTrainingSpec.model_validate({"kind": "in_training", field: value})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            return  # of fields that do not fit together: the base's others are yet to come
        said = first["msg"]
        raise ValueError(f"{where}: {said[0].lower()}{said[1:]} (got {shown(value)})") from None
