"""`speech_commands` and `sc10`: spoken words as raw waveforms, from the original archive."""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import torch

from harness.tasks.base import SPLITS, sample_path
from harness.tasks.samples import write_sound
from harness.tasks.specs import SpeechCommandsSpec
from harness.tasks.specs.sound import WORDS
from harness.tasks.storage.archives import below_one_root
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.mapped import mapped
from harness.tasks.stored import StoredTask
from harness.tools.inputs import shown

ARCHIVE = "speech_commands_v0.02.tar.gz"
RATE = 16_000  # of the recordings, in Hz; a clip lasts a second at most
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

_BUILD = 1  # increase when the arrays change
_CLIP = rf"(?P<word>{'|'.join(WORDS)})/(?P<file>[^./][^/]*)"
_NAME = re.compile(r"[0-9a-f]+_nohash_[0-9]+\.wav")
_LIST = "|".join(map(re.escape, LISTS.values()))
_MAX_MEMBER, _MAX_TOTAL = 1 << 24, 10**10  # bytes


class SpeechCommands(StoredTask):
    """Which word a clip of one second holds: x (batch, rate, 1) float32 in [-1, 1].

    Classes are the spec's words in their (alphabetical) order. Validation and test clips are those
    of the archive's lists, all others train; within a split they are ordered by word and file
    name. At 8 kHz every second sample is kept, without a filter, so that a model trained at
    16 kHz reads the same signal at another step size.
    """

    def __init__(self, spec: SpeechCommandsSpec, data_dir: Path) -> None:
        stored = mapped(
            data_dir,
            spec.name,
            {"words": list(spec.words), "build": _BUILD},
            lambda builder: _build(builder, spec.words),
        )
        rows = {split: np.asarray(stored.arrays[split]) for split in SPLITS}
        super().__init__(spec, stored, rows, np.asarray(stored.arrays["labels"]))
        self._clips, self._words = stored.arrays["clips"].reshape(-1, RATE), spec.words
        self._every = RATE // spec.rate
        self.provenance = (
            f"Speech Commands v0.02 (Warden, 2018), {len(spec.words)} words, split by its own "
            f"lists; {stored.notes['padded']} clips of less than a second are followed by silence"
            + ("; every second sample of 16 kHz" if self._every == 2 else "")
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        clips = np.asarray(self._clips[self.pool_rows(split, rows), :: self._every])
        x = torch.from_numpy(clips / np.float32(32_768)).unsqueeze(-1)
        return x, torch.from_numpy(self.labels(split, rows))

    def sample(self, directory: str | Path) -> Path:
        """A sound file: one training clip of each word, in turn; beside it a picture (.png) of
        their waveforms. Returns the sound file's path."""
        labels = self.labels("train")
        chosen = [int(np.argmax(labels == k)) for k in np.unique(labels)]
        x, y = self.examples("train", np.array(chosen))
        rate = RATE // self._every
        gap = np.zeros(rate // 5, dtype=np.float32)
        sound = np.concatenate([part for wave in x[..., 0].numpy() for part in (wave, gap)])
        path = sample_path(directory, f"{self.name}.wav")
        write_sound(path, sound, rate)
        self._draw(x[..., 0].numpy(), [self._words[k] for k in y.tolist()], path)
        return path

    def _draw(self, waves: np.ndarray, words: list[str], path: Path) -> None:
        from matplotlib.figure import Figure

        columns = 5
        lines = -(-len(words) // columns)
        figure = Figure(figsize=(15, 1.3 * lines + 0.5), layout="constrained")
        figure.suptitle(f"{self.name}: amplitude against seconds")
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True).flat
        seconds = np.arange(waves.shape[1]) * self._every / RATE
        for axes, wave, word in zip(grid, waves, words, strict=False):
            axes.plot(seconds, wave, linewidth=0.4)
            axes.set_title(word, fontsize=9)
            axes.tick_params(labelsize=6)
        figure.savefig(path.with_suffix(".png"), dpi=80)


def _build(builder: Builder, words: tuple[str, ...]) -> None:
    """The pool: `clips` (16000 n,) int16 and `labels` (n,) uint8 in the archive's order; and
    `train`, `validation`, `test`, the rows of each split ordered by word and file name."""
    path = builder.archive(ARCHIVE)
    clips = builder.grow("clips", np.int16)
    names: list[str] = []
    others: set[str] = set()  # clips of words that are not asked for
    lists: dict[str, bytes] = {}
    lengths = []
    for match, file in below_one_root(path, f"{_CLIP}|{_LIST}", _MAX_MEMBER, _MAX_TOTAL):
        if match["word"] is None:
            lists[match["key"]] = file.read()
        elif _NAME.fullmatch(match["file"]) is None:
            raise ValueError(
                f"{path}: {shown(match[0])} lies among the clips; expected "
                "SPEAKER_nohash_NUMBER.wav"
            )
        elif match["word"] not in words:
            others.add(match["key"])
        else:
            clip, length = read_clip(file.read(), f"{path}: {match[0]}")
            clips.append(clip)
            names.append(match["key"])
            lengths.append(length)
    missing = [name for name in LISTS.values() if name not in lists]
    missing += [f"clip of {w!r}" for w in words if not any(n.startswith(w + "/") for n in names)]
    if missing:
        raise ValueError(f"{path} has no {missing[0]}")
    splits = _splits(path, lists, others.union(names))
    order = sorted(range(len(names)), key=lambda row: names[row].split("/"))
    for split in SPLITS:
        rows = [row for row in order if splits.get(names[row], "train") == split]
        if not rows:
            where = f"{LISTS[split]} lists none" if split in LISTS else "the lists hold all"
            raise ValueError(f"{path}: no clip is left for {split}, since {where} of these words")
        builder.put(split, np.array(rows, dtype=np.int64))
    labels = [words.index(name.split("/")[0]) for name in names]
    builder.put("labels", np.array(labels, dtype=np.uint8))
    builder.notes |= {
        "clips": len(names),
        "padded": int(np.sum(np.array(lengths) < RATE)),
        "cut": int(np.sum(np.array(lengths) > RATE)),
    }


def _splits(path: Path, lists: dict[str, bytes], clips: set[str]) -> dict[str, str]:
    """{clip: "validation" or "test"} by the archive's lists, WORD/FILE.wav a line as they name
    `clips`. Raises ValueError for a line that names none, or one that was named before."""
    splits: dict[str, str] = {}
    for split, listing in LISTS.items():
        for number, line in enumerate(lists[listing].removeprefix(BOM_UTF8).splitlines(), start=1):
            name = line.strip().decode("utf-8", errors="replace")
            if not name:
                continue
            if name not in clips:
                what = "which is not there"
            elif name in splits:
                what = f"which {LISTS[splits[name]]} has already"
            else:
                splits[name] = split
                continue
            raise ValueError(f"{path}: {listing}, line {number}, lists {shown(name)}, {what}")
    return splits


def read_clip(content: bytes, where: str) -> tuple[np.ndarray, int]:
    """((16000,) int16, padded with zeros on the right or cut; samples in the file) of a WAV file.

    Raises ValueError for what is no whole WAV file of 16 bits, one channel and 16 kHz.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            form = (file.format, file.subtype, file.channels, file.samplerate)
            wave = file.read(dtype="int16", always_2d=True)[:, 0]
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"{where} is damaged: no readable WAV file") from error
    if form != ("WAV", "PCM_16", 1, RATE):
        raise ValueError(
            f"{where} is {form[0]} {form[1]} with {form[2]} channels at {form[3]} Hz; expected "
            f"WAV PCM_16 with 1 at {RATE} Hz"
        )
    announced = int.from_bytes(content[4:8], "little") + 8
    if len(content) < announced:
        raise ValueError(f"{where} is cut off: it has {len(content)} of {announced} bytes")
    if not len(wave):
        raise ValueError(f"{where} holds no sound")
    clip = np.zeros(RATE, dtype=np.int16)
    clip[: len(wave)] = wave[:RATE]
    return clip, len(wave)
