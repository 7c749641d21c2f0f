"""Vowels by source and filter: glottal pulses through the resonances of a vocal tract.

Formants and pitch are the averages of Peterson and Barney (1952), Table II, scattered per sample.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources

import numpy as np
from scipy.signal import ellip, sosfilt

from harness.tasks.base import SPLITS
from harness.tasks.progress_lines import ProgressLines
from harness.tasks.specs import VowelsSpec

SAMPLE_RATE = 8000  # Hz
SPEAKERS = ("man", "woman", "child")
VOWELS = ("i", "I", "E", "ae", "a", "O", "U", "u", "V", "3")
BANDWIDTHS = (60.0, 90.0, 150.0)  # Hz, of the formants F1, F2, F3
SYNTHESIS_VERSION = 1  # part of the cache's name: raise it when the draws change

# Sound is made at twice the rate and then filtered and thinned, like a recording: children's third
# formant lies close to 4 kHz, where a resonator at 8 kHz would meet its own mirror image.
_OVERSAMPLING = 2
_INNER_RATE = SAMPLE_RATE * _OVERSAMPLING
_RUN_IN = 800  # inner samples that the resonances take to forget their start
_GLIDE = 0.1  # the pitch changes by at most this fraction to either side of its mean
_SHIMMER = 0.05  # standard deviation of one glottal pulse's height
_LEVEL = 0.1  # root mean square of a stored sample, of full scale: the peaks stay below it


@functools.cache
def formant_table() -> dict[tuple[str, str], np.ndarray]:
    """{(speaker, vowel): (f0, f1, f2, f3) in Hz}."""
    text = resources.files("harness.tasks.sound").joinpath("vowel_formants.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        (row["speaker"], row["vowel"]): np.array([float(row[f]) for f in ("f0", "f1", "f2", "f3")])
        for row in rows
    }


def synthesise(spec: VowelsSpec, split: str, index: int) -> tuple[np.ndarray, int, int]:
    """Sample `index` of `split`, a pure function of these and the spec.

    Returns the waveform (length,) int16 at 8 kHz, of root mean square 0.1 of full scale; the vowel
    (index into VOWELS; they take turns, so that every prefix is balanced); the speaker's.
    """
    rng = np.random.default_rng([spec.split_seed, SPLITS.index(split), index, SYNTHESIS_VERSION])
    vowel, speaker = index % len(VOWELS), int(rng.integers(len(SPEAKERS)))
    mean = formant_table()[SPEAKERS[speaker], VOWELS[vowel]]
    pitch = mean[0] * np.exp(spec.pitch_scatter * rng.standard_normal())
    tract = spec.tract_scatter * rng.standard_normal()
    formants = mean[1:] * np.exp(tract + spec.formant_scatter * rng.standard_normal(3))
    source = _pulses(rng, pitch, spec.jitter, spec.length * _OVERSAMPLING + _RUN_IN)
    sections = np.concatenate([_vocal_tract(formants), _anti_alias()])
    voice = sosfilt(sections, source)[_RUN_IN::_OVERSAMPLING]
    snr = rng.uniform(spec.snr_min, spec.snr_max)
    noise = _rms(voice) * 10 ** (-snr / 20) * rng.standard_normal(spec.length)
    wave = voice + noise
    scaled = np.rint(wave * (_LEVEL * 32768 / _rms(wave)))
    return np.clip(scaled, -32768, 32767).astype(np.int16), vowel, speaker


def waveform(stored: np.ndarray) -> np.ndarray:
    """What the model sees of stored samples: float32, root mean square 1."""
    return stored.astype(np.float32) * np.float32(1 / (_LEVEL * 32768))


def generate(spec: VowelsSpec, split: str) -> dict[str, np.ndarray]:
    """All of a split: waves (n, length) int16, vowels (n,) uint8, speakers (n,) uint8."""
    count = int(getattr(spec, split))
    waves = np.empty((count, spec.length), dtype=np.int16)
    vowels, speakers = np.empty(count, dtype=np.uint8), np.empty(count, dtype=np.uint8)
    said = ProgressLines("vowels", f"{split} samples", count)
    for index in range(count):
        waves[index], vowels[index], speakers[index] = synthesise(spec, split, index)
        said(1)
    return {"waves": waves, "vowels": vowels, "speakers": speakers}


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))


def _pulses(rng: np.random.Generator, pitch: float, jitter: float, samples: int) -> np.ndarray:
    """Glottal pulses (inner samples,) of a mean pitch in Hz, gliding, jittered and shimmering.

    A pulse between two samples is shared by both in proportion, so that the pitch is not rounded
    to whole samples.
    """
    period = _INNER_RATE / pitch
    count = int(1.6 * samples / period) + 4  # enough, even where the glide makes periods short
    glide = rng.uniform(-_GLIDE, _GLIDE) * np.linspace(-1, 1, count)
    periods = period * (1 + glide) * np.exp(jitter * rng.standard_normal(count))
    times = rng.uniform(0, period) + np.cumsum(periods) - periods[0]
    heights = 1 + _SHIMMER * rng.standard_normal(count)
    inside = times < samples - 1
    times, heights = times[inside], heights[inside]
    before = times.astype(np.int64)
    late = times - before
    source = np.bincount(before, weights=heights * (1 - late), minlength=samples)
    return source + np.bincount(before + 1, weights=heights * late, minlength=samples)


def _vocal_tract(formants: np.ndarray) -> np.ndarray:
    """Second-order sections (4, 6): the glottal low-pass with the lips' difference, F1, F2, F3.

    Resonators in cascade as in Klatt, J. Acoust. Soc. Am. 67 (1980) 971-995, eqs. 1 and 2.
    """
    frequencies = np.concatenate([[0.0], formants])
    bandwidths = np.array([100.0, *BANDWIDTHS])
    radius = np.exp(-np.pi * bandwidths / _INNER_RATE)
    b = 2 * radius * np.cos(2 * np.pi * frequencies / _INNER_RATE)
    c = -np.square(radius)
    sections = np.zeros((4, 6))
    sections[:, 0] = 1 - b - c
    sections[0, 1] = -sections[0, 0]
    sections[:, 3], sections[:, 4], sections[:, 5] = 1.0, -b, -c
    return sections


@functools.cache
def _anti_alias() -> np.ndarray:
    """Low-pass sections (4, 6): flat to 3.7 kHz, 50 dB down from about 4 kHz."""
    return np.asarray(ellip(8, 0.2, 50, 3700, output="sos", fs=_INNER_RATE))
