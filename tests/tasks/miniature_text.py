"""Miniature archives of texts in the exact formats of the originals (see `miniature`).

The functions without `write_` make the contents, so that a test knows what an archive holds.
"""

from __future__ import annotations

import statistics
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness import tasks
from harness.tasks.specs import AanSpec, Enwik8Spec, ImdbSpec, Text8Spec, Wikitext103Spec

from .miniature import write_tar

SPECS: dict[str, tasks.TaskSpecBase] = {
    "aan": AanSpec(name="aan", length=64),
    "enwik8": Enwik8Spec(name="enwik8", window=32, train=100),
    "imdb": ImdbSpec(name="imdb", length=128, min_frequency=3),
    "text8": Text8Spec(name="text8", window=32),
    "wikitext103": Wikitext103Spec(name="wikitext103", window=32, train=100),
}

LRA = "lra_release/lra_release/"  # the folder, twice, as in the release

_WORDS = "the film was a dull bright long slow café never Ever GOOD bad, act! (1999) \N{SNOWMAN}"


def write_all(folder: Path) -> None:
    write_imdb(folder)
    write_lra(folder)
    write_text8(folder)
    write_enwik8(folder)
    write_wikitext103(folder)


def imdb_reviews(per_class: int = 20, seed: int = 0) -> dict[str, str]:
    """{name in the archive: review}. Numbers have no leading zeros, ratings are as published."""
    random = np.random.default_rng(seed)
    reviews = {}
    for part in ("train", "test"):
        for label, ratings in (("neg", (1, 2, 3, 4)), ("pos", (7, 8, 9, 10))):
            for number in range(per_class):
                text = _prose(random, 5, 40) + "<br /><br />" + _prose(random, 1, 20)
                rating = random.choice(ratings)
                reviews[f"aclImdb/{part}/{label}/{number}_{rating}.txt"] = text
    return reviews


def write_imdb(folder: Path, per_class: int = 20, seed: int = 0) -> None:
    """aclImdb_v1.tar.gz: `per_class` reviews of each class in train and in test, out of order as
    archives are, and beside them what the original has, too."""
    reviews = list(imdb_reviews(per_class, seed).items())
    files = {"aclImdb/imdb.vocab": b"the\nand\n", "aclImdb/README": b"Large Movie Review Dataset"}
    files |= {name: text.encode() for name, text in reversed(reviews)}
    files["aclImdb/train/unsup/0_0.txt"] = b"no label"
    files["aclImdb/train/urls_pos.txt"] = b"an address a line"
    write_tar(folder / "aclImdb_v1.tar.gz", files)


def listops_expressions(count: int, seed: int) -> list[tuple[str, str, int]]:
    """(parenthesised source, its tokens with spaces between, value) of `count` expressions."""
    random = np.random.default_rng(seed)
    made = []
    while len(made) < count:
        source, tokens, value = _expression(random, depth=1)
        if len(tokens) > 4:
            made.append((source, " ".join(tokens), value))
    return made


def listops_table(count: int, seed: int) -> bytes:
    """The table of these, with the line ends of Python's csv module, which wrote the original."""
    rows = [f"{source}\t{value}\r\n" for source, _, value in listops_expressions(count, seed)]
    return ("Source\tTarget\r\n" + "".join(rows)).encode()


def listops_tables(train: int = 40, validation: int = 10, test: int = 12) -> dict[str, bytes]:
    """{file name: content}; the seeds of the three are 0, 1 and 2."""
    counts = {"train": train, "val": validation, "test": test}
    return {
        f"basic_{part}.tsv": listops_table(count, seed)
        for seed, (part, count) in enumerate(counts.items())
    }


def aan_documents(count: int = 12, seed: int = 0) -> list[str]:
    """Texts of papers, with quotes at their beginnings and within."""
    random = np.random.default_rng(seed)
    return [f'"Paper {k}" {_prose(random, 3, 25)} "quoted' for k in range(count)]


