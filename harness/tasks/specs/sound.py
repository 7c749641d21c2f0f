"""The specs of recorded sound, from its original archive."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.tasks.base import Family, TaskInfo
from harness.tasks.metrics import Metric

from .base import Examples, TaskSpecBase

WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four",
    "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right",
    "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
TEN_WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")


class SpeechCommandsSpec(TaskSpecBase):
    """Speech Commands v0.02, 35 words, one second as 16,000 raw samples in [-1, 1].

    Shorter clips are padded with silence on the right. `rate=8000` keeps every second sample, to
    test a model trained at 16 kHz at half that rate. Split by the official lists.
    train, validation, test: at most so many clips, the first of each split; None takes all.
    """

    family: ClassVar[Family] = "audio"
    metric: ClassVar[Metric] = "accuracy"
    origin: ClassVar[str] = "Speech Commands v0.02's archive"
    implementation: ClassVar[str] = "harness.tasks.sound.speech_commands:SpeechCommands"
    archives: ClassVar[tuple[str, ...]] = ("speech_commands_v0.02.tar.gz",)
    words: ClassVar[tuple[str, ...]] = WORDS

    name: Literal["speech_commands"]
    rate: Literal[16_000, 8_000] = 16_000
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=len(self.words), length=self.rate, inputs=1)


class Sc10Spec(SpeechCommandsSpec):
    """Ten of the words of Speech Commands: the commands proper."""

    words: ClassVar[tuple[str, ...]] = TEN_WORDS

    name: Literal["sc10"]  # type: ignore[assignment]
