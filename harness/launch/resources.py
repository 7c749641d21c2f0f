"""What the trials of a run ask for: from the command line, else the suite, else the defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.tools.inputs import shown

from .jobs import Shape

if TYPE_CHECKING:
    from harness.suite import SuiteResources, TrialSpec

MOST_CPUS, MOST_GPUS, MOST_BYTES = 2**20, 1024, 2**50
GPUS = "--gpus takes 0, a part of one from 0.0001, a whole number or auto, not {}"
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(rf"(\d{{1,15}}(?:\.\d{{1,15}})?) ?({'|'.join(UNITS)})", re.ASCII)
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Resources:
    """What one trial asks for. `memory` is in bytes, which Ray sets aside; `gpu_bytes` is that of a
    GPU, from which `auto` follows."""

    cpus: int = 1
    gpus: float | Literal["auto"] = 0.0
    memory: int = 0
    accelerator: str | None = None
    gpu_bytes: int = 0

    def __post_init__(self) -> None:
        check_counts(self.cpus, self.gpus)
        if self.accelerator is not None and not _TYPE.fullmatch(self.accelerator):
            raise ValueError(
                f"--accelerator takes a type as Ray names it, like A100, not "
                f"{shown(self.accelerator)}"
            )
        if self.accelerator is not None and not self.gpus:
            raise ValueError(f"--accelerator {self.accelerator} needs --gpus")

    def shape_of(self, trial: TrialSpec) -> Shape:
        """What the worker of this trial must have."""
        gpus = self.gpus
        if gpus == "auto":
            from harness.planning.gpu_share import gpu_share

            gpus = gpu_share(trial, self.gpu_bytes)
        return Shape(self.cpus, gpus, self.memory, self.accelerator)

    def at(self, address: str) -> Resources:
        """With the memory of the GPUs at this address, as far as it is needed.

        Raises:
            ValueError: `auto` on this machine, which has no GPU.
        """
        if self.gpus != "auto":
            return self
        from harness.planning.gpu_share import gpu_memory

        return replace(self, gpu_bytes=gpu_memory(address, self.accelerator))


def chosen(
    suite: SuiteResources | None,
    cpus: int | None,
    gpus: float | str | None,
    memory: str | None,
    accelerator: str | None,
    default_cpus: int,
) -> Resources:
    """What is given, else what the suite says, else the default.

    Raises:
        ValueError: what no trial can ask for.
    """
    own = {} if suite is None else suite.model_dump(exclude_none=True)
    given = {"cpus": cpus, "gpus": gpus, "memory": memory, "accelerator": accelerator}
    wanted = own | {name: value for name, value in given.items() if value is not None}
    return Resources(
        wanted.get("cpus", default_cpus),
        _gpus(wanted.get("gpus", 0.0)),
        size(wanted["memory"]) if "memory" in wanted else 0,
        wanted.get("accelerator"),
    )


def _gpus(given: float | str) -> float | Literal["auto"]:
    if given == "auto":
        return "auto"
    try:
        return float(given)
    except ValueError:
        raise ValueError(GPUS.format(shown(given))) from None


def size(text: str) -> int:
    """Bytes, from text like 8GB or 7.5 GiB.

    Raises:
        ValueError: it says nothing of that kind.
    """
    found = _SIZE.fullmatch(text)
    count = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if not 0 < count <= MOST_BYTES:
        raise ValueError(f"--memory takes a size like 8GB or 7.5GiB, not {shown(text)}")
    return count


def check_counts(cpus: int, gpus: float | Literal["auto"]) -> None:
    """Raise ValueError for CPUs or GPUs that no trial can have."""
    if isinstance(cpus, bool) or not isinstance(cpus, int) or not 1 <= cpus <= MOST_CPUS:
        raise ValueError(f"--cpus takes a whole number from 1 to {MOST_CPUS}, not {shown(cpus)}")
    if gpus == "auto":
        return
    number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
    # Ray counts whole GPUs, or ten-thousandths of one.
    if not number or not (1e-4 <= gpus < 1.0 or (0 <= gpus <= MOST_GPUS and gpus == int(gpus))):
        raise ValueError(GPUS.format(shown(gpus)))


__all__ = ["Resources", "chosen", "size"]
