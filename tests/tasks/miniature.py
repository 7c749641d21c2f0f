"""Miniature archives in the exact formats of the originals, and a server that can misbehave.

`write_*` put archives under their real names into a folder, DATA_DIR/downloads. A module of this
kind exposes SPECS, small specs by task name, and write_all(folder), their archives.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harness import tasks
from harness.tasks.specs import FashionSpec, PsmnistSpec, ScifarSpec, SmnistSpec
from harness.tasks.storage import sources
from tests.servers import QuietHandler, QuietServer, answering

SPECS: dict[str, tasks.TaskSpecBase] = {
    "smnist": SmnistSpec(name="smnist", time_channel=True),
    "psmnist": PsmnistSpec(name="psmnist"),
    "fashion": FashionSpec(name="fashion"),
    "scifar": ScifarSpec(name="scifar"),
}
NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nothing answers


def write_all(folder: Path) -> None:
    write_mnist(folder)
    write_mnist(folder, prefix="fashion-", seed=1)
    write_cifar(folder)


def without_checksums(monkeypatch: pytest.MonkeyPatch, base: str = NOWHERE) -> None:
    """Sources without known checksums, whose only mirror is `base`."""
    for name, source in list(sources.SOURCES.items()):
        bare = dataclasses.replace(source, sha256=None, md5=None, urls=(f"{base}/{name}",))
        monkeypatch.setitem(sources.SOURCES, name, bare)


def write_mnist(
    folder: Path, train: int = 300, test: int = 100, seed: int = 0, prefix: str = ""
) -> None:
    """The four compressed idx files; every label occurs where there are ten images or more."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = gzip.compress(idx(array), mtime=0)
            (folder / f"{prefix}{part}-{kind}-ubyte.gz").write_bytes(content)


def idx(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes: 0, 0, type 8, dimensions; their sizes; the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_cifar(folder: Path, per_batch: int = 60, test: int = 60, seed: int = 0) -> None:
    """CIFAR-10's binary archive, with the files beside the records that the original has, too."""
    random = np.random.default_rng(seed)
    files = {"batches.meta.txt": b"airplane\nautomobile\n", "readme.html": b"<html></html>"}
    for name in [f"data_batch_{k}.bin" for k in (1, 4, 2, 3, 5)] + ["test_batch.bin"]:
        count = test if name == "test_batch.bin" else per_batch
        labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
        planes = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        files[name] = np.concatenate([labels[:, None], planes], axis=1).tobytes()
    write_tar(
        folder / "cifar-10-binary.tar.gz",
        {f"cifar-10-batches-bin/{name}": content for name, content in files.items()},
    )


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> None:
    """A tar of regular files, with the folders' own entries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folders: set[str] = set()
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            folder = name.rpartition("/")[0]
            if folder and folder not in folders:
                folders.add(folder)
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@dataclasses.dataclass
class Server:
    """What is served, what was asked for, and the faults still to come.

    faults: {name: one fault for each request to come}: ("status", 403), ("cut", bytes sent before
    the connection breaks), ("content", bytes) for a wrong file, ("page", bytes) for one that says
    that it is HTML, ("whole",) to ignore Range.
    asked: (name, the Range header or None) of each request.
    """

    base: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    faults: dict[str, list[tuple]] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    lengths: bool = True  # whether answers announce how long they are


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine, for as long as the context lasts."""
    server = Server()

    class Handler(_Handler):
        state = server

    with answering(QuietServer(("127.0.0.1", 0), Handler)) as http:
        server.base = f"http://127.0.0.1:{http.server_port}"
        yield server


class _Handler(QuietHandler):
    state: Server

    def do_GET(self) -> None:
        name, asked = self.path.rsplit("/", 1)[-1], self.headers["Range"]
        self.state.asked.append((name, asked))
        waiting = self.state.faults.get(name)
        fault = waiting.pop(0) if waiting else (None,)
        wrong = fault[0] in ("content", "page")
        content = fault[1] if wrong else self.state.files.get(name)
        if fault[0] == "status" or content is None:
            self.send_error(fault[1] if fault[0] == "status" else 404)
            return
        tag = f'"{hash(content) & 0xFFFFFFFF:x}"'
        start = 0
        if asked and fault[0] != "whole" and self.headers["If-Range"] in (None, tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        if fault[0] == "page":
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if self.state.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        sent = content[start : start + fault[1]] if fault[0] == "cut" else content[start:]
        self.wfile.write(sent)
