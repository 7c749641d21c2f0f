"""The specs of images read pixel by pixel, from their original archives."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from harness.tasks.base import Family, TaskInfo
from harness.tasks.metrics import Metric

from .base import Examples, Seed, Share, TaskSpecBase


class _PixelSpec(TaskSpecBase):
    """Images whose training part is split by `split_seed`: `validation_share` of it validates.

    train, validation, test: at most so many examples, the first of each split; None takes all.
    `time_channel` puts step / length, in [0, 1), before the pixel's channels, as the paper's
    research code does and its release does not.
    """

    family: ClassVar[Family] = "long_range"
    metric: ClassVar[Metric] = "accuracy"
    split_by_run: ClassVar[frozenset[str]] = frozenset({"published", "release"})

    time_channel: bool = False
    validation_share: Share = 0.1
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None


class SmnistSpec(_PixelSpec):
    """MNIST, 28 x 28 pixels read row by row as 784 steps, scaled to [0, 1]."""

    origin: ClassVar[str] = "MNIST's four idx files"
    implementation: ClassVar[str] = "harness.tasks.images.mnist:Mnist"
    folder: ClassVar[str | None] = "mnist"
    archives: ClassVar[tuple[str, ...]] = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )

    name: Literal["smnist"]

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=10, length=784, inputs=1 + self.time_channel)


class PsmnistSpec(SmnistSpec):
    """MNIST's pixels in one fixed order for all images, drawn by `permutation_seed`."""

    name: Literal["psmnist"]  # type: ignore[assignment]
    permutation_seed: Seed = 0


class FashionSpec(SmnistSpec):
    """Fashion-MNIST, 28 x 28 pixels of ten kinds of clothing, read as `smnist` is."""

    origin: ClassVar[str] = "Fashion-MNIST's four idx files"
    folder: ClassVar[str | None] = "fashion"
    archives: ClassVar[tuple[str, ...]] = tuple(f"fashion-{a}" for a in SmnistSpec.archives)

    name: Literal["fashion"]  # type: ignore[assignment]


class ScifarSpec(_PixelSpec):
    """CIFAR-10, 32 x 32 pixels read row by row as 1,024 steps.

    `scaling="channel"` subtracts each channel's mean and divides by its standard deviation, by the
    paper's constants; `unit` scales to [0, 1]. `grayscale` makes one channel of three (ITU-R 601),
    for which there are no such constants: it needs `unit`.
    """

    origin: ClassVar[str] = "CIFAR-10's binary archive"
    implementation: ClassVar[str] = "harness.tasks.images.cifar:Cifar"
    folder: ClassVar[str | None] = "cifar"
    archives: ClassVar[tuple[str, ...]] = ("cifar-10-binary.tar.gz",)

    name: Literal["scifar"]
    grayscale: bool = False
    scaling: Literal["channel", "unit"] = "channel"

    @property
    def info(self) -> TaskInfo:
        channels = (1 if self.grayscale else 3) + self.time_channel
        return TaskInfo("classification", outputs=10, length=1024, inputs=channels)

    @model_validator(mode="after")
    def _grayscale_has_no_constants(self) -> Self:
        if self.grayscale and self.scaling == "channel":
            raise ValueError('grayscale needs scaling "unit": the constants are of three channels')
        return self


class PathfinderSpec(TaskSpecBase):
    """The Long Range Arena's Pathfinder: are the two marked tips ends of one contour?

    `difficulty` names the release's folders: easy (curv_baseline, contours of 6 paddles, which the
    paper's code uses), intermediate (9), hard (14, what the Long Range Arena and others use).
    Split 80 / 10 / 10, by `split_seed` or, with `order="listed"`, in the order of the files.
    `scaling` maps grey values to [0, 1] (unit) or [-1, 1] (signed).
    """

    family: ClassVar[Family] = "long_range"
    metric: ClassVar[Metric] = "accuracy"
    origin: ClassVar[str] = "the Long Range Arena's release"
    implementation: ClassVar[str] = "harness.tasks.pathfinder.pathfinder:Pathfinder"
    folder: ClassVar[str | None] = "pathfinder"
    archives: ClassVar[tuple[str, ...]] = ("lra_release.gz",)
    split_by_run: ClassVar[frozenset[str]] = frozenset({"release"})

    name: Literal["pathfinder"]
    resolution: Literal[32, 64, 128, 256] = 32
    difficulty: Literal["easy", "intermediate", "hard"] = "hard"
    scaling: Literal["unit", "signed"] = "unit"
    order: Literal["random", "listed"] = "random"
    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None

    @property
    def info(self) -> TaskInfo:
        return TaskInfo("classification", outputs=2, length=self.resolution**2, inputs=1)


class PathxSpec(PathfinderSpec):
    """Path-X: the Long Range Arena's Pathfinder at 128 x 128 pixels, 16,384 steps, or at 256."""

    name: Literal["pathx"]  # type: ignore[assignment]
    resolution: Literal[128, 256] = 128  # type: ignore[assignment]
