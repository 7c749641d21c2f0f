"""vowels: the sound has the formants and the pitch that it should, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks

from harness.tasks import VowelsSpec, build
from harness.tasks.sound import vowel_synthesis as synthesis

# One speaker's averages, without scatter and almost without noise, a low pitch and two seconds.
CLEAN = VowelsSpec(
    name="vowels", length=16_000, pitch_scatter=0, tract_scatter=0, formant_scatter=0, jitter=0.02,
    snr_min=60, snr_max=60,
)  # fmt: skip


def envelope(wave: np.ndarray, resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and the spectrum in dB, smoothed over `resolution` Hz."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / synthesis.SAMPLE_RATE)
    width = int(resolution / hertz[1])
    window = np.hanning(2 * width + 1)
    return hertz, 10 * np.log10(np.convolve(power, window / window.sum(), mode="same") + 1e-12)


def man(vowel: str) -> np.ndarray:
    """A clean sample of this vowel in a man's voice."""
    first = synthesis.VOWELS.index(vowel)
    for index in range(first, first + 500, len(synthesis.VOWELS)):
        wave, kind, speaker = synthesis.synthesise(CLEAN, "train", index)
        assert kind == first
        if synthesis.SPEAKERS[speaker] == "man":
            return synthesis.waveform(wave)
    raise AssertionError("no man in fifty samples")


@pytest.mark.parametrize("vowel", ["i", "I", "E", "ae", "3"])
def test_energy_peaks_at_the_formants(vowel):
    """The first two formants of these lie far apart, so each stands out as a peak of its own."""
    f0, *formants = synthesis.formant_table()["man", vowel]
    hertz, level = envelope(man(vowel), resolution=1.2 * f0)
    peaks = hertz[find_peaks(level, prominence=3)[0]]
    for formant in formants[:2]:
        assert np.abs(peaks - formant).min() < 0.6 * f0


def test_vowels_differ_where_their_formants_do():
    """[i] has little energy between 500 and 1500 Hz, where [a] has both its formants."""

    def share(vowel):
        hertz, level = envelope(man(vowel), 50)
        power = 10 ** (level / 10)
        return power[(hertz > 600) & (hertz < 1300)].sum() / power.sum()

    assert share("a") > 0.7
    assert share("i") < 0.05


def test_pitch_is_the_speakers():
    wave = man("a")
    spectrum = np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(wave)]
    lags = np.arange(30, 100)
    lag = lags[correlation[lags].argmax()]
    f0 = synthesis.formant_table()["man", "a"][0]
    assert abs(synthesis.SAMPLE_RATE / lag - f0) < 0.15 * f0  # it glides by up to a tenth


def test_a_sample_is_a_pure_function_of_its_index(built, data_dir):
    task = built["vowels"]
    spec = VowelsSpec(name="vowels", length=256, train=150, validation=40, test=50)
    more = build(spec, data_dir)
    rows = np.arange(120)
    assert (task.examples("train", rows)[0] == more.examples("train", rows)[0]).all()
    wave, vowel, _ = synthesis.synthesise(spec, "train", 37)
    x, y = task.examples("train", np.array([37]))
    np.testing.assert_array_equal(synthesis.waveform(wave), x[0, :, 0].numpy())
    assert int(y[0]) == vowel
    other, _, _ = synthesis.synthesise(spec, "validation", 37)
    assert not np.array_equal(wave, other)


def test_amplitude_is_standard_and_nothing_clips(built):
    x, _ = built["vowels"].examples("train", np.arange(120))
    rms = x.square().mean(dim=1).sqrt()
    assert float((rms - 1).abs().max()) < 1e-3
    assert float(x.abs().max()) < 9.9  # full scale is 10


def test_noise_is_as_loud_as_asked():
    """At 0 dB half of the power is noise; a glide-free comparison needs the same draws."""
    loud = CLEAN.model_copy(update={"snr_min": 0.0, "snr_max": 0.0})
    clean, _, _ = synthesis.synthesise(CLEAN, "test", 3)
    noisy, _, _ = synthesis.synthesise(loud, "test", 3)
    a, b = clean.astype(float), noisy.astype(float)
    correlation = (a @ b) / np.sqrt((a @ a) * (b @ b))
    assert correlation**2 == pytest.approx(0.5, abs=0.03)


def test_the_table_is_complete():
    table = synthesis.formant_table()
    assert set(table) == {(s, v) for s in synthesis.SPEAKERS for v in synthesis.VOWELS}
    assert all((np.diff(row) > 0).all() for row in table.values())


def test_ten_thousand_validation_samples_by_default():
    assert VowelsSpec(name="vowels").validation >= 10_000
