"""What the task looks at: the scalars whose gradients weigh a layer's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from harness.tasks.base import UNSCORED

from .choice import PROJECTIONS, Target

Loss = Callable[[Any, Any], torch.Tensor]


def scalars(
    target: Target,
    logits: torch.Tensor,
    y: Any,
    loss: Loss | None,
    generator: torch.Generator,
) -> Iterator[torch.Tensor]:
    """Scalars, each a sum over the examples of a batch; the gradient of one is a sample.

    `loss`: the loss summed over examples. `label`: the true label's logit. `logits`: sum of +-1
    times every logit, so that E g g^T is J^T J. `fisher`: the loss at labels drawn from the
    model, E g g^T = J^T (diag p - p p^T) J, the Gauss-Newton matrix of the cross-entropy; of a
    regression, whose loss is half of squares, that is `logits`. Steps whose label is `UNSCORED`
    are in none of them; of the `loss`, as it does itself.

    Raises:
        ValueError: a target that does not fit, or that lacks what it needs.
    """
    if target == "loss":
        if loss is None or y is None:
            raise ValueError("target 'loss' needs `loss` and calibration batches (x, y)")
        found = loss(logits, y)
        if not isinstance(found, torch.Tensor):
            raise ValueError(f"`loss` must return a tensor, not {type(found).__name__}")
        yield found.sum() if found.ndim else found * len(logits)
    elif target == "label":
        if not _is_labels(y, logits):
            raise ValueError("target 'label' needs integer labels, one for each row of logits")
        scored = _scored(y, logits)
        right = logits.gather(-1, torch.where(scored, y, 0)[..., None])[..., 0]
        yield torch.where(scored, right, 0.0).sum()
    elif target == "fisher" and _is_labels(y, logits):
        p = logits.detach().flatten(0, -2).float().softmax(-1).cpu()
        drawn = torch.multinomial(p, 1, generator=generator)[:, 0].to(logits.device)
        drawn = torch.where(_scored(y, logits).flatten(), drawn, UNSCORED)
        yield cross_entropy(logits.flatten(0, -2), drawn, ignore_index=UNSCORED, reduction="sum")
    else:
        for _ in range(PROJECTIONS):
            signs = torch.randint(0, 2, logits.shape, generator=generator)
            weights = (2 * signs - 1).to(logits)
            if _is_labels(y, logits):
                weights = weights * _scored(y, logits)[..., None]
            yield (logits * weights).sum()


def _scored(y: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return (y != UNSCORED).to(logits.device)


def _is_labels(y: Any, logits: torch.Tensor) -> bool:
    if not isinstance(y, torch.Tensor) or y.is_floating_point():
        return False
    return y.shape == logits.shape[:-1]
