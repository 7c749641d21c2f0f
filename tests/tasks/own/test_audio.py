"""`audio_folder`: recordings of any format and rate, a sub-folder a class."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile

from harness import tasks
from harness.cli.app import execute
from harness.suite import TaskSpec
from harness.tasks.own.recordings import read_recording

from .test_arrays import everything
from .test_identity import id_of
from .test_trained import trained

RATE, LENGTH = 8_000, 400


def tone(pitch, seconds=0.1, rate=RATE, phase=0.0):
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate + phase)


def write(folder, pitches=(("low", 200.0), ("high", 1500.0)), count=12, kind="wav", rate=RATE):
    for name, pitch in pitches:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            wave = tone(pitch, rate=rate, phase=number)
            soundfile.write(folder / name / f"{number:02}.{kind}", wave, rate)


def test_classes_rate_and_length(here, made):
    write(here / "mine")
    (here / "mine" / "low" / "notes.txt").write_text("not a recording")
    task = made("audio_folder", path="mine", rate=RATE, length=LENGTH)
    assert (task.info.kind, task.info.outputs, task.info.length) == ("classification", 2, LENGTH)
    assert task.sizes == {"train": 20, "validation": 2, "test": 2}
    x, y = everything(task, "train")
    spectrum = np.abs(np.fft.rfft(x[..., 0].numpy()))
    pitch = spectrum.argmax(1) * RATE / LENGTH
    np.testing.assert_allclose(pitch, np.where(y == 0, 1500.0, 200.0), atol=RATE / LENGTH)
    summary = task.summary()
    assert summary["notes"]["classes"] == ["high", "low"]
    assert (summary["notes"]["left_out"], summary["notes"]["cut"]) == (1, 24)
    assert summary["balance"]["test"]["classes"] == [1, 1]
    assert task.sample(here / "samples").read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "aiff", "mp3"])
def test_formats(here, made, kind):
    write(here / "mine", kind=kind, rate=16_000)
    task = made("audio_folder", path="mine", rate=16_000, length=1600)
    x, y = everything(task, "test")
    spectrum = np.abs(np.fft.rfft(x[..., 0].numpy()))
    np.testing.assert_allclose(spectrum.argmax(1) * 10, np.where(y == 0, 1500.0, 200.0), atol=10)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_resampling_gives_the_same_tone(here, rate):
    """A tone far below both rates' limits is the same function of time at either."""
    soundfile.write("a.wav", tone(200.0, seconds=0.3, rate=rate), rate, subtype="FLOAT")
    clip, own, _ = read_recording(here / "a.wav", "a.wav", RATE, LENGTH)
    assert own == rate
    edge = 40  # samples in which the filter sees the beginning
    wanted = tone(200.0, seconds=LENGTH / RATE)
    np.testing.assert_allclose(clip[edge:], wanted[edge:], atol=2e-3)


def test_only_what_is_kept_is_read_and_changes_nothing(here):
    """A file that goes on begins like one that ends where the filter no longer sees."""
    random = np.random.default_rng(0)
    wave = random.uniform(-0.5, 0.5, 44_100)
    soundfile.write("long.wav", wave, 44_100, subtype="FLOAT")
    from scipy.signal import resample_poly

    stored, _ = soundfile.read("long.wav")
    clip, _, frames = read_recording(here / "long.wav", "long.wav", RATE, LENGTH)
    assert frames == 44_100
    np.testing.assert_allclose(clip, resample_poly(stored, 80, 441)[:LENGTH], atol=1e-6)


def test_short_ones_are_followed_by_silence_and_channels_are_averaged(here):
    left, right = tone(200.0, 0.02), tone(300.0, 0.02)
    soundfile.write("a.wav", np.stack([left, right], axis=-1), RATE, subtype="FLOAT")
    clip, _, frames = read_recording(here / "a.wav", "a.wav", RATE, LENGTH)
    np.testing.assert_allclose(clip[:frames], (left + right) / 2, atol=1e-6)
    assert not clip[frames:].any()


def test_splits_that_the_folders_give(here, made):
    for split, count in (("train", 8), ("val", 2), ("test", 3)):
        write(here / "mine" / split, count=count)
    task = made("audio_folder", path="mine", rate=RATE, length=LENGTH)
    assert task.sizes == {"train": 16, "validation": 4, "test": 6}
    assert task.info.outputs == 2
    shutil.rmtree(here / "mine" / "val")
    task = made("audio_folder", path="mine", rate=RATE, length=LENGTH)
    assert task.sizes == {"train": 14, "validation": 2, "test": 6}
    write(here / "mine" / "test", pitches=(("new", 50.0),), count=1)
    with pytest.raises(ValueError, match="class 'new' is in the test split and not in training"):
        TaskSpec(name="audio_folder", path="mine")


def test_identity_is_content(here):
    write(here / "a")
    fields = {"name": "audio_folder", "rate": RATE, "length": LENGTH}
    first = id_of("a", **fields)
    shutil.copytree("a", "b")
    assert id_of("b", **fields) == first
    spec = TaskSpec(path="b", **fields)
    soundfile.write(here / "b" / "low" / "00.wav", tone(201.0), RATE)
    assert id_of("b", **fields) != first
    with pytest.raises(ValueError, match="b holds other data than the trial was planned with"):
        tasks.build(spec)


def test_trained(here, capsys):
    write(here / "mine", count=30)
    fields = {"name": "audio_folder", "path": "mine", "rate": RATE, "length": 200}
    record = trained(capsys, fields)
    assert record["test_metric"] > 0.8


def nothing(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def cut_off(folder):
    file = folder / "low" / "03.wav"
    file.write_bytes(file.read_bytes()[:-100])


def noise(folder):
    (folder / "low" / "03.wav").write_bytes(b"no recording at all")


def nan(folder):
    soundfile.write(folder / "low" / "03.wav", np.full(800, np.nan), RATE, subtype="FLOAT")


def silent(folder):
    soundfile.write(folder / "low" / "03.wav", np.zeros(0), RATE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (nothing, "mine holds no file of .aif"),
        (lambda folder: shutil.rmtree(folder / "low"), "mine has one class only, 'high'"),
        (lambda folder: shutil.move(folder / "low" / "03.wav", folder / "x.wav"), "in no class's"),
        (cut_off, "03.wav (file 16 of 24) is cut off: it has 1544 of 1644 bytes"),
        (noise, "03.wav (file 16 of 24) is no recording that can be read: "),
        (nan, "03.wav (file 16 of 24) holds NaN or infinite samples"),
        (silent, "03.wav (file 16 of 24) holds no sound"),
    ],
)
def test_what_is_refused(here, capsys, change, says):
    write(here / "mine")
    change(here / "mine")
    assert execute(["data", "check", "audio_folder", "--set", "path=mine"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert not list(here.rglob("index.json"))


def test_a_file_is_no_folder(here, capsys):
    soundfile.write("a.wav", tone(200.0), RATE)
    assert execute(["data", "check", "audio_folder", "--set", "path=a.wav"]) == 2
    assert "a.wav is a file, not a folder with one for each class" in capsys.readouterr().err
