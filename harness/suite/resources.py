"""What each trial of a suite asks for, unless the command line says otherwise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.spec import Spec


class SuiteResources(Spec):
    """CPUs, GPUs (whole ones, a fraction, or `auto`), memory (`"8GB"`) and the type of GPU
    (`"A100"`) of one trial. None leaves it to the command line and its defaults.

    They are no part of a trial: the same trial on another machine keeps its id.
    """

    cpus: Annotated[int, Field(ge=1, le=2**20)] | None = None
    gpus: Annotated[float, Field(ge=0.0, le=1024.0)] | Literal["auto"] | None = None
    memory: Annotated[str, Field(max_length=40)] | None = None
    accelerator: Annotated[str, Field(max_length=63)] | None = None


__all__ = ["SuiteResources"]
