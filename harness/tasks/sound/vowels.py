"""`vowels`: raw waveforms of synthetic speech."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import SPLITS, Task, class_counts, digest, sample_path
from harness.tasks.samples import write_sound
from harness.tasks.sound import vowel_synthesis as synthesis
from harness.tasks.specs import VowelsSpec
from harness.tasks.storage.cache import cached


class Vowels(Task):
    """Which of ten vowels a waveform holds. The sound is synthetic, not recorded."""

    def __init__(self, spec: VowelsSpec, data_dir: Path) -> None:
        self.name, self.family = spec.name, spec.family
        self.metric, self.info = spec.metric, spec.info
        self.sizes = {split: int(getattr(spec, split)) for split in SPLITS}
        self.provenance = (
            "SYNTHETIC, not recorded speech: glottal pulses filtered by the mean formants of "
            "Peterson and Barney (1952) for men, women and children, with pitch, formants, jitter "
            f"and noise drawn per sample (seed {spec.split_seed}); 8 kHz, 16 bit"
        )
        self._data = {split: _load(spec, split, data_dir) for split in SPLITS}
        arrays = {
            f"{split}/{key}": self._data[split][key]
            for split in SPLITS
            for key in ("waves", "vowels")
        }
        self.fingerprint = digest(arrays)

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        data = self._data[split]
        x = torch.from_numpy(synthesis.waveform(data["waves"][rows])).unsqueeze(-1)
        return x, torch.from_numpy(data["vowels"][rows].astype(np.int64))

    def _balance(self, split: str) -> dict[str, Any]:
        speakers = np.bincount(self._data[split]["speakers"], minlength=len(synthesis.SPEAKERS))
        return class_counts(self._data[split]["vowels"], self.info.outputs) | {
            "speakers": dict(zip(synthesis.SPEAKERS, speakers.tolist(), strict=True))
        }

    def sample(self, directory: str | Path) -> Path:
        """A sound file: one training sample of each vowel and voice, in turn; beside it a picture
        (vowels.png) of waveforms and spectra. Returns the sound file's path."""
        chosen = self._one_of_each()
        gap = np.zeros(synthesis.SAMPLE_RATE // 5, dtype=np.int16)
        waves = self._data["train"]["waves"]
        sound = np.concatenate([part for row in chosen.values() for part in (waves[row], gap)])
        path = sample_path(directory, "vowels.wav")
        write_sound(path, sound, synthesis.SAMPLE_RATE)
        self._draw(chosen, path.with_suffix(".png"))
        return path

    def _one_of_each(self) -> dict[tuple[int, int], int]:
        """{(vowel, speaker): the first such training sample}, those that there are, in order."""
        data = self._data["train"]
        pairs = zip(data["vowels"].tolist(), data["speakers"].tolist(), strict=True)
        first: dict[tuple[int, int], int] = {}
        for row, pair in enumerate(pairs):
            first.setdefault(pair, row)
        return dict(sorted(first.items()))

    def _draw(self, chosen: dict[tuple[int, int], int], path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(14, 18))
        grid = figure.subplots(len(synthesis.VOWELS), 6)
        figure.subplots_adjust(0.03, 0.02, 0.99, 0.95, wspace=0.25, hspace=0.45)
        figure.suptitle("vowels (synthetic): waveform in ms; spectrum in dB against kHz, F1-F3")
        for (vowel, speaker), row in chosen.items():
            wave = synthesis.waveform(self._data["train"]["waves"][row])
            time, power = grid[vowel, 2 * speaker], grid[vowel, 2 * speaker + 1]
            shown = wave[:400]
            time.plot(np.arange(len(shown)) * 1000 / synthesis.SAMPLE_RATE, shown, linewidth=0.6)
            name, voice = synthesis.VOWELS[vowel], synthesis.SPEAKERS[speaker]
            time.set_title(f"[{name}] {voice}", fontsize=8)
            spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
            hertz = np.fft.rfftfreq(len(wave), 1 / synthesis.SAMPLE_RATE)
            power.plot(hertz / 1000, 20 * np.log10(spectrum + 1e-6), linewidth=0.6)
            for formant in synthesis.formant_table()[voice, name][1:]:
                power.axvline(formant / 1000, color="tab:red", linewidth=0.5)
            for axes in (time, power):
                axes.tick_params(labelsize=6)
        figure.savefig(path, dpi=80)


def _load(spec: VowelsSpec, split: str, data_dir: Path) -> dict[str, np.ndarray]:
    """One split, from the cache. Its name holds everything that decides it, so the sizes of other
    splits do not matter."""
    options = spec.model_dump(exclude=set(SPLITS)) | {
        "split": split,
        "count": int(getattr(spec, split)),
        "synthesis": synthesis.SYNTHESIS_VERSION,
    }
    name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
    path = data_dir / "vowels" / name / f"{split}.npz"
    size = int(getattr(spec, split)) * 2 * spec.length
    return cached(path, lambda: synthesis.generate(spec, split), size)
