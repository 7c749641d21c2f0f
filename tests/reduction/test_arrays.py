"""Arrays of any origin: valid numbers are taken, and anything else is refused in one line."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from harness.reduction import (
    UnusableSystem,
    balanced_truncation,
    energy_rank,
    gramians,
    hankel_singular_values,
    spectrum,
)

from .systems import random_system

SYSTEM = random_system(6, 2)
ONE_LINE = r"\A[^\n]+\Z"


def tensors():
    return [torch.from_numpy(array.copy()) for array in SYSTEM]


def strided(array):
    """The same values in every other place of a larger array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


VALID = {
    "big-endian": [a.astype(">c16") for a in SYSTEM],
    "negative strides": [np.flip(np.flip(a).copy()) for a in SYSTEM],
    "not contiguous": [strided(a) for a in SYSTEM],
    "column by column": [np.asfortranarray(a) for a in SYSTEM],
    "read-only": [read_only(a) for a in SYSTEM],
    "long doubles": [a.astype(np.clongdouble) for a in SYSTEM],
    "objects": [a.astype(object) for a in SYSTEM],
    "lists": [a.tolist() for a in SYSTEM],
    "conjugated twice, lazily": [torch.from_numpy(a.conj()).conj() for a in SYSTEM],
    "with gradients": [t.requires_grad_() for t in tensors()],
    "numpy beside torch": [tensors()[0], SYSTEM[1], SYSTEM[2]],
}


@pytest.mark.parametrize("name", VALID)
def test_valid_numbers_are_taken_as_they_are(name):
    P, Q = gramians(*SYSTEM)
    t = balanced_truncation(*SYSTEM, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gramians(*VALID[name])
        hsv = hankel_singular_values(*VALID[name])
        reduced = balanced_truncation(*VALID[name], 3)
    for ours, theirs in zip((*found, hsv), (P, Q, hankel_singular_values(*SYSTEM)), strict=True):
        ours = ours.detach() if isinstance(ours, torch.Tensor) else ours
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-14, atol=1e-14)
    assert reduced.error_bound == pytest.approx(t.error_bound, rel=1e-13)
    assert not getattr(reduced.B, "requires_grad", False)


@pytest.mark.parametrize("dtype", ["i4", ">i4", "u2", "u8", "f2", "?", ">f4"])
def test_real_numbers_of_any_type_are_taken(dtype):
    system = np.zeros(3, dtype), np.ones((3, 2), dtype), np.ones((2, 3), dtype)
    np.testing.assert_allclose(hankel_singular_values(*system), [6.0, 0.0, 0.0], atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.complex64])
def test_tensors_of_any_type_are_taken(dtype):
    system = (torch.zeros(3), torch.ones(3, 2), torch.ones(2, 3))
    hsv = hankel_singular_values(*(part.to(dtype) for part in system))
    np.testing.assert_allclose(hsv, [6.0, 0.0, 0.0], atol=1e-14)


def test_the_input_stays_as_it_is():
    for given in (read_only(SYSTEM[0]), SYSTEM[0].copy(), np.flip(SYSTEM[0].copy())):
        before = given.copy()
        balanced_truncation(given, *SYSTEM[1:], 2)
        assert np.array_equal(given, before)


