"""Samples: text files that show what a model of characters sees, and sound files."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import numpy as np

from harness.tasks.base import Task, sample_path
from harness.tasks.text.characters import END, PAD, Vocabulary


def write_sound(path: Path, sound: np.ndarray, rate: int) -> None:
    """A WAV file of 16 bits; OSError if it cannot be written (soundfile's own errors give neither
    path nor reason)."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, sound, rate, subtype="PCM_16", format="WAV")
    path.write_bytes(content.getvalue())


def write_documents(
    directory: str | Path,
    task: Task,
    vocabulary: Vocabulary,
    entries: list[tuple[str, list[np.ndarray]]],
) -> Path:
    """`directory`/NAME.txt. entries: of each example its class in words, and its documents as
    vectors of tokens."""
    lines = [f"{task.name}: {task.provenance}", ""]
    for label, documents in entries:
        for tokens in documents:
            count = int(np.count_nonzero(tokens != PAD))
            shown = vocabulary.text(tokens[tokens != END])
            lines += [f"--- {label}; {count} tokens, then padding to {len(tokens)}"]
            lines += [textwrap.fill(shown, 100), ""]
    first = entries[0][1][0][:100].tolist()
    lines += [
        "--- the first as the model sees it, up to 100 tokens",
        textwrap.fill(str(first), 100),
    ]
    lines += ["", f"--- the tokens: {' '.join(map(repr, vocabulary.symbols))}", ""]
    path = sample_path(directory, f"{task.name}.txt")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
