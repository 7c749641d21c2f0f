"""The base of all task specs: what a plan needs before any data exist."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.spec import Spec
from harness.tasks.base import Family, Metric, TaskInfo

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Examples = Annotated[int, Field(ge=1, le=10_000_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TaskSpecBase(Spec):
    """The base of all task specs. `split_seed` draws the data and their split, never the run's.

    `origin` says where the data come from; `installed` whether they came with a package that is
    here anyway, rather than being made or fetched into the data folder; `archives` which files
    are fetched for them. Under the protocols in `split_by_run` the run's seed draws the split.
    """

    family: ClassVar[Family]
    metric: ClassVar[Metric]
    origin: ClassVar[str]
    installed: ClassVar[bool] = False
    archives: ClassVar[tuple[str, ...]] = ()
    split_by_run: ClassVar[frozenset[str]] = frozenset()

    split_seed: Seed = 0

    @property
    def info(self) -> TaskInfo:
        """The shapes, known before any data are read."""
        raise NotImplementedError

    @property
    def from_archives(self) -> bool:
        """Whether the data come from `archives`, which may have to be downloaded."""
        return bool(self.archives)

    @property
    def train_size(self) -> int | None:
        """Training examples; None where only reading the data can tell."""
        return None

    @property
    def validation_size(self) -> int | None:
        """Validation examples; None where only reading the data can tell."""
        return getattr(self, "validation", None)

    @property
    def data_bytes(self) -> int | None:
        """Bytes of memory that a process cannot do without while it holds the data, at least;
        None where only reading them can tell. What stays on disk, mapped, does not count."""
        return None
