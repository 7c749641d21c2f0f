"""How large a truncation leaves states: as its Gramians have them, or with B and C of equal norm.

The outputs do not depend on it; what training makes of them does. LRUs on the demo's tasks, and the
other layers that have systems on two of `ssms`: truncated in training, within 40 % of the steps,
and after it with fine-tuning, balanced against white noise, the signal and the task.
"""

from typing import Any

from harness.suite import Comparison, FullSpec, InTrainingSpec, PostHocSpec, SmallSpec, Suite
from suites import demo, ssms

SEEDS = tuple(range(8))
GRAMIANS: tuple[Any, ...] = ("white", "signal", "task")
SCALINGS: tuple[Any, ...] = ("gramians", "equal")


def arms(final: int) -> dict:
    """Full size, small from scratch, and the ways to `final` states under both scalings."""
    found: dict = {"full": FullSpec(), "small": SmallSpec(state_dims=(final,))}
    for gramians in GRAMIANS:
        for scaling in SCALINGS:
            way: dict[str, Any] = {"gramians": gramians, "scaling": scaling}
            label = gramians if scaling == "gramians" else f"{gramians}, {scaling}"
            shrink = {"rule": "fixed", "final": final, "end": 0.4, **way}
            compress = {"state_dims": (final,), **ssms.TUNED, **way}
            found[f"in_training {label}"] = InTrainingSpec.model_validate(shrink)
            found[f"tuned {label}"] = PostHocSpec.model_validate(compress)
    return found


def compared(like: Comparison, final: int) -> Comparison:
    """The task, model and training of a comparison with these arms."""
    return like.model_copy(update={"arms": arms(final), "seeds": SEEDS})


OF_SSMS = {"digits_s4d": 2, "digits_s5": 4, "mqar_s4d": 2, "mqar_s5": 4}
OTHERS = [one for one in ssms.suite.comparisons if one.name in OF_SSMS]
OF_DEMO = (demo.digits, demo.vowels, demo.listops, demo.pylib)

suite = Suite(
    name="scaling",
    description="Does it matter how large a truncation leaves the states?",
    comparisons=(
        *(compared(one, OF_SSMS[one.name]) for one in OTHERS),
        *(compared(one, 6) for one in OF_DEMO),
    ),
)
