"""The demo: ways to a small model on four embedded tasks, in minutes on two cores.

The paper truncates in the first 10 % of 90,000 and more steps. The runs here have some hundred
steps and have learnt next to nothing by then, so the window is 40 %; `digits` also has the paper's
window. Train-then-compress appears three times: as published, balanced against the task instead of
white noise, and fine-tuned for a tenth of the steps at the full learning rate, which helps it much
(a tenth of the rate does worse: ablations.digits_knobs).
"""

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


def arms(tau: float) -> dict:
    """Full size, in-training truncation, and its rivals at its final size."""
    shrink = InTrainingSpec(tau=tau, end=0.4)
    compress = PostHocSpec(match="seed", to=shrink)
    tuned = {"finetune_share": 0.1, "finetune_lr_factor": 1.0}
    return {
        "full": FullSpec(),
        "in_training": shrink,
        "post_hoc": compress,
        "post_hoc task": compress.model_copy(update={"gramians": "task"}),
        "post_hoc tuned": compress.model_copy(update=tuned),
        "small": SmallSpec(match="seed", to=shrink),
    }


def early(tau: float) -> dict:
    """In-training truncation in the paper's window, and small-from-scratch at its final size."""
    shrink = InTrainingSpec(tau=tau, end=0.1)
    small = SmallSpec(match="seed", to=shrink)
    return {"in_training early": shrink, "small early": small}


digits = Comparison(
    task=TaskSpec(name="digits"),
    model=LRUSpec(blocks=1, width=8, state_dim=64),
    training=TrainingSpec(steps=1500, batch_size=50, lr=0.01),
    arms=arms(tau=0.15) | early(tau=0.18),
    seeds=(0, 1, 2, 3, 4),
)
vowels = Comparison(
    task=TaskSpec(name="vowels", length=512, train=4000, validation=1000, test=2000),
    model=LRUSpec(blocks=1, width=8, state_dim=64),
    training=TrainingSpec(steps=600, batch_size=32, lr=0.01),
    arms=arms(tau=0.1),
    seeds=(0, 1, 2, 3, 4),
)
pylib = Comparison(
    task=TaskSpec(name="pylib", window=128, train=20000, validation=200, test=400),
    model=LRUSpec(blocks=1, width=32, state_dim=64),
    training=TrainingSpec(steps=600, batch_size=16, lr=0.01),
    arms=arms(tau=0.2),
    seeds=(0, 1, 2),
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
    training=TrainingSpec(steps=900, batch_size=32, lr=0.01),
    arms=arms(tau=0.15),
    seeds=(0, 1, 2),
)

suite = Suite(
    name="demo",
    description="Which way to a small model wins on which task, and at what cost?",
    comparisons=(digits, vowels, pylib, listops),
)
