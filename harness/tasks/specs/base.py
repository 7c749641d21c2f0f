"""The base of all task specs: what a plan needs before any data exist."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field

from harness.spec import Spec
from harness.tasks.base import Family, TaskInfo
from harness.tasks.metrics import Metric

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Examples = Annotated[int, Field(ge=1, le=10_000_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TaskSpecBase(Spec):
    """The base of all task specs. `split_seed` draws the data and their split, never the run's.

    `implementation` names the task's class, as MODULE:CLASS, which is imported when it is built;
    a plug-in may give the class itself, or a function of the spec and the data folder.
    `origin` says where the data come from; `installed` whether they came with a package that is
    here anyway, rather than being made or fetched into the data folder; `archives` which files
    are fetched for them, and `archive_uses` which option needs one, where not all do; `folder`
    where the processed data are kept, where that is not the task's name. Under the protocols in
    `split_by_run` the run's seed draws the split.
    """

    family: ClassVar[Family]
    metric: ClassVar[Metric]
    origin: ClassVar[str]
    implementation: ClassVar[Any]
    folder: ClassVar[str | None] = None
    installed: ClassVar[bool] = False
    archives: ClassVar[tuple[str, ...]] = ()
    archive_uses: ClassVar[Mapping[str, str]] = MappingProxyType({})
    split_by_run: ClassVar[frozenset[str]] = frozenset()

    if TYPE_CHECKING:  # each spec's own, a `Literal` by which unions tell them apart
        name: Any

    split_seed: Seed = 0

    @classmethod
    def task_name(cls) -> str:
        """The name that asks for this task."""
        return str(get_args(cls.model_fields["name"].annotation)[0])

    @property
    def info(self) -> TaskInfo:
        """The shapes, known before any data are read."""
        raise NotImplementedError

    @property
    def from_archives(self) -> bool:
        """Whether the data come from `archives`, which may have to be downloaded, or from files of
        the user's: they are then processed before a launch, where one sees what is wrong."""
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
