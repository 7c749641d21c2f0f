"""The specs of texts, from their original archives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.tasks.base import Family, TaskInfo
from harness.tasks.metrics import Metric

from .base import Examples, Share, TaskSpecBase

Vocabulary = Annotated[int, Field(ge=8, le=200_000)]
Frequency = Annotated[int, Field(ge=1, le=1_000_000_000_000)]
Window = Annotated[int, Field(ge=2, le=65_536)]


class ImdbSpec(TaskSpecBase):
    """Film reviews, positive or negative, character by character.

    Cut after length - 1 characters, an end mark, padded on the right. Tokens: 0 padding, 1 unknown,
    2 end mark, then the characters that occur at least `min_frequency` times in the training
    reviews, the most frequent first, `vocabulary` tokens at most (code of the S4 family counts 135
    in all, which was not verified; tokens that never occur change nothing). Validation is
    `validation_share` of the training reviews, drawn by `split_seed`, or, as in the paper's
    release, the test set (`validation_from="test"`).
    """

    family: ClassVar[Family] = "language"
    metric: ClassVar[Metric] = "accuracy"
    origin: ClassVar[str] = "the Large Movie Review Dataset's archive"
    implementation: ClassVar[str] = "harness.tasks.text.imdb:Imdb"
    archives: ClassVar[tuple[str, ...]] = ("aclImdb_v1.tar.gz",)

    name: Literal["imdb"]
    length: Annotated[int, Field(ge=2, le=1_000_000)] = 4_096
    min_frequency: Frequency = 15
    vocabulary: Vocabulary = 192
    validation_from: Literal["train", "test"] = "train"
    validation_share: Share = 0.1
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=2, length=self.length, vocabulary=self.vocabulary)


class AanSpec(TaskSpecBase):
    """Pairs of papers of the ACL Anthology Network: does one cite the other?

    Each document cut after length - 1 characters, an end mark, padded on the right; tokens as for
    `imdb`, from both columns of the training pairs (about 98, says a comment in the paper's code).
    """

    family: ClassVar[Family] = "language"
    metric: ClassVar[Metric] = "accuracy"
    origin: ClassVar[str] = "the Long Range Arena's release (pairs) with AAN's texts"
    implementation: ClassVar[str] = "harness.tasks.text.aan:Aan"
    archives: ClassVar[tuple[str, ...]] = ("lra_release.gz",)

    name: Literal["aan"]
    length: Annotated[int, Field(ge=2, le=1_000_000)] = 4_096
    min_frequency: Frequency = 1
    vocabulary: Vocabulary = 128
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    @property
    def info(self) -> TaskInfo:
        return TaskInfo(
            "classification",
            outputs=2,
            length=self.length,
            vocabulary=self.vocabulary,
            paired=True,
        )


class _CorpusSpec(TaskSpecBase):
    """Next byte of a long text, in windows that do not overlap.

    window: bytes predicted per example. train, validation, test: at most so many windows, drawn by
    `split_seed`; None takes all of the split.
    """

    family: ClassVar[Family] = "language"
    metric: ClassVar[Metric] = "bits_per_byte"

    window: Window = 512
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("next_token", outputs=256, length=self.window, vocabulary=256)


class Text8Spec(_CorpusSpec):
    """text8: 100 MB of Wikipedia in 27 symbols, split 90 / 5 / 5 %."""

    origin: ClassVar[str] = "text8.zip"
    implementation: ClassVar[str] = "harness.tasks.text.corpora:Text8"
    archives: ClassVar[tuple[str, ...]] = ("text8.zip",)

    name: Literal["text8"]

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("next_token", outputs=27, length=self.window, vocabulary=27)


class Enwik8Spec(_CorpusSpec):
    """enwik8: the first 100 MB of Wikipedia's XML, split 90 / 5 / 5 %."""

    origin: ClassVar[str] = "enwik8.zip"
    implementation: ClassVar[str] = "harness.tasks.text.corpora:Enwik8"
    archives: ClassVar[tuple[str, ...]] = ("enwik8.zip",)

    name: Literal["enwik8"]


class Wikitext103Spec(_CorpusSpec):
    """WikiText-103 by bytes, split as released: the `raw` text, or that with its `tokens` set."""

    origin: ClassVar[str] = "WikiText-103's archives"
    implementation: ClassVar[str] = "harness.tasks.text.corpora:Wikitext103"
    archives: ClassVar[tuple[str, ...]] = ("wikitext-103-raw-v1.zip", "wikitext-103-v1.zip")
    archive_uses: ClassVar[Mapping[str, str]] = {
        "wikitext-103-raw-v1.zip": "edition=raw",
        "wikitext-103-v1.zip": "edition=tokens",
    }

    name: Literal["wikitext103"]
    edition: Literal["raw", "tokens"] = "raw"
