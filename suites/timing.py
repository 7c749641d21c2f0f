"""When, how often and how hard to truncate: searches over truncation timing.

The first candidate of each is the paper's window, the first 10 % of training.
"""

from typing import Any

from harness.suite import InTrainingSpec, LRUSpec, TaskSpec, TrainingSpec, TrialSpec
from harness.tune import Budget, Floats, Ints, Setting, Space, Study

SPACE = Space(
    start=Floats(low=0.0, high=0.5),
    length=Floats(low=0.02, high=0.4),
    count=Ints(low=1, high=4),
    tau=Floats(low=0.01, high=0.3, log=True),
)


def paper(tau: float) -> Setting:
    """The paper's window: four truncations in the first 10 % of training."""
    return Setting(start=0.0, end=0.1, count=4, tau=tau)


digits = Study(
    name="timing.digits",
    description="The least FLOPs within three points of full size, on digits.",
    base=TrialSpec(
        task=TaskSpec(name="digits"),
        model=LRUSpec(blocks=1, width=8, state_dim=64),
        training=TrainingSpec(steps=1500, batch_size=50, lr=0.01),
        arm=InTrainingSpec(),
    ),
    space=SPACE,
    seeds=(0, 1, 2),
    confirm_seeds=(100, 101, 102, 103, 104, 105),
    goal="constrained",
    margin=0.03,
    enqueue=(paper(tau=0.05), paper(tau=0.15)),
    startup=10,
    grid=40,  # on which the paper's window lies
    budget=Budget(candidates=40),
)


def on_vowels(name: str, description: str, **balanced: Any) -> Study:
    """The search on synthetic vowels; `balanced` says against what states are weighed."""
    return Study(
        name=name,
        description=description,
        base=TrialSpec(
            task=TaskSpec(name="vowels", length=512, train=4000, validation=4000, test=4000),
            model=LRUSpec(blocks=1, width=8, state_dim=64),
            training=TrainingSpec(steps=600, batch_size=32, lr=0.01),
            arm=InTrainingSpec(**balanced),
        ),
        space=SPACE,
        seeds=(0, 1, 2, 3, 4),
        confirm_seeds=tuple(range(100, 108)),
        goal="constrained",
        margin=0.03,
        enqueue=(paper(tau=0.05), paper(tau=0.15)),
        startup=10,
        grid=40,  # on which the paper's window lies
        budget=Budget(candidates=40),
    )


vowels = on_vowels(
    "timing.vowels", "The least FLOPs within three points of full size, on synthetic vowels."
)

vowels_signal = on_vowels(
    "timing.vowels_signal",
    "As timing.vowels, with states balanced against the signal.",
    gramians="signal",
)
