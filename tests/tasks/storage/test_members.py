"""Members by their whole path below one root: a second copy of some is refused, or one is chosen.

Each case ended before in an IndexError, in other sizes, or in labels of other images.
"""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness import tasks
from harness.tasks.specs import (
    AanSpec,
    Enwik8Spec,
    ListopsSpec,
    PathfinderSpec,
    PathxSpec,
    ScifarSpec,
    Text8Spec,
    Wikitext103Spec,
)

from ..miniature import without_checksums, write_cifar, write_tar
from ..miniature_media import SPECS as MEDIA
from ..miniature_media import clip_name, pathfinder_members, speech_commands
from ..miniature_text import (
    SPECS,
    aan_tables,
    enwik8,
    imdb_reviews,
    listops_tables,
    text8,
    wikitext103,
    write_zip,
)

HARD = "curv_contour_length_14"


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def everything(task: tasks.Task) -> dict[str, tuple[bytes, bytes]]:
    """{split: (examples, targets)}."""
    found = {}
    for split, size in task.sizes.items():
        x, y = task.examples(split, np.arange(size))
        found[split] = x.numpy().tobytes(), y.numpy().tobytes()
    return found


def cifar_files(folder: Path) -> dict[str, bytes]:
    write_cifar(folder)
    with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}{name}": content for name, content in files.items()}


def imdb_files() -> dict[str, bytes]:
    return {name: text.encode() for name, text in imdb_reviews().items()}


# {task: (its spec, archive, members, one of them that a copy holds)}
SINGLE = {
    "scifar": (ScifarSpec(name="scifar"), None, "cifar-10-batches-bin/data_batch_2.bin"),
    "imdb": (SPECS["imdb"], imdb_files(), "aclImdb/train/neg/0_"),
    "sc10": (MEDIA["sc10"], speech_commands(), clip_name("go", 0)),
    "lists": (MEDIA["sc10"], speech_commands(), "testing_list.txt"),
    "text8": (Text8Spec(name="text8", window=32), {"text8": text8()}, "text8"),
    "enwik8": (Enwik8Spec(name="enwik8", window=32), {"enwik8": enwik8()}, "enwik8"),
    "wikitext103": (
        Wikitext103Spec(name="wikitext103", window=32),
        below("wikitext-103-raw/", wikitext103()),
        "wikitext-103-raw/wiki.test.raw",
    ),
}


def write(path: Path, files: dict[str, bytes]) -> None:
    (write_zip if path.suffix == ".zip" else write_tar)(path, files)


@pytest.mark.parametrize("copy_first", [True, False])
@pytest.mark.parametrize("where", ["backup/", "a/b/"])
@pytest.mark.parametrize("name", SINGLE)
def test_a_second_copy_of_a_member_is_refused_by_name(tmp_path, name, where, copy_first):
    spec, files, member = SINGLE[name]
    files = files or cifar_files(tmp_path / "made")
    member = next(path for path in files if path.startswith(member))
    twin = {where + member: files[member]}
    path = tmp_path / "downloads" / spec.archives[0]
    write(path, twin | files if copy_first else files | twin)
    with pytest.raises(ValueError, match="in another place") as told:
        tasks.build(spec, tmp_path)
    assert str(path) in str(told.value)
    assert where + member in str(told.value)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.glob("*/*/index.json"))


@pytest.mark.parametrize("root", ["", "./", "./deep/er/"])
@pytest.mark.parametrize("name", SINGLE)
def test_any_root_will_do_and_notes_of_other_systems_are_passed_over(tmp_path, name, root):
    spec, files, member = SINGLE[name]
    files = files or cifar_files(tmp_path / "made")
    member = next(path for path in files if path.startswith(member))
    folder, _, file = member.rpartition("/")
    beside = {f"__MACOSX/{folder}/._{file}": b"\0\5\x16\7", f"{folder}/.DS_Store": b"note"}
    beside = {path.lstrip("/"): content for path, content in beside.items()}
    archive = spec.archives[0]
    write(tmp_path / "a" / "downloads" / archive, files)
    write(tmp_path / "b" / "downloads" / archive, below(root, beside | files))
    one, other = (tasks.build(spec, tmp_path / place) for place in "ab")
    assert other.fingerprint == one.fingerprint
    assert everything(other) == everything(one)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"aclImdb/train/neg/0_9.txt": b"x"}, r"train/neg/0_\d.txt .* of the same number"),
        ({"aclImdb/train/neg/00_9.txt": b"x"}, r"train/neg/0{1,2}_\d.txt .* of the same number"),
        ({"aclImdb/test/pos/1_9.text": b"x"}, "pos/1_9.text' lies among the reviews; expected"),
        ({"aclImdb/test/pos/first_9.txt": b"x"}, "pos/first_9.txt' lies among the reviews"),
    ],
)
def test_a_review_that_would_be_lost_is_named(tmp_path, change, says):
    write(tmp_path / "downloads" / "aclImdb_v1.tar.gz", imdb_files() | change)
    with pytest.raises(ValueError, match=says):
        tasks.build(SPECS["imdb"], tmp_path)


