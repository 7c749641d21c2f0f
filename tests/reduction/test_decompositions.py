"""One decomposition serves spectrum and truncation; blocks of one size are decomposed together."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import balanced_truncation, decompositions, spectra, truncate


def many_blocks():
    """Blocks of two sizes, some large enough to be worked on side by side."""
    torch.manual_seed(0)
    return nn.Sequential(*(LRU(4, n, r_min=0.5, r_max=0.95) for n in (50, 9, 50, 50, 9)))


@pytest.mark.parametrize("how", [{"tau": 0.2}, {"state_dims": [20, 9, 5, 50, 4]}])
def test_a_decomposition_serves_spectrum_and_truncation(how):
    ours, theirs = many_blocks(), many_blocks()
    found = decompositions(ours)
    for one, (hsv, shares) in zip(found, spectra(theirs), strict=True):
        assert torch.equal(one.hsv, hsv)
        assert torch.equal(one.mode_shares, shares)
    for one, two in zip(
        truncate(ours, **how, decomposed=found), truncate(theirs, **how), strict=True
    ):
        assert torch.equal(one.B, two.B)
        assert one.condition == two.condition
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
    with pytest.raises(ValueError, match="not those of the model as it is now"):
        truncate(ours, **how, decomposed=found)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_in_batches_and_side_by_side_are_the_blocks_one_by_one(threads):
    model = many_blocks()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = decompositions(model)
        truncations = truncate(model, state_dims=4, decomposed=found)
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    for one, t, layer in zip(found, truncations, many_blocks(), strict=True):
        alone = balanced_truncation(*layer.system(), 4)
        torch.testing.assert_close(one.hsv, alone.hsv, rtol=1e-9, atol=0)
        torch.testing.assert_close(t.eigenvalues, alone.eigenvalues, rtol=0, atol=1e-9)
        torch.testing.assert_close(t.C @ t.B, alone.C @ alone.B, rtol=0, atol=1e-9)
