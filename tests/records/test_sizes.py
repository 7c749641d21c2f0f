"""One number for the size of a block, whether it is one system or many."""

import math

import pytest

from harness.records.sizes import block_sizes


@pytest.mark.parametrize(
    ("orders", "sizes"),
    [
        (None, [8, 5]),
        (math.nan, [8, 5]),  # as pandas writes it
        ([[8, 1], [5]], [4.5, 5]),
    ],
)
def test_a_block_is_as_large_as_its_systems_on_average(orders, sizes):
    assert block_sizes([8, 5], orders) == sizes
