"""Mode selections: scores on systems small enough for a pencil, bounds on a frequency grid."""

import numpy as np
import pytest
import torch

from harness.reduction import spectrum
from harness.reduction.hankel import decompose
from harness.reduction.modes import best, drawn, scores, select

from .systems import HARD, distance


def system_of(lam, B, C):
    return decompose(*(torch.as_tensor(np.asarray(a)).to(torch.complex128) for a in (lam, B, C)))


# Two channels, |B_i| = 5, 1, 2 and |C_i| = 1, 2, 2 by Pythagoras.
PENCIL = system_of([0.5, 0.9j, -0.6], [[3, 4j], [1, 0], [0, 2]], [[1, 0, 2], [0, 2j, 0]])


def test_last_by_hand():
    # h = |C|^2 |B|^2 / ((1 - |l|)^2 + 1e-8): 25 / 0.25, 4 / 0.01, 16 / 0.16.
    wanted = [25 / (0.25 + 1e-8), 4 / (0.01 + 1e-8), 16 / (0.16 + 1e-8)]
    np.testing.assert_allclose(scores(PENCIL, "last"), wanted, rtol=1e-12)
    assert best(scores(PENCIL, "last"), 2).tolist() == [0, 1]  # 100, 400 and 99.99...


def test_aire_by_hand():
    # E = |C|^2 |B|^2 / (1 - |l|^2): 25 / 0.75, 4 / 0.19, 16 / 0.64.
    np.testing.assert_allclose(scores(PENCIL, "aire"), [25 / 0.75, 4 / 0.19, 25], rtol=1e-12)
    assert best(scores(PENCIL, "aire"), 2).tolist() == [0, 2]


def test_modal_by_hand():
    np.testing.assert_allclose(scores(PENCIL, "modal"), [0.5, 0.9, 0.6], rtol=1e-12)
    assert best(scores(PENCIL, "modal"), 2).tolist() == [1, 2]


def test_a_score_is_the_norm_of_the_mode():
    """LAST's is the squared H-infinity norm, AIRE's the squared H2 norm: sum over k |C l^k B|^2."""
    lam, B, C = (a[1] for a in (PENCIL.eigenvalues, PENCIL.B, PENCIL.C.mT))
    z = np.exp(1j * np.linspace(0, 2 * np.pi, 4000, endpoint=False))
    gain = np.outer(C.numpy(), B.numpy())[None] / (z[:, None, None] - complex(lam))
    peak = np.linalg.norm(gain, ord=2, axis=(1, 2)).max()
    assert float(scores(PENCIL, "last")[1]) == pytest.approx(peak**2, rel=1e-5)
    pulses = [
        np.linalg.norm(np.outer(C, B)) ** 2 * abs(complex(lam)) ** (2 * k) for k in range(400)
    ]
    assert float(scores(PENCIL, "aire")[1]) == pytest.approx(sum(pulses), rel=1e-12)


def test_of_equal_scores_the_first_stays():
    assert best(torch.tensor([1.0, 3.0, 1.0, 3.0, 1.0]), 3).tolist() == [0, 1, 3]


def test_lots_are_in_parameter_order_without_repeats_and_repeatable():
    one, two = (drawn(50, 20, np.random.default_rng(3)).tolist() for _ in range(2))
    assert one == two == sorted(set(one))
    assert one != drawn(50, 20, np.random.default_rng(4)).tolist()
    counts = np.zeros(6)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        counts[drawn(6, 2, rng).numpy()] += 1
    np.testing.assert_allclose(counts / 3000, 1 / 3, atol=0.04)  # sd 0.0086


@pytest.mark.parametrize("name", HARD)
def test_the_error_of_a_selection_is_within_its_bound(name):
    lam, B, C = HARD[name]
    rng = np.random.default_rng(0)
    for order in sorted({1, max(1, len(lam) // 2), len(lam)}):
        kept = np.sort(rng.choice(len(lam), order, replace=False))
        t = select(system_of(lam, B, C), torch.from_numpy(kept))
        assert t.order == order
        np.testing.assert_array_equal(t.eigenvalues, lam[kept])
        np.testing.assert_array_equal(t.B, B[kept])
        np.testing.assert_array_equal(t.C, C[:, kept])
        np.testing.assert_array_equal(t.T, np.eye(len(lam))[:, kept])
        np.testing.assert_array_equal(t.W, np.eye(len(lam))[kept])
        gap = distance((lam, B, C), (lam[kept], B[kept], C[:, kept]))
        assert gap <= t.error_bound * (1 + 1e-12) + 1e-12
        _, shares = spectrum(lam, B, C)
        assert t.energy_kept == pytest.approx(shares[kept].sum() / shares.sum(), rel=1e-12)


def test_the_bound_is_reached_by_a_single_removed_mode():
    """|C| |B| / (1 - |l|) at the mode's own phase, so nothing smaller would do."""
    lam, B, C = (a.numpy() for a in (PENCIL.eigenvalues, PENCIL.B, PENCIL.C))
    t = select(PENCIL, torch.tensor([0, 2]))
    assert t.error_bound == pytest.approx(2 * 1 / 0.1)
    gap = distance((lam, B, C), (lam[[0, 2]], B[[0, 2]], C[:, [0, 2]]))
    assert gap == pytest.approx(t.error_bound, rel=1e-12)
