"""What each part of in-training truncation is worth: one change at a time, at equal final size.

`digits` runs on a laptop and includes all rival arms; `smnist` has the sizes of the paper's
ablations (256 to 32 states in equal cuts).
"""

from collections.abc import Sequence
from typing import Any

from harness.suite import (
    Comparison,
    DistillSpec,
    FullSpec,
    HankelRegularizedSpec,
    InTrainingSpec,
    LRUSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
    grid,
)

COUNTS = (1, 2, 4, 8, 16)


def ablations(
    final: int, end: float, windows: Sequence[tuple[str, float, float]], **base: Any
) -> dict:
    """Equal cuts to `final` states by `end`, and each variant of them."""

    def cuts(**changes: Any) -> InTrainingSpec:
        fields: dict[str, Any] = {"rule": "fixed", "final": final, "end": end, **base, **changes}
        return InTrainingSpec(**fields)

    return {
        "full": FullSpec(),
        "small": SmallSpec(state_dims=(final,)),
        **{f"keep {which}": cuts(keep=which) for which in ("largest", "smallest", "random")},
        **{f"count {count}": cuts(count=count) for count in COUNTS},
        **{f"window {name}": cuts(start=first, end=last) for name, first, last in windows},
        "pragmatic": cuts(rule="pragmatic", final=None, end=1.0, count=20),
        **{f"moments {how}": cuts(moments=how) for how in ("transport", "slice", "reset")},
    }


def compress(final: int, **fields: Any) -> PostHocSpec:
    """Train, then compress to `final` states."""
    return PostHocSpec(state_dims=(final,), **fields)


def regularize(final: int, penalty: Any, weight: float) -> HankelRegularizedSpec:
    """Train with a penalty on Hankel singular values, then truncate to `final` states."""
    return HankelRegularizedSpec(
        kind="hankel_regularized", state_dims=(final,), penalty=penalty, weight=weight
    )


def rivals(final: int, near: int) -> dict:
    """All rival arms at `final` states, and two at a size near the full one.

    Weights and the fine-tuning rate are those with the best validation in `digits_knobs`.
    """
    by_energy = InTrainingSpec(tau=0.1, end=0.4)
    methods = ("singular_perturbation", "last", "aire", "modal", "random")
    return {
        "in_training tau=0.1": by_energy,
        "small tau=0.1": SmallSpec(match="seed", to=by_energy),
        "post_hoc": compress(final),
        **{f"post_hoc {method}": compress(final, method=method) for method in methods},
        "post_hoc tuned": compress(final, finetune_share=0.1, finetune_lr_factor=1.0),
        "distill": DistillSpec(state_dims=(final,)),
        f"distill N={near}": DistillSpec(state_dims=(near,)),
        f"small N={near}": SmallSpec(state_dims=(near,)),
        "hankel_regularized": regularize(final, "adjoint", 0.3),
        "hankel_regularized modal": regularize(final, "modal", 0.1),
    }


def knobs(final: int) -> dict:
    """The rivals' knobs without published values for this task, on a grid."""
    weights = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    tunings = [(factor, share) for factor in (0.1, 0.3, 1.0) for share in (0.1, 0.2)]
    return {
        "full": FullSpec(),
        **grid("adjoint weight", weights, lambda w: regularize(final, "adjoint", w)),
        **grid("modal weight", weights, lambda w: regularize(final, "modal", w)),
        **{
            f"tuned lr x{factor}, steps x{share}": compress(
                final, finetune_share=share, finetune_lr_factor=factor
            )
            for factor, share in tunings
        },
    }


# The paper's: 0-20k, 25-45k, 50-70k, 100-120k, 150-170k of 200k steps.
WINDOWS = (
    ("0-10", 0.0, 0.1),
    ("12-22", 0.125, 0.225),
    ("25-35", 0.25, 0.35),
    ("50-60", 0.5, 0.6),
    ("75-85", 0.75, 0.85),
)

DIGITS = Comparison(
    task=TaskSpec(name="digits"),
    model=LRUSpec(blocks=1, width=8, state_dim=64),
    training=TrainingSpec(steps=1500, batch_size=50, lr=0.01),
    arms=ablations(8, 0.4, WINDOWS) | rivals(8, 32),
    seeds=tuple(range(10)),
)
digits = Suite(
    name="ablations.digits",
    description="Every way to 8 of 64 states, and every ablation, on handwritten digits.",
    comparisons=(DIGITS,),
)
digits_knobs = Suite(
    name="ablations.digits_knobs",
    description="What the rivals' free knobs are set to: by validation, on seeds of their own.",
    comparisons=(DIGITS.model_copy(update={"arms": knobs(8), "seeds": (100, 101, 102)}),),
)

# The paper's model and data, with windows and counts as stated rather than rounded to evaluations.
smnist = Suite(
    name="ablations.smnist",
    description="The paper's ablations on sequential MNIST: 256 to 32 states in equal cuts.",
    comparisons=(
        Comparison(
            task=TaskSpec(name="smnist", time_channel=True),
            model=LRUSpec(
                blocks=1,
                width=8,
                state_dim=256,
                dropout=0.1,
                dropout_mask="shared",
                norm="ema_batch",
            ),
            training=TrainingSpec(
                steps=200_000,
                batch_size=50,
                lr=4e-4,
                ssm_lr_factor=1.0,
                weight_decay=0.0,
                schedule="constant",
                evaluate_every=5_000,
            ),
            arms=ablations(32, 0.1, WINDOWS, moments="slice"),
            seeds=(8, 42, 123, 456, 789, 101, 202, 303, 404, 505),
        ),
    ),
)
