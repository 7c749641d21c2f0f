"""Files of `audio_folder`: the recordings, their classes and splits, and how one is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.tasks.own.content import content_sha256, files_of
from harness.tasks.own.splits import WORDS, check_classes, split_rows, with_sizes
from harness.tasks.specs.own import AudioFolderSpec, Content
from harness.tools.inputs import cut, shown

SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus",
    ".rf64", ".snd", ".sph", ".voc", ".w64", ".wav",
)  # fmt: skip
_TAPS = 10  # of scipy's filter, on either side, times the larger of the two factors
_OPEN_ENDED = (0, 0xFFFFFFFF)  # sizes in the header of a WAV file that was written as a stream


@dataclass(frozen=True)
class Recordings:
    """files: in the order of their paths; labels: (n,) int64 codes into `classes`; split: (n,) int8
    indices into SPLITS, or None; left_out: files of other kinds."""

    files: list[Path]
    labels: np.ndarray
    classes: list[str]
    split: np.ndarray | None
    left_out: int


def look(spec: AudioFolderSpec, path: Path) -> Content:
    """What the folder holds. No recording is decoded, and nothing is written."""
    found = listed(path)
    rows = rows_of(spec, found.labels, found.split, found.classes)
    return with_sizes(content_of(path, found), rows)


def content_of(path: Path, found: Recordings) -> Content:
    """What a plan needs to know."""
    return Content(
        path=str(path),
        sha256=content_sha256(path, found.files),
        examples=len(found.files),
        outputs=len(found.classes),
    )


def rows_of(
    spec: AudioFolderSpec, labels: np.ndarray, given: np.ndarray | None, classes: list[str]
) -> dict[str, np.ndarray]:
    """{split: (n,) int64 recordings}; ValueError for one that is empty, or has an unknown class."""
    rows = split_rows(spec, len(labels), labels, given)
    check_classes(cut(spec.path), labels, rows, classes)
    return rows


def listed(path: Path) -> Recordings:
    """The recordings below a folder. Raises ValueError if there are not at least two classes."""
    if path.is_file():
        raise ValueError(f"{cut(str(path))} is a file, not a folder with one for each class")
    files = files_of(path, SUFFIXES)
    places = [file.relative_to(path).parts for file in files]
    tops = {place[0].lower() for place in places if len(place) > 1}
    splits = tops <= WORDS.keys() and {0, 2} <= {WORDS[top] for top in tops}
    depth = 2 if splits else 1
    for place in places:
        if len(place) <= depth:
            raise ValueError(
                f"{cut(str(path))}: {shown('/'.join(place), 100)} lies in no class's folder"
            )
    names = [place[depth - 1] for place in places]
    classes = sorted(set(names))
    if len(classes) < 2:
        raise ValueError(f"{cut(str(path))} has one class only, {shown(classes[0], 60)}")
    codes = {name: code for code, name in enumerate(classes)}
    split = [WORDS[place[0].lower()] for place in places] if splits else None
    return Recordings(
        files,
        np.array([codes[name] for name in names], dtype=np.int64),
        classes,
        None if split is None else np.array(split, dtype=np.int8),
        len(files_of(path)) - len(files),
    )


def read_recording(file: Path, where: str, rate: int, length: int) -> tuple[np.ndarray, int, int]:
    """((length,) float32 at `rate` Hz; the file's own rate; its frames).

    The mean of all channels, resampled by scipy's polyphase filter, cut at the end or followed by
    zeros. Raises ValueError, one line that begins with `where`.
    """
    import soundfile

    try:
        with file.open("rb") as content:
            _refuse_cut_off(content.read(12), file.stat().st_size, where)
            content.seek(0)
            with soundfile.SoundFile(content) as sound:
                own, frames = sound.samplerate, sound.frames
                up, down = _factors(rate, own)
                # Only what the filter needs for the kept part: a file may last for hours.
                needed = math.ceil(length * down / up) + math.ceil(_TAPS * max(up, down) / up) + 1
                channels = sound.read(frames=needed, dtype="float64", always_2d=True)
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror or cut(str(error))}") from None
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"{where} is no recording that can be read: {cut(str(error))}") from None
    if not len(channels):
        raise ValueError(f"{where} holds no sound")
    if len(channels) < min(needed, frames):
        raise ValueError(f"{where} is cut off: it has {len(channels)} of {frames} frames")
    wave = channels.mean(1)
    if not np.isfinite(wave).all():
        raise ValueError(f"{where} holds NaN or infinite samples")
    if (up, down) != (1, 1):
        from scipy.signal import resample_poly

        wave = resample_poly(wave, up, down)
    clip = np.zeros(length, dtype=np.float32)
    clip[: len(wave)] = wave[:length]
    return clip, own, frames


def _factors(rate: int, own: int) -> tuple[int, int]:
    common = math.gcd(rate, own)
    return rate // common, own // common


def _refuse_cut_off(head: bytes, size: int, where: str) -> None:
    """(libsndfile reads a truncated WAV file as a shorter one.)"""
    announced = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and announced not in _OPEN_ENDED and size < announced + 8:
        raise ValueError(f"{where} is cut off: it has {size} of {announced + 8} bytes")
