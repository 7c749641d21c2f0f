"""Distillation: a small model from scratch that also learns from the full model's answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .sized import SizedArm


class DistillSpec(SizedArm):
    """The teacher is the selected model of the `full` trial of the same seed.

    Loss: alpha T^2 CE(softmax(teacher / T), softmax(student / T)) + (1 - alpha) CE(labels), with
    temperature T, as in the paper's code. The teacher's forward pass is part of the training's
    cost, its training part of the cost of the whole way.
    """

    needs_full: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    kind: Literal["distill"]
    temperature: Annotated[float, Field(gt=0.0)] = 2.0
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