def test_a_clip_that_would_be_lost_is_named(tmp_path):
    files = speech_commands() | {"go/mine.wav": b"x"}
    write(tmp_path / "downloads" / "speech_commands_v0.02.tar.gz", files)
    with pytest.raises(ValueError, match=r"'go/mine\.wav' lies among the clips; expected SPEAKER"):
        tasks.build(MEDIA["sc10"], tmp_path)


def pathx(folder: Path, *copies: dict[str, bytes]) -> tasks.Task:
    files: dict[str, bytes] = {}
    for copy in copies:
        files |= copy
    write_tar(folder / "downloads" / "lra_release.gz", files)
    return tasks.build(PathxSpec(name="pathx"), folder)


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return pathfinder_members(40, 128, HARD)


@pytest.fixture(scope="module")
def single(tmp_path_factory, images):
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_checksums(monkeypatch)
        return pathx(tmp_path_factory.mktemp("single"), below("lra_release/lra_release/", images))


def partial(images: dict[str, bytes], *tables: str) -> dict[str, bytes]:
    """The images of folder 2 alone, with these tables, as other pictures than the true ones."""
    other = pathfinder_members(40, 128, HARD, seed=1)
    return {
        name: other[name]
        for name in images
        if "/imgs/2/" in name or any(name.endswith(f"/metadata/{table}") for table in tables)
    }


@pytest.mark.parametrize("tables", [(), ("2.npy",), ("2.npy", "10.npy")])
@pytest.mark.parametrize("partial_first", [True, False])
def test_of_two_copies_of_pathfinder_the_whole_one_is_taken_and_said(
    tmp_path, images, single, capsys, tables, partial_first
):
    inner = below("lra_release/lra_release/", images)
    outer = below("lra_release/", partial(images, *tables))
    copies = (outer, inner) if partial_first else (inner, outer)
    task = pathx(tmp_path, *copies)
    assert everything(task) == everything(single)
    assert task.fingerprint == single.fingerprint
    assert task.stored.notes["root"] == "lra_release/lra_release/"
    assert task.stored.notes["other_roots"] == ["lra_release/"]
    assert sorted(path.name for path in task.stored.folder.iterdir()) == [
        "images.npy", "index.json", "labels.npy", "order.npy"
    ]  # fmt: skip
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "lra_release.gz" in line]
    assert f"holds pathfinder128/{HARD} below lra_release/lra_release/ and lra_release/" in line
    assert "with 40 whole images, is taken" in line


def test_of_two_whole_copies_the_outer_one_is_taken(tmp_path, images, single):
    same = below("lra_release/", images), below("lra_release/lra_release/", images)
    task = pathx(tmp_path, *same)
    assert task.stored.notes["root"] == "lra_release/"
    assert everything(task) == everything(single)


def test_where_no_copy_is_whole_the_larger_one_is_explained(tmp_path, images):
    torn = dict(images)
    del torn[f"pathfinder128/{HARD}/imgs/10/sample_0.png"]
    copies = below("a/", partial(images)), below("b/", torn)
    with pytest.raises(ValueError, match=r"b/pathfinder128/.*10\.npy, line 1, lists imgs/10/"):
        pathx(tmp_path, *copies)
    assert not list((tmp_path / "pathfinder").glob("*/"))


