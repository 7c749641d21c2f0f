"""digits: the real data, split with the same mix of classes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from harness.tasks import DigitsSpec, build
from harness.tasks.images import digits as long_range
from harness.tasks.stratified import stratified_split


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


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [397, 500, 1000])
def test_the_split_is_that_of_scikit_learn(size, seed):
    random = np.random.default_rng(seed)
    some = random.integers(3, size=1200)  # ties between classes are drawn too: 400 each
    for labels in (load_digits().target, some, np.repeat(np.arange(7), 200)[:1200]):
        rows = np.arange(len(labels))
        theirs = train_test_split(rows, train_size=size, stratify=labels, random_state=seed)
        for one, two in zip(stratified_split(labels, size, seed), theirs, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_data_are_those_of_every_record_so_far():
    # As computed with scikit-learn's own loader and split (1.9.1), which earlier records used.
    known = "10cb9438a3c2dbbd5ec3aaa326bee7968020f00cb8bf47f1089dcc93ba72f373"
    assert build(DigitsSpec(name="digits")).fingerprint == known


def test_reading_them_does_not_import_scikit_learn():
    code = (
        "import sys; from harness.tasks import DigitsSpec, build; "
        "build(DigitsSpec(name='digits')); print('sklearn' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("damage", [b"", b"1,2,3\n", b"x,y", b"\x1f\x8b half", None])
def test_a_damaged_installation_is_one_clear_line(tmp_path, monkeypatch, damage):
    path = tmp_path / "digits.csv.gz"
    whole = long_range._file().read_bytes()
    path.write_bytes(whole[:3000] + bytes(50) + whole[3050:] if damage is None else damage)
    monkeypatch.setattr(long_range, "_file", lambda: path)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz is damaged: scikit-learn") as told:
        long_range._pool.__wrapped__()
    assert "\n" not in str(told.value)
