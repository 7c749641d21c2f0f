"""What can be asked of each task: one frozen, validated model per task, without any data.

A spec also knows what a plan needs before any data exist: family, metric and shapes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.tasks.base import Family, Metric, TaskInfo

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Examples = Annotated[int, Field(ge=1, le=10_000_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]


class TaskSpecBase(BaseModel):
    """The base of all task specs. `split_seed` draws the data and their split, never the run's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: ClassVar[Family]
    metric: ClassVar[Metric]

    split_seed: Seed = 0

    @property
    def info(self) -> TaskInfo:
        """The shapes, known before any data are read."""
        raise NotImplementedError

    @property
    def train_size(self) -> int | None:
        """Training examples; None where only reading the data can tell."""
        raise NotImplementedError


class DigitsSpec(TaskSpecBase):
    """Handwritten digits of scikit-learn, 8 x 8 pixels read one by one."""

    family: ClassVar[Family] = "long_range"
    metric: ClassVar[Metric] = "accuracy"

    name: Literal["digits"]

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=10, length=64, inputs=1)

    @property
    def train_size(self) -> int | None:
        return 1000


class PylibSpec(TaskSpecBase):
    """Next byte of the source text of the running Python's standard library.

    window: bytes predicted per example. train, validation, test: at most so many windows, drawn by
    `split_seed`; None takes all of the split.
    """

    family: ClassVar[Family] = "language"
    metric: ClassVar[Metric] = "bits_per_byte"

    name: Literal["pylib"]
    window: Annotated[int, Field(ge=2, le=65_536)] = 256
    train: Examples | None = None
    validation: Examples | None = 1000
    test: Examples | None = 2000

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("next_token", outputs=256, length=self.window, vocabulary=256)

    @property
    def train_size(self) -> int | None:
        return self.train


class ListopsSpec(TaskSpecBase):
    """Nested list operations by the Long Range Arena generator; the defaults are its full scale.

    min_length and max_length are strict bounds on the number of tokens; `length` is the padded
    length, which must hold the longest expression and the end mark.
    """

    family: ClassVar[Family] = "long_range"
    metric: ClassVar[Metric] = "accuracy"

    name: Literal["listops"]
    train: Examples = 96_000
    validation: Examples = 2_000
    test: Examples = 2_000
    min_length: Annotated[int, Field(ge=0, le=100_000)] = 500
    max_length: Annotated[int, Field(ge=2, le=100_000)] = 2_000
    max_depth: Annotated[int, Field(ge=2, le=50)] = 10
    max_args: Annotated[int, Field(ge=2, le=100)] = 10
    length: Steps = 2_048

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=10, length=self.length, vocabulary=18)

    @property
    def train_size(self) -> int | None:
        return self.train

    @model_validator(mode="after")
    def _bounds_can_be_met(self) -> Self:
        if self.max_length - self.min_length < 2:
            raise ValueError(
                f"no length lies strictly between min_length {self.min_length} "
                f"and max_length {self.max_length}"
            )
        if self.length < self.max_length:
            raise ValueError(
                f"length {self.length} is too short for expressions of up to "
                f"{self.max_length - 1} tokens and an end mark: it must be at least max_length"
            )
        longest = 1
        for _ in range(self.max_depth - 1):
            longest = min(2 + self.max_args * longest, self.max_length)
        if longest <= self.min_length:
            raise ValueError(
                f"with max_depth {self.max_depth} and max_args {self.max_args} the longest "
                f"expression has {longest} tokens: none exceeds min_length {self.min_length}"
            )
        return self


class VowelsSpec(TaskSpecBase):
    """Ten synthetic vowels as raw waveforms of 8 kHz.

    Scatters and jitter are standard deviations of the logarithm (a fraction, roughly): of a
    speaker's pitch, of the length of the vocal tract (all formants together), of each formant by
    itself, of one glottal period to the next. snr_min and snr_max bound the signal-to-noise ratio
    in dB.
    """

    family: ClassVar[Family] = "audio"
    metric: ClassVar[Metric] = "accuracy"

    name: Literal["vowels"]
    length: Annotated[int, Field(ge=64, le=160_000)] = 2_048
    train: Examples = 20_000
    validation: Examples = 10_000
    test: Examples = 10_000
    pitch_scatter: Annotated[float, Field(ge=0, le=0.5)] = 0.12
    tract_scatter: Annotated[float, Field(ge=0, le=0.2)] = 0.04
    formant_scatter: Annotated[float, Field(ge=0, le=0.2)] = 0.04
    jitter: Annotated[float, Field(ge=0, le=0.1)] = 0.01
    snr_min: Annotated[float, Field(ge=-20, le=80)] = 10.0
    snr_max: Annotated[float, Field(ge=-20, le=80)] = 30.0

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=10, length=self.length, inputs=1)

    @property
    def train_size(self) -> int | None:
        return self.train

    @model_validator(mode="after")
    def _noise_range(self) -> Self:
        if self.snr_min > self.snr_max:
            raise ValueError(f"snr_min {self.snr_min} is above snr_max {self.snr_max}")
        return self


TASK_SPECS: tuple[type[TaskSpecBase], ...] = (DigitsSpec, ListopsSpec, PylibSpec, VowelsSpec)
