"""Small models of each kind of layer learn, far beyond what guessing gives."""

import pytest

from harness.records.store import Store
from harness.suite import TaskSpec, TrialSpec
from harness.training.trial import run_trial

MAMBA, MAMBA2 = {"kind": "mamba"}, {"kind": "mamba2", "state_dim": 16, "head_dim": 8}
S5, S4D = {"kind": "s5", "state_dim": 32}, {"kind": "s4d", "state_dim": 16}
TWO_PAIRS = {"length": 16, "pairs": 2, "vocabulary": 16}
ANSWERS = {"trained": "answers"}
# Model, task, block, width, steps, the test metric to exceed; behind it those measured on seeds 0
# and 1. Guessing gives 0.1 on digits, 0.07 in selective copying, 0.5 between two pairs of mqar,
# which S5 never leaves at this size; Mamba is far from having learnt mqar on some seeds.
CASES = [
    (S5, "digits", {}, "backbone", 16, 600, 0.88),  # over it; 0.950, 0.970 in suite ssms
    (S4D, "digits", {}, "backbone", 16, 600, 0.9),  # over it; 0.960, 0.965 there
    (S4D, "mqar", TWO_PAIRS, "backbone", 32, 1000, 0.58),  # over it; 0.644, 0.782 there
    (MAMBA, "digits", {}, "authors", 16, 600, 0.75),  # 0.840, 0.855
    (MAMBA, "digits", {}, "backbone", 16, 600, 0.75),  # 0.895, 0.835
    (MAMBA, "induction", ANSWERS, "authors", 32, 400, 0.9),  # 1.000, over 0.9
    (MAMBA, "selective_copying", ANSWERS, "authors", 32, 600, 0.4),  # 0.571, over 0.4
    (MAMBA, "mqar", ANSWERS, "authors", 32, 600, 0.2),  # 0.782, 0.305
    (MAMBA2, "digits", {}, "authors", 16, 600, 0.75),  # 0.885, 0.858
    (MAMBA2, "digits", {}, "backbone", 16, 600, 0.75),  # 0.885, 0.838
    (MAMBA2, "induction", ANSWERS, "authors", 32, 400, 0.9),  # 1.000, 1.000
    (MAMBA2, "selective_copying", ANSWERS, "authors", 32, 600, 0.4),  # 0.787, 0.532
    (MAMBA2, "mqar", ANSWERS, "authors", 32, 600, 0.9),  # 0.997, 0.991
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("model", "name", "options", "block", "width", "steps", "least"), CASES)
def test_a_small_model_learns_it(
    model, name, options, block, width, steps, least, seed, tmp_path, monkeypatch
):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    spec = TrialSpec(
        task=TaskSpec(name=name, **options),
        model={**model, "blocks": 2, "width": width, "block": block},
        training={
            "steps": steps,
            "batch_size": 50 if name == "digits" else 64,
            "evaluate_every": 100,
            "lr": 0.01,
        },
        arm={"kind": "full"},
        seed=seed,
    )
    result = run_trial(spec, Store.open(tmp_path / "store"))
    assert result["status"] == "completed", result["message"]
    assert result["record"]["test_metric"] > least
