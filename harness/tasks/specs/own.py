"""The specs of users' own data, read as they are: arrays and tables, texts, sounds.

The files are inspected when a spec is made, and described in its `content`, whose SHA-256 is part
of its identity. Their path is not: a file that was moved is the same data, one that was changed is
other data.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from harness.spec import Spec
from harness.tasks.base import Family, TaskInfo
from harness.tasks.metrics import Metric
from harness.tasks.own.content import located

from .base import Examples, Share, TaskSpecBase


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


Location = Annotated[str, BeforeValidator(_as_text), Field(max_length=4_096)]
Column = Annotated[str, Field(min_length=1, max_length=1_000)]
Columns = Annotated[tuple[Column, ...], Field(strict=False, min_length=1, max_length=10_000)]
Positive = Annotated[int, Field(ge=1)]


class Content(Spec):
    """What files hold, as far as a plan needs it; None means that the task does not use a field.

    path: where they were found; sha256: of all their bytes; examples: those of all splits together;
    train, validation: those of these splits, before any cap; length, inputs, vocabulary,
    outputs: as in `TaskInfo`.
    """

    path: Location
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    examples: Positive | None = None
    train: Positive | None = None
    validation: Positive | None = None
    length: Positive | None = None
    inputs: Positive | None = None
    vocabulary: Positive | None = None
    outputs: Positive | None = None


class OwnSpec(TaskSpecBase):
    """The base of tasks that read the user's files.

    path: a file or folder; a relative one starts in the folder of the suite's file, or of the
    trial's JSON, else in the working directory. content: what the files hold, filled in if it is
    missing or of another path, and verified when the data are read. validation_share,
    test_share: of all examples, if no splits are given; train, validation, test: at most so
    many, the first of each split; None takes all. `inspected_by` names the function that inspects
    the files, as MODULE:FUNCTION.
    """

    inspected_by: ClassVar[str]
    not_identity: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"path": True, "content": set(Content.model_fields) - {"sha256"}}
    )

    path: Location
    content: Content | None = None
    validation_share: Share = 0.1
    test_share: Share = 0.1
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    def look(self, path: Path) -> Content:
        """What the files at `path` hold. Raises ValueError if the task cannot read them."""
        module, _, function = self.inspected_by.partition(":")
        content = getattr(importlib.import_module(module), function)(self, path)
        assert isinstance(content, Content)
        return content

    @model_validator(mode="after")
    def _look(self) -> Self:
        if self.validation_share + self.test_share >= 1.0:
            raise ValueError(
                f"validation_share {self.validation_share:g} and test_share {self.test_share:g} "
                "leave nothing to train on"
            )
        # (the value is frozen, but nobody else has it yet)
        path = located(self.path)
        vars(self)["path"] = str(path)
        if self.content is None or self.content.path != str(path):
            vars(self)["content"] = self.look(path)
        self.info  # noqa: B018  a content of another task, or of other options
        return self

    def seen(self, field: str) -> Any:
        """A field of `content`. Raises ValueError if it is missing."""
        value = getattr(self.content, field)
        if value is None:
            raise ValueError(f"content has no {field}: leave it out, and it is filled in")
        return value

    @property
    def from_archives(self) -> bool:
        return True

    @property
    def train_size(self) -> int | None:
        return self._size("train")

    @property
    def validation_size(self) -> int | None:
        return self._size("validation")

    def _size(self, split: str) -> int | None:
        sizes = [getattr(self, split), getattr(self.content, split)]
        return min((size for size in sizes if size is not None), default=None)


class ArraysSpec(OwnSpec):
    """Sequences from an .npz, .parquet or .csv file, or from a folder of them.

    predict: a `class` (integers or texts), a `value` (numbers, one or several), or the `next_step`
    of x itself; per: one class or value per `sequence`, or one at each `step`.
    An .npz holds `x` (n, length, channels) numbers, or (n, length) integers, which are tokens; `y`
    (n,) or (n, targets), at each step (n, length) or (n, length, targets); and if need be `lengths`
    (n,), the steps that count, and `split` (n,), each train, validation or test.
    A table has one row a step, in the order of time; x_columns, y_columns, sequence_column (rows of
    one sequence have one value; without it a file is one sequence) and split_column name its
    columns.
    window: cut sequences into pieces of so many steps, and drop what is left; the pieces are split
    as sequences are, so that order="listed" keeps neighbours together.
    In a folder, files named train, validation and test are the splits. Where none are given,
    `validation_share` and `test_share` of the sequences are drawn by `split_seed`, with the same
    mix of classes, or with order="listed" are the last ones.
    normalise_x, normalise_y: subtract each channel's mean over the training split, and divide by
    its standard deviation; errors are then in units of that deviation. error: the metric.
    """

    family: ClassVar[Family] = "own"
    origin: ClassVar[str] = "your own .npz, .parquet or .csv: --set path=FILE_OR_FOLDER"
    implementation: ClassVar[str] = "harness.tasks.own.arrays:Arrays"
    inspected_by: ClassVar[str] = "harness.tasks.own.sequences:look"

    name: Literal["arrays"]
    predict: Literal["class", "value", "next_step"] = "class"
    per: Literal["sequence", "step"] = "sequence"
    x_columns: Columns | None = None
    y_columns: Columns | None = None
    sequence_column: Column | None = None
    split_column: Column | None = None
    window: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    order: Literal["random", "listed"] = "random"
    normalise_x: bool = True
    normalise_y: bool = True
    error: Literal["mean_squared", "root_mean_squared"] = "root_mean_squared"

    @property
    def metric(self) -> Metric:  # type: ignore[override]
        if self.predict == "class":
            return "accuracy"
        if self.predict == "next_step" and self.content and self.content.vocabulary:
            return "bits_per_token"
        squared: dict[str, Metric] = {
            "mean_squared": "mean_squared_error",
            "root_mean_squared": "root_mean_squared_error",
        }
        return squared[self.error]

    @property
    def info(self) -> TaskInfo:
        vocabulary, outputs = self.content and self.content.vocabulary, self.seen("outputs")
        shapes: dict[str, Any] = {
            "outputs": outputs,
            "length": self.seen("length"),
            "inputs": None if vocabulary else self.seen("inputs"),
            "vocabulary": vocabulary,
        }
        if self.predict == "class":
            return TaskInfo("classification" if self.per == "sequence" else "next_token", **shapes)
        if self.predict == "next_step":
            return TaskInfo("next_token" if vocabulary else "regression", **shapes)
        return TaskInfo("regression", pooled=self.per == "sequence", **shapes)

    @property
    def data_bytes(self) -> int | None:
        return 8 * int(self.seen("examples"))  # rows; the sequences stay on disk


class TextFileSpec(OwnSpec):
    """The next byte or character of a file, or of all files in a folder and below.

    by: `byte` takes any file; `character` takes text in UTF-8, whose characters are the vocabulary.
    window: predicted per example; windows do not overlap. split_by: by `position`, the files are
    joined in the order of their paths, and the last parts validate and test; by `file`, whole files
    are drawn by `split_seed` (or go by their names, where these are train, validation and test).
    """

    family: ClassVar[Family] = "language"
    origin: ClassVar[str] = "your own file, or folder of files: --set path=FILE_OR_FOLDER"
    implementation: ClassVar[str] = "harness.tasks.own.text:TextFile"
    inspected_by: ClassVar[str] = "harness.tasks.own.texts:look"

    name: Literal["text_file"]
    by: Literal["byte", "character"] = "byte"
    window: Annotated[int, Field(ge=2, le=65_536)] = 256
    split_by: Literal["position", "file"] = "position"

    @property
    def metric(self) -> Metric:  # type: ignore[override]
        return "bits_per_byte" if self.by == "byte" else "bits_per_character"

    @property
    def info(self) -> TaskInfo:
        tokens = 256 if self.by == "byte" else int(self.seen("vocabulary"))
        return TaskInfo("next_token", outputs=tokens, length=self.window, vocabulary=tokens)


class AudioFolderSpec(OwnSpec):
    """Recordings, of any format that soundfile reads, in one sub-folder for each class.

    Each becomes `length` samples at `rate` Hz: the mean of its channels, resampled, cut at the end
    or followed by silence. Where the sub-folders are train, validation and test, with the classes'
    below them, they are the splits; else these are drawn by `split_seed`, with the same mix of
    classes. Files of other kinds are left out.
    """

    family: ClassVar[Family] = "audio"
    metric: ClassVar[Metric] = "accuracy"
    origin: ClassVar[str] = "your own recordings, a sub-folder a class: --set path=FOLDER"
    implementation: ClassVar[str] = "harness.tasks.own.audio:AudioFolder"
    inspected_by: ClassVar[str] = "harness.tasks.own.recordings:look"

    name: Literal["audio_folder"]
    rate: Annotated[int, Field(ge=100, le=768_000)] = 16_000
    length: Annotated[int, Field(ge=2, le=10_000_000)] = 16_000

    @property
    def info(self) -> TaskInfo:
        classes = int(self.seen("outputs"))
        return TaskInfo("classification", outputs=classes, length=self.length, inputs=1)

    @property
    def data_bytes(self) -> int | None:
        return 8 * int(self.seen("examples"))  # rows; the recordings stay on disk


__all__ = ["ArraysSpec", "AudioFolderSpec", "Content", "OwnSpec", "TextFileSpec"]