lam, B, C = SYSTEM
INVALID = {
    "text": ((np.array(["a"] * 6), B, C), "eigenvalues: it must be an array of numbers, not of"),
    "dates": ((lam, np.zeros((6, 2), "M8[s]"), C), "B: it must be an array of numbers, not of"),
    "records": ((lam, B, np.zeros((2, 6), [("a", "f8")])), "C: it must be an array of numbers"),
    "ragged": (([[1], [1, 2]], B, C), "eigenvalues: it must be an array of numbers"),
    "objects": ((np.array([object()] * 6), B, C), "eigenvalues: it must be an array of numbers"),
    "masked": ((np.ma.masked_equal(lam, lam[0]), B, C), "eigenvalues: it has masked entries"),
    "sparse": ((torch.zeros(6).to_sparse(), B, C), "eigenvalues: a tensor must be dense"),
    "without values": ((torch.zeros(6, device="meta"), B, C), "eigenvalues: a tensor must be"),
    "none": ((None, B, C), "must be .N,., .N, H., .H, N. with N >= 1"),
    "a number": ((0.5, B, C), "must be .N,., .N, H., .H, N. with N >= 1"),
    "empty": ((np.zeros(0), np.zeros((0, 2)), np.zeros((2, 0))), "with N >= 1"),
    "an empty batch": ((np.zeros((0, 6)), B, C), "with N >= 1"),
    "transposed": ((lam, B.T, C), "must be .N,., .N, H., .H, N."),
    "batches of 2 and 3": ((np.stack([lam] * 2), np.stack([B] * 3), C), "leading dimensions"),
    "not a number": ((lam * np.nan, B, C), "finite"),
    "too small": ((lam, B * 1e-200, C * 1e200), "underflow|overflow"),
    "too small in one": ((lam, B * 1e-170, C), "underflow"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_system_is_refused_in_one_line(name):
    system, message = INVALID[name]
    for call in (gramians, hankel_singular_values, spectrum, lambda *s: balanced_truncation(*s, 2)):
        with pytest.raises(ValueError, match=message) as refused:
            call(*system)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300


def test_a_system_of_zeros_has_zero_singular_values_and_is_not_out_of_range():
    np.testing.assert_array_equal(hankel_singular_values(lam, 0 * B, C), np.zeros(6))
    stack = [np.stack([part, part]) for part in (lam, B, C)]
    stack[1][0] = 0.0
    assert hankel_singular_values(*stack)[0].max() == 0.0
    stack[1][0] = 1e-170 * B
    with pytest.raises(UnusableSystem, match="underflow"):
        hankel_singular_values(*stack)


@pytest.mark.parametrize(
    "hsv",
    [
        [4, 3, 2, 1],
        np.array([4, 3, 2, 1], ">f8"),
        np.array([1.0, 2, 3, 4])[::-1],
        torch.tensor([4.0, 3, 2, 1]).bfloat16(),
        torch.tensor([4.0, 3, 2, 1], requires_grad=True),
        [Fraction(4), Fraction(3), 2, 1],
        np.array([4, 3, 2, 1]) * 4e307,  # whose sum is infinite
        np.array([4, 3, 2, 1]) * 1e-310,
    ],
)
def test_the_energy_rank_of_a_spectrum_of_any_type(hsv):
    assert energy_rank(hsv, 0.25) == 3
    assert energy_rank(hsv, 0.35) == 2


@pytest.mark.parametrize(
    ("hsv", "tau", "message"),
    [
        (["a"], 0.1, "a spectrum must be a non-empty vector: .* not of str"),
        ([[1], [1, 2]], 0.1, "a spectrum must be a non-empty vector"),
        (None, 0.1, "a spectrum must be a non-empty vector, not of shape"),
        (3.0, 0.1, "a spectrum must be a non-empty vector, not of shape"),
        ([[1.0, 2.0]], 0.1, "a spectrum must be a non-empty vector, not of shape"),
        ([1.0, 1j], 0.1, "must be real"),
        (torch.zeros(2, device="meta"), 0.1, "a spectrum must be a non-empty vector: a tensor"),
        ([1.0], None, r"tau must be in \[0, 1\), not None"),
        ([1.0], "a", r"tau must be in \[0, 1\), not a"),
        ([1.0], 1j, r"tau must be in \[0, 1\), not 1j"),
        ([1.0], [0.1], r"tau must be in \[0, 1\), not \[0.1\]"),
        ([1.0], np.array([0.1, 0.2]), r"tau must be in \[0, 1\), not"),
    ],
)
def test_what_is_no_spectrum_or_share_is_refused_in_one_line(hsv, tau, message):
    with pytest.raises(ValueError, match=message) as refused:
        energy_rank(hsv, tau)
    assert "\n" not in str(refused.value)