def aan_pairs(count: int, seed: int) -> list[tuple[int, int, int]]:
    """(label, document, document)."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 12, (count, 2))
    return [(k % 2, int(first), int(second)) for k, (first, second) in enumerate(drawn)]


def aan_tables(
    train: int = 30, validation: int = 10, test: int = 8, texts: bool = True
) -> dict[str, bytes]:
    """{file name: content}, without a header; the seeds of the three are 0, 1 and 2."""
    documents, tables = aan_documents(), {}
    for seed, (part, count) in enumerate(
        {"train": train, "eval": validation, "test": test}.items()
    ):
        lines = []
        for label, first, second in aan_pairs(count, seed):
            columns = [f"{label}.0", f"P0{first}-1001", f"P0{second}-1001"]
            columns += [documents[first], documents[second]] if texts else []
            lines.append("\t".join(columns) + "\n")
        kind = "" if texts else ".only_ids"
        tables[f"new_aan_pairs.{part}{kind}.tsv"] = "".join(lines).encode()
    return tables


def write_lra(
    folder: Path,
    listops: dict[str, bytes] | None = None,
    aan: dict[str, bytes] | None = None,
    images: dict[str, bytes] | None = None,
) -> None:
    """lra_release.gz with these tables (None: `listops_tables()`, `aan_tables()`; {}: none) and
    images, {name below the release's inner folder: content}."""
    listops = listops_tables() if listops is None else listops
    aan = aan_tables() if aan is None else aan
    files = {f"{LRA}tsv_data/{name}": content for name, content in aan.items()}
    files |= {f"{LRA}{name.removeprefix(LRA)}": content for name, content in (images or {}).items()}
    files |= {f"{LRA}listops-1000/{name}": content for name, content in listops.items()}
    write_tar(folder / "lra_release.gz", files)


def text8(size: int = 6000, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    symbols = np.frombuffer(b" abcdefghijklmnopqrstuvwxyz" + b" " * 5, dtype=np.uint8)
    return b" anarchism" + random.choice(symbols, size - 10).tobytes()


def enwik8(size: int = 6000, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    text = '<mediawiki xml:lang="en">\n' + "".join(
        f"<page>{_prose(random, 10, 50)}</page>\n" for _ in range(size // 40)
    )
    return text.encode()[:size]


def wikitext103(edition: str = "raw", seed: int = 0) -> dict[str, bytes]:
    """{file name: content}."""
    random = np.random.default_rng(seed)
    sizes = {"test": 1200, "train": 6000, "valid": 1000}
    return {
        f"wiki.{part}.{edition}": f" \n = {part} = \n {_prose(random, size, size)}".encode()[:size]
        for part, size in sizes.items()
    }


def write_text8(folder: Path, size: int = 6000) -> None:
    write_zip(folder / "text8.zip", {"text8": text8(size)})


def write_enwik8(folder: Path, size: int = 6000) -> None:
    write_zip(folder / "enwik8.zip", {"enwik8": enwik8(size)})


def write_wikitext103(folder: Path) -> None:
    """Both editions, each in the folder of the original."""
    for edition, archive, inner in (
        ("raw", "wikitext-103-raw-v1.zip", "wikitext-103-raw"),
        ("tokens", "wikitext-103-v1.zip", "wikitext-103"),
    ):
        texts = wikitext103(edition)
        write_zip(
            folder / archive,
            {f"{inner}/": b"", **{f"{inner}/{name}": text for name, text in texts.items()}},
        )


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """A compressed zip; names that end with a slash are folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _prose(random: np.random.Generator, fewest: int, most: int) -> str:
    return " ".join(random.choice(_WORDS.split(), random.integers(fewest, most, endpoint=True)))


def _expression(random: np.random.Generator, depth: int) -> tuple[str, list[str], int]:
    """(parenthesised source, tokens, value): an operator takes its arguments one by one, each
    step in parentheses of its own, and the closing bracket last."""
    if depth > 1 and (depth == 4 or random.random() < 0.6):
        digit = int(random.integers(10))
        return str(digit), [str(digit)], digit
    operators: dict[str, Callable[[list[int]], int]] = {
        "[MIN": min,
        "[MAX": max,
        "[MED": lambda values: int(statistics.median(values)),
        "[SM": lambda values: sum(values) % 10,
    }
    name = str(random.choice(list(operators)))
    source, tokens, values = name, [name], []
    for _ in range(random.integers(2, 5)):
        inner, inner_tokens, value = _expression(random, depth + 1)
        source, tokens = f"( {source} {inner} )", tokens + inner_tokens
        values.append(value)
    return f"( {source} ] )", [*tokens, "]"], operators[name](values)
