"""Miniature archives of sound and of contours in the exact formats of the originals.

See `miniature`. `pathfinder_members` makes what `miniature_text.write_lra` takes as images.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from harness import tasks
from harness.tasks.specs import (
    PathfinderGeneratedSpec,
    PathfinderSpec,
    PathxSpec,
    Sc10Spec,
    SpeechCommandsSpec,
)
from harness.tasks.specs.sound import WORDS

from . import miniature_text
from .miniature import write_tar

SPECS: dict[str, tasks.TaskSpecBase] = {
    "pathfinder": PathfinderSpec(name="pathfinder"),
    "pathfinder_generated": PathfinderGeneratedSpec(
        name="pathfinder_generated", difficulty="easy", train=120, validation=40, test=50
    ),
    "pathx": PathxSpec(name="pathx"),
    "sc10": Sc10Spec(name="sc10"),
    "speech_commands": SpeechCommandsSpec(name="speech_commands"),
}

RATE = 16_000


def write_all(folder: Path) -> None:
    """The LRA's archive is written whole, with its tables: other modules' tasks read it, too."""
    write_speech_commands(folder)
    miniature_text.write_lra(folder, images=pathfinder_images())


def pathfinder_images() -> dict[str, bytes]:
    """Images for the tasks of SPECS."""
    return pathfinder_members(60, 32, "curv_contour_length_14") | pathfinder_members(
        40, 128, "curv_contour_length_14"
    )


def pathfinder_members(count: int, resolution: int, folder: str, seed: int = 0) -> dict[str, bytes]:
    """{name below the release's inner folder: content} of `count` readable images, half in folder
    10 and half in folder 2 of imgs, and of one empty file, imgs/2/sample_1.png.

    Sample k of a folder is listed as line k of its metadata; the image of line k, counted over
    the folders in the order of their numbers (2, 10) without the empty one, is `picture(k, ...)`
    with label k % 2, then random below that.
    """
    members, number = {}, 0
    for part, some in ((2, count // 2 + 1), (10, count - count // 2)):
        lines = []
        for k in range(some):
            name, label = f"sample_{k}.png", number % 2
            content = b""
            if (part, k) != (2, 1):
                content = png(picture(number, resolution, seed))
                number += 1
            members[f"{base(resolution, folder)}/imgs/{part}/{name}"] = content
            lines.append(f"imgs/{part} {name} {k} {label} 1.8 6 2.0 5 1.5 1 1\n")
        members[f"{base(resolution, folder)}/metadata/{part}.npy"] = "".join(lines).encode()
    return dict(reversed(members.items()))  # the order in an archive is no order to rely on


def base(resolution: int, folder: str) -> str:
    return f"pathfinder{resolution}/{folder}"


def picture(number: int, resolution: int, seed: int = 0) -> np.ndarray:
    """(resolution, resolution) uint8, noise of its own."""
    random = np.random.default_rng([seed, number, resolution])
    return random.integers(0, 256, (resolution, resolution), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_speech_commands(folder: Path, per_word: int = 4, lists_first: bool = False) -> None:
    """speech_commands_v0.02.tar.gz: of each word the last two clips are listed, the last for
    validation and the one before for testing; the first is shorter than a second."""
    files = speech_commands(per_word)
    lists = {name: content for name, content in files.items() if name.endswith(".txt")}
    clips = {name: content for name, content in files.items() if name not in lists}
    # (the original's names begin with ./)
    ordered = lists | clips if lists_first else clips | lists
    write_tar(
        folder / "speech_commands_v0.02.tar.gz",
        {f"./{name}": content for name, content in ordered.items()},
    )


def speech_commands(per_word: int = 4) -> dict[str, bytes]:
    """{name in the archive: content}, words and speakers out of order."""
    files, listed = {}, {"validation_list.txt": [], "testing_list.txt": []}
    for word in reversed(WORDS):
        for k in reversed(range(per_word)):
            name = clip_name(word, k)
            files[name] = wav(clip(word, k))
            if k >= per_word - 2:
                list_name = "validation_list.txt" if k == per_word - 1 else "testing_list.txt"
                listed[list_name].append(f"{name}\n")
    files["_background_noise_/white_noise.wav"] = wav(np.zeros(40_000, dtype=np.int16))
    files["README.md"] = b"## Speech Commands Data Set v0.02"
    return files | {name: "".join(lines).encode() for name, lines in listed.items()}


def clip_name(word: str, k: int) -> str:
    return f"{word}/{k * 7 + 1:08x}_nohash_{k % 2}.wav"


def clip(word: str, k: int) -> np.ndarray:
    """A tone of the word's own pitch in noise of the clip's own; the first clip is short."""
    random = np.random.default_rng([WORDS.index(word), k])
    length = 11_000 if k == 0 else RATE
    tone = np.sin(2 * np.pi * (200 + 40 * WORDS.index(word)) * np.arange(length) / RATE)
    return (8_000 * tone + random.normal(0, 500, length)).astype(np.int16)


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1) -> bytes:
    """A WAV file of 16 bits: header of 44 bytes, then little-endian samples."""
    body = samples.astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", len(chunks) + len(body)) + chunks + body