def test_a_cache_that_was_made_of_two_copies_is_refused(tmp_path, images):
    """As earlier versions made it: with the images of both, and labels for one."""
    from harness.tasks.storage.mapped import mapped

    pathx(tmp_path, images)
    folder = next((tmp_path / "pathfinder").glob("*/index.json")).parent
    labels = np.load(folder / "labels.npy")

    def twice(builder):
        builder.archive("lra_release.gz")
        builder.put("images", np.zeros(2 * len(labels) * 128**2, dtype=np.uint8))
        builder.put("labels", labels)
        builder.put("order", np.arange(len(labels)))
        builder.notes |= {"images": len(labels), "empty": 0}

    (folder / "index.json").unlink()
    options = {"folder": f"pathfinder128/{HARD}", "build": 1}
    assert mapped(tmp_path, "pathfinder", options, twice).folder == folder
    tasks._build.cache_clear()
    with pytest.raises(ValueError, match=r"made of two copies .* remove it and it is built again"):
        tasks.build(PathxSpec(name="pathx"), tmp_path)


def test_two_tables_or_images_of_one_number_are_refused(tmp_path):
    images = pathfinder_members(30, 32, "curv_baseline")
    spec = PathfinderSpec(name="pathfinder", difficulty="easy")
    for twin in ("imgs/02/sample_3.png", "metadata/02.npy"):
        name = f"pathfinder32/curv_baseline/{twin}"
        write_tar(tmp_path / "downloads" / "lra_release.gz", images | {name: b""})
        (tmp_path / "downloads" / "lra_release.gz.sha256").unlink(missing_ok=True)
        with pytest.raises(ValueError, match=r"two (images imgs/2/sample_3|tables of number 2)"):
            tasks.build(spec, tmp_path)


TABLES = {
    "listops": (
        ListopsSpec(name="listops", source="lra", train=40, validation=10, test=12),
        listops_tables(),
        listops_tables(41, 11, 13),
    ),
    "aan": (AanSpec(name="aan", length=64), aan_tables(), aan_tables(31, 11, 9)),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_from_one_folder(tmp_path, capsys, name):
    """Two of another copy stand before and between those of the whole one."""
    spec, tables, other = TABLES[name]
    (one, first), (two, second), (three, third) = tables.items()
    files = {f"old/t/{one}": other[one], f"new/t/{one}": first, f"old/t/{three}": other[three]}
    files |= {f"new/t/{two}": second, f"new/t/{three}": third}
    write_tar(tmp_path / "a" / "downloads" / "lra_release.gz", files)
    write_tar(tmp_path / "b" / "downloads" / "lra_release.gz", below("x/", tables))
    chosen, single = (tasks.build(spec, tmp_path / place) for place in "ab")
    assert everything(chosen) == everything(single)
    assert chosen.fingerprint == single.fingerprint
    assert chosen.summary()["notes"]["other_roots"] == ["old/t/"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds such tables in new/t/ and old/t/: those of the first, which has all" in line


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_several_folders_do_not_make_one_set(tmp_path, name):
    spec, tables, _ = TABLES[name]
    files = {f"{k}/{table}": content for k, (table, content) in enumerate(tables.items())}
    write_tar(tmp_path / "downloads" / "lra_release.gz", files)
    with pytest.raises(ValueError, match=r"there is no .* in one folder, but tables in 0/ and 1/"):
        tasks.build(spec, tmp_path)


def appended(path: Path, name: str, content: bytes) -> None:
    """A second entry of the same name at the end, as `tar -r` and `zip` can make it."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(name, content)
        return
    with tarfile.open(path, "r:gz") as archive:
        files = [(m.name, archive.extractfile(m).read()) for m in archive if m.isreg()]
    with tarfile.open(path, "w:gz") as archive:
        for member, data in [*files, (name, content)]:
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("prefix", ["", "./", ".//"])
@pytest.mark.parametrize("name", ["imdb", "enwik8", "sc10"])
def test_an_entry_that_was_appended_is_refused(tmp_path, name, prefix):
    spec, files, member = SINGLE[name]
    member = next(path for path in files if path.startswith(member))
    path = tmp_path / "downloads" / spec.archives[0]
    write(path, files)
    appended(path, prefix + member, b"other")
    with pytest.raises(ValueError, match=f"{member} comes twice"):
        tasks.build(spec, tmp_path)
