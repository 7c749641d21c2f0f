"""speech_commands, sc10: clips, words and splits, from a miniature of the archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.tasks import build
from harness.tasks.specs import Sc10Spec, SpeechCommandsSpec
from harness.tasks.specs.sound import TEN_WORDS, WORDS

from ..miniature import without_checksums, write_tar
from ..miniature_media import RATE, clip, clip_name, speech_commands, wav, write_speech_commands

TEN = Sc10Spec(name="sc10")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    without_checksums(monkeypatch)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    write_tar(folder / "downloads" / "speech_commands_v0.02.tar.gz", files)
    return folder


@pytest.mark.parametrize("lists_first", [False, True])
def test_splits_are_those_of_the_lists_in_the_order_of_words_and_files(tmp_path, lists_first):
    """Four clips a word: 0 and 1 train, 2 tests, 3 validates; clip 0 is padded with silence."""
    write_speech_commands(tmp_path / "downloads", 4, lists_first)
    task = build(SpeechCommandsSpec(name="speech_commands"), tmp_path)
    assert task.sizes == {"train": 70, "validation": 35, "test": 35}
    for split, numbers in {"train": (0, 1), "validation": (3,), "test": (2,)}.items():
        x, y = task.examples(split, np.arange(task.sizes[split]))
        expected = [(label, k) for label in range(35) for k in numbers]
        assert y.tolist() == [label for label, _ in expected]
        for wave, (label, k) in zip(x[..., 0].numpy(), expected, strict=True):
            samples = clip(WORDS[label], k)
            np.testing.assert_array_equal(wave[: len(samples)] * 32_768, samples)
            assert not wave[len(samples) :].any()
    assert task.summary()["notes"] == {"clips": 140, "padded": 35, "cut": 0}


def test_ten_words_at_half_the_rate(tmp_path):
    write_speech_commands(tmp_path / "downloads")
    full, half = build(TEN, tmp_path), build(TEN.model_copy(update={"rate": 8000}), tmp_path)
    assert half.info.outputs == 10
    rows = np.arange(20)
    (x, y), (z, w) = full.examples("train", rows), half.examples("train", rows)
    assert tuple(z.shape) == (20, 8000, 1)
    np.testing.assert_array_equal(z, x[:, ::2])
    np.testing.assert_array_equal(y, w)
    np.testing.assert_array_equal(x[19, :, 0] * 32_768, clip(TEN_WORDS[9], 1))
    assert full.stored.folder == half.stored.folder
    assert full.fingerprint != half.fingerprint


def test_a_long_clip_is_cut_to_a_second(tmp_path):
    long = np.arange(17_000, dtype=np.int16)
    files = speech_commands() | {clip_name("yes", 1): wav(long)}
    task = build(TEN, write(tmp_path, files))
    np.testing.assert_array_equal(
        task.examples("train", np.array([19]))[0][0, :, 0] * 32_768, long[:RATE]
    )
    assert task.summary()["notes"]["cut"] == 1


def test_sample_is_a_sound_of_each_word_and_a_picture(tmp_path):
    write_speech_commands(tmp_path / "downloads")
    path = build(TEN, tmp_path).sample(tmp_path / "samples")
    sound, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert len(sound) == 10 * (RATE + RATE // 5)
    second = sound[RATE + RATE // 5 :][:11_000]
    np.testing.assert_array_equal(second, clip("go", 0))
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


GOOD = wav(clip("go", 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-100], "is cut off: it has 31944 of 32044 bytes"),
        (GOOD[:30], "is damaged: no readable WAV"),
        (b"", "is damaged: no readable WAV"),
        (b"<html>", "is damaged: no readable WAV"),
        (wav(clip("go", 1), rate=44_100), "1 channels at 44100 Hz; expected"),
        (wav(clip("go", 1), channels=2), "2 channels at 16000 Hz; expected"),
        (wav(np.zeros(0, dtype=np.int16)), "holds no sound"),
    ],
)
def test_a_bad_clip_is_named_in_one_line(tmp_path, content, message):
    name = clip_name("go", 1)
    data_dir = write(tmp_path, speech_commands() | {name: content})
    with pytest.raises(ValueError, match=message) as caught:
        build(TEN, data_dir)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "sc10").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("testing_list.txt", "has no testing_list.txt"),
        ("yes/", "has no clip of 'yes'"),
    ],
)
def test_what_the_archive_lacks_is_named(tmp_path, gone, message):
    files = {k: v for k, v in speech_commands().items() if not k.startswith(gone)}
    with pytest.raises(ValueError, match=message):
        build(TEN, write(tmp_path, files))


def test_a_listed_clip_that_is_not_there_is_named(tmp_path):
    files = {k: v for k, v in speech_commands().items() if k != clip_name("go", 3)}
    with pytest.raises(ValueError, match=r"lists 'go/.*which is not there"):
        build(TEN, write(tmp_path, files))
