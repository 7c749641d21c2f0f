"""Sources of the archives of real data sets, and their checksums.

Addresses, sizes and checksums are those that public loaders state (see README.md, "Where the
checksums come from"). Where none is stated, the first download's is recorded and holds from then.
"""

from __future__ import annotations

from dataclasses import dataclass

MB, GB = 10**6, 10**9


@dataclass(frozen=True)
class Source:
    """One archive: mirrors in the order in which they are tried, checksums in hex, a bound.

    max_bytes: no larger download is accepted; help: what to do by hand, for messages.
    """

    name: str
    urls: tuple[str, ...]
    max_bytes: int
    help: str
    sha256: str | None = None
    md5: str | None = None

    @property
    def known(self) -> str | None:
        """The checksum to check the file against, as `algorithm:hex`; None if none is known."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None


def _mnist(name: str, md5: str) -> Source:
    bases = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    return Source(
        name,
        tuple(base + name for base in bases),
        20 * MB,
        "one of MNIST's four idx files, still compressed",
        md5=md5,
    )


def _fashion(name: str, md5: str) -> Source:
    return Source(
        f"fashion-{name}",
        (f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",),
        30 * MB,
        f"{name} of Fashion-MNIST, still compressed; Debian's package dataset-fashion-mnist has it "
        "compressed anew, which HARNESS_DATA_UNCHECKED=1 lets through",
        md5=md5,
    )


def _wikitext(name: str, md5: str) -> Source:
    bases = (
        "https://wikitext.smerity.com/",
        "https://s3.amazonaws.com/research.metamind.io/wikitext/",
    )
    return Source(
        name,
        tuple(base + name for base in bases),
        250 * MB,
        "WikiText-103 as first released; its first home is gone, the copy of one of its authors "
        "and public mirrors hold it",
        md5=md5,
    )


_ALL = (
    _mnist("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    _mnist("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    _mnist("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    _mnist("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    _fashion("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    _fashion("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    _fashion("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    _fashion("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    Source(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        200 * MB,
        "CIFAR-10's binary version, not the one for Python",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
    ),
    Source(
        "aclImdb_v1.tar.gz",
        ("http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
        150 * MB,
        "the Large Movie Review Dataset v1.0",
        md5="7c2ac02c03563afcf9b574c7e56c153a",
    ),
    Source(
        "speech_commands_v0.02.tar.gz",
        (
            "https://storage.googleapis.com/download.tensorflow.org/data/"
            "speech_commands_v0.02.tar.gz",
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        ),
        3 * GB,
        "Speech Commands v0.02, the whole set with its lists",
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
    Source(
        "lra_release.gz",
        ("https://storage.googleapis.com/long-range-arena/lra_release.gz",),
        10 * GB,
        "the Long Range Arena's release, about 8 GB, a compressed tar whatever its name; where its "
        "home refuses, a copy from a colleague",
    ),
    Source(
        "text8.zip",
        ("http://mattmahoney.net/dc/text8.zip",),
        50 * MB,
        "text8 from Matt Mahoney's page on data compression",
        sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    ),
    Source(
        "enwik8.zip",
        ("http://mattmahoney.net/dc/enwik8.zip",),
        50 * MB,
        "enwik8 from Matt Mahoney's page on data compression",
        sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
    ),
    _wikitext("wikitext-103-raw-v1.zip", "0ca3512bd7a238be4a63ce7b434f8935"),
    _wikitext("wikitext-103-v1.zip", "9ddaacaf6af0710eda8c456decff7832"),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
