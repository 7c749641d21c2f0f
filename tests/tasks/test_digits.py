"""digits: the real data, split with the same mix of classes."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits


def test_the_pixels_are_those_of_the_data_set(built):
    pixels, labels = load_digits(return_X_y=True)
    known = sorted((p.tobytes(), int(y)) for p, y in zip(pixels, labels, strict=True))
    found = []
    for split, size in built["digits"].sizes.items():
        x, y = built["digits"].examples(split, np.arange(size))
        assert float(x.min()) == 0
        assert float(x.max()) == 1
        rows = (x[..., 0].numpy() * 16).astype(np.float64)
        found += [(p.tobytes(), int(k)) for p, k in zip(rows, y, strict=True)]
    assert sorted(found) == known


def test_every_split_has_the_same_mix(built):
    labels = load_digits().target
    share = np.bincount(labels) / len(labels)
    for split, size in built["digits"].sizes.items():
        counts = built["digits"].summary()["balance"][split]["classes"]
        assert np.abs(np.array(counts) - share * size).max() < 2
