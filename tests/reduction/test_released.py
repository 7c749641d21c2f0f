"""LRUs that others trained: two models of a rig of three tanks, DecodEPFL/SSM at commit 32fa0e4,
checkpoints of epochs 55999 (2 blocks of width 6) and 99999 (3 blocks of width 12), 11 states each.

No licence is stated there, so what stands here are their Hankel singular values alone,
to six digits. With `HARNESS_TRAINED_LRUS` naming an .npz of the systems themselves
(`tanks2x6.0.eigenvalues` (11,), `.B` (11, H) with gamma, `.C` (H, 11), and so on), those are
decomposed and truncated.
"""

import os

import numpy as np
import pytest
import torch

from harness.reduction import energy_rank
from harness.reduction.hankel import decompose
from harness.reduction.pieces import all_reduced
from harness.reduction.real import RealDecomposition, Whole, decompose_real

from .systems import distance
from .test_real import apart, dense, dense_gramians, dense_hsv, system_of

TAUS = (0.15, 0.1, 0.05, 0.01)
# By block: the singular values of the complex system and its ranks at TAUS, found by an independent
# computation, too; those of the real system with its conjugates, and its ranks.
BLOCKS = {
    "tanks2x6.0": (
        [11.3374, 5.30858, 2.4905, 2.35304, 1.5463, 0.674094, 0.503057, 0.436058, 0.145184,
         0.0704328, 0.0132363],
        (4, 5, 6, 8),
        [6.83556, 4.47258, 3.5921, 1.86644, 1.33051, 1.06381, 0.846804, 0.744325, 0.500627,
         0.213264, 0.136841, 0.0894406, 0.0409254, 0.025856, 0.0142905, 0.008058, 0.0036102,
         0.00158681, 0.000617188, 0.00052916, 0.000189257, 4.86087e-05],
        (6, 7, 8, 11),
    ),
    "tanks2x6.1": (
        [17.167, 12.1811, 8.59462, 4.86098, 2.6807, 1.92235, 1.01683, 0.625524, 0.28781,
         0.0936356, 0.0397247],
        (4, 5, 6, 8),
        [12.9852, 8.70231, 7.09357, 5.268, 3.70348, 1.56941, 0.907941, 0.689221, 0.474129,
         0.297894, 0.227409, 0.18405, 0.106107, 0.0499058, 0.0282072, 0.0214704, 0.00967031,
         0.00366494, 0.00218976, 0.00118786, 0.00036822, 0.000118886],
        (5, 6, 7, 11),
    ),
    "tanks3x12.0": (
        [8.66822, 7.07924, 5.24121, 3.79081, 3.01038, 2.4534, 1.75386, 1.57436, 1.20573, 0.889901,
         0.374196],
        (7, 8, 9, 11),
        [6.39385, 3.87149, 3.28142, 2.94211, 2.52226, 2.03923, 1.60899, 1.43998, 1.31457, 0.897626,
         0.835424, 0.677476, 0.628442, 0.412009, 0.365766, 0.318729, 0.21399, 0.144716, 0.0857197,
         0.0410299, 0.00928763, 0.00332],
        (10, 11, 14, 17),
    ),
    "tanks3x12.1": (
        [8.26757, 5.03336, 4.43263, 3.13688, 2.86139, 2.36929, 1.59056, 0.960001, 0.858246,
         0.572956, 0.345803],
        (6, 7, 9, 11),
        [4.81174, 3.94913, 3.2532, 2.45198, 2.38331, 1.83781, 1.75698, 1.14566, 0.972457, 0.787922,
         0.58393, 0.449322, 0.331966, 0.264672, 0.170423, 0.130581, 0.114766, 0.0950167, 0.0523049,
         0.0430626, 0.0310704, 0.020621],
        (9, 10, 12, 17),
    ),
    "tanks3x12.2": (
        [10.0744, 6.69213, 5.77551, 4.74393, 3.76211, 2.59237, 1.99819, 1.38374, 1.13017, 0.893029,
         0.621299],
        (7, 8, 9, 11),
        [6.58111, 4.6081, 4.37406, 3.45213, 2.5066, 2.15294, 1.71481, 1.62507, 1.21847, 1.00477,
         0.717448, 0.65869, 0.521929, 0.392082, 0.309891, 0.258871, 0.20729, 0.171555, 0.139289,
         0.0951397, 0.0613463, 0.0395417],
        (9, 11, 14, 19),
    ),
}  # fmt: skip


def ranks(hsv):
    return tuple(energy_rank(hsv, tau) for tau in TAUS)


@pytest.mark.parametrize("name", BLOCKS)
def test_their_energy_ranks(name):
    sigma, complex_ranks, real_sigma, real_ranks = BLOCKS[name]
    assert ranks(sigma) == complex_ranks
    assert ranks(real_sigma) == real_ranks
    # As stored states, which stand for two real ones each, they are fewer at every tau.
    empty = torch.zeros(22, 22, dtype=torch.complex128)
    whole = Whole(*[empty] * 6, torch.tensor(real_sigma, dtype=torch.float64), empty)
    stored = RealDecomposition(*[empty[:11]] * 3, whole)
    pairs = tuple(stored.energy_rank(tau) for tau in TAUS)
    assert pairs == tuple(-(-r // 2) for r in real_ranks)
    assert all(one < other for one, other in zip(pairs, complex_ranks, strict=True))


@pytest.fixture(scope="module")
def systems():
    path = os.environ.get("HARNESS_TRAINED_LRUS")
    if not path:
        pytest.skip("HARNESS_TRAINED_LRUS names no file of the systems themselves")
    with np.load(path) as file:
        return {
            name: tuple(file[f"{name}.{part}"] for part in ("eigenvalues", "B", "C"))
            for name in BLOCKS
        }


@pytest.mark.parametrize("name", BLOCKS)
def test_the_systems_themselves_truncated_at_those_ranks(name, systems):
    sigma, complex_ranks, real_sigma, real_ranks = BLOCKS[name]
    full = systems[name]
    stack = [torch.as_tensor(part)[None] for part in full]
    (as_stored,), (as_real,) = decompose(*stack).unstack(), decompose_real(*stack)
    np.testing.assert_allclose(as_stored.hsv, sigma, rtol=1e-5)
    np.testing.assert_allclose(as_real.whole.hsv, real_sigma, rtol=1e-4)
    np.testing.assert_allclose(dense_hsv(*dense_gramians(*dense(*full))), real_sigma, rtol=1e-2)
    assert ranks(as_stored.hsv) == complex_ranks
    assert ranks(as_real.whole.hsv) == real_ranks
    for tau, order in zip(TAUS, complex_ranks, strict=True):
        (done,) = all_reduced({0: as_stored}, {0: order}, "balanced", None)
        assert done.energy_kept >= 1 - tau
        assert distance(full, system_of(done)) <= done.error_bound + 1e-9 * sigma[0]
        order = as_real.energy_rank(tau)
        (done,) = all_reduced({0: as_real}, {0: order}, "balanced", None)
        assert apart(full, system_of(done)) <= done.error_bound + 1e-9 * sigma[0]
