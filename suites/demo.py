"""The demo: four ways to a small model on four embedded tasks, in minutes on two cores."""

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


def four_ways(tau: float, end: float = 0.1, finetune_steps: int = 0) -> dict:
    """Full size, in-training truncation, and its two rivals at the size that it ends with."""
    in_training = InTrainingSpec(kind="in_training", tau=tau, end=end)
    return {
        "full": FullSpec(kind="full"),
        "in_training": in_training,
        "post_hoc": PostHocSpec(kind="post_hoc", match="seed", to=in_training),
        "small": SmallSpec(kind="small", match="seed", to=in_training),
    }


digits = Comparison(
    task=TaskSpec(name="digits"),
    model=LRUSpec(blocks=1, width=8, state_dim=64),
    training=TrainingSpec(steps=1500, batch_size=50, lr=0.01),
    arms=four_ways(tau=0.3),
    seeds=(0, 1, 2),
)
vowels = Comparison(
    task=TaskSpec(name="vowels", length=512, train=4000, validation=1000, test=2000),
    model=LRUSpec(blocks=1, width=8, state_dim=64),
    training=TrainingSpec(steps=600, batch_size=32, lr=0.01),
    arms=four_ways(tau=0.2),
    seeds=(0, 1, 2),
)
pylib = Comparison(
    task=TaskSpec(name="pylib", window=128, train=20000, validation=200, test=400),
    model=LRUSpec(blocks=1, width=32, state_dim=64),
    training=TrainingSpec(steps=400, batch_size=16, lr=0.01),
    arms=four_ways(tau=0.2),
    seeds=(0,),
)
listops = Comparison(
    task=TaskSpec(
        name="listops",
        train=4000,
        validation=500,
        test=1000,
        min_length=5,
        max_length=40,
        max_depth=3,
        max_args=5,
        length=40,
    ),
    model=LRUSpec(blocks=2, width=16, state_dim=64),
    training=TrainingSpec(steps=600, batch_size=32, lr=0.01),
    arms=four_ways(tau=0.2),
    seeds=(0,),
)

suite = Suite(
    name="demo",
    description="Which way to a small model wins on which task, and at what cost?",
    comparisons=(digits, vowels, pylib, listops),
)
