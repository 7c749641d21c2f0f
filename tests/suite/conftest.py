"""A small suite in two comparisons."""

import pytest

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)

TRUNCATED = InTrainingSpec(kind="in_training", tau=0.2)


@pytest.fixture
def suite():
    digits = Comparison(
        task=TaskSpec(name="digits"),
        model=LRUSpec(blocks=2, width=8),
        training=TrainingSpec(steps=100),
        arms={
            "full": FullSpec(kind="full"),
            "in_training tau=0.2": TRUNCATED,
            "post_hoc": PostHocSpec(kind="post_hoc", match="seed", to=TRUNCATED),
            "small": SmallSpec(kind="small", match="mean", to=TRUNCATED),
        },
        seeds=(0, 3),
    )
    bytes_ = Comparison(
        name="bytes", task=TaskSpec(name="pylib", window=64), arms={"full": FullSpec(kind="full")}
    )
    return Suite(name="example", comparisons=(digits, bytes_))
