"""A bucket, or a prefix in one, as storage: S3 and what speaks its protocol, by way of obstore.

Credentials, endpoint and region come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
`AWS_REGION`, ...), or from boto3's own search, profiles and instance roles included, where boto3 is
installed. `gs://` and `az://` are obstore's too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

from harness.tools.inputs import cut
from harness.tools.redact import redacted

from .interface import Entry, Storage, Stored

SCHEMES = ("s3", "gs", "az")
_PATIENT = {  # the time is the limit, not the number
    "max_retries": 1000,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {
        "init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2,
    },
}  # fmt: skip
_QUICK = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
_CLIENT = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
_MESSAGE = re.compile("<Message>([^<]+)</Message>")  # in a server's own description of a fault
_EFFORT = re.compile(r"^.*Error performing \S+ \S+ in .* - ")  # and how often it was tried
_METADATA = "169.254.169.254"  # where clouds tell their machines what role they have
_Answer = TypeVar("_Answer")


class Bucket(Storage):
    """The objects below a prefix of a bucket."""

    def __init__(self, address: str, patient: bool = True) -> None:
        self.retry = _PATIENT if patient else _QUICK  # while the server fails or does not answer
        self.address = address.rstrip("/")
        parts = urlsplit(self.address)
        if parts.scheme not in SCHEMES or not parts.netloc or parts.query or parts.username:
            raise ValueError(
                f"a store's address is s3://BUCKET/PREFIX, not {cut(redacted(address))}; "
                "credentials come from the environment"
            )
        self._objects: Any = None

    @property
    def objects(self) -> Any:
        """obstore's object for this bucket and prefix, made on first use."""
        if self._objects is None:
            self._objects = _connected(self.address, self.retry)
        return self._objects

    def create(self, key: str, data: bytes) -> str | None:
        return self._conditionally(key, data, "create")

    def swap(self, key: str, data: bytes, version: str) -> str | None:
        tag, _, number = version.partition("\n")
        known = {"e_tag": tag, "version": number}
        return self._conditionally(key, data, {name: text for name, text in known.items() if text})

    def read(self, key: str, at_most: int | None = None) -> Stored | None:
        obstore = _obstore()

        def get() -> Stored:
            found = obstore.get(self.objects, key)
            if at_most is not None and found.meta["size"] > at_most:
                raise ValueError(f"{self.place(key)} is larger than {at_most / 2**20:g} MiB")
            return Stored(bytes(found.bytes()), _version(found.meta))

        return self._unless_missing(key, get)

    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        obstore = _obstore()
        with self._faults(key):
            obstore.put(self.objects, key, data)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        obstore = _obstore()
        with self._faults(prefix):
            for batch in obstore.list(self.objects, prefix.rstrip("/") or None, chunk_size=1000):
                for one in batch:
                    yield Entry(one["path"], one["size"], one["last_modified"].timestamp())

    def children(self, prefix: str = "") -> Sequence[str]:
        obstore = _obstore()
        with self._faults(prefix):
            found = obstore.list_with_delimiter(self.objects, prefix.rstrip("/") or None)
        keys = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        return sorted(key.rstrip("/").rsplit("/", 1)[-1] for key in keys)

    def delete(self, key: str) -> None:
        obstore = _obstore()
        self._unless_missing(key, lambda: obstore.delete(self.objects, key))

    def delete_all(self, prefix: str) -> None:
        keys = [entry.key for entry in self.list(prefix)]
        if keys:
            obstore = _obstore()
            self._unless_missing(prefix, lambda: obstore.delete(self.objects, keys))

    def modified(self, key: str) -> float | None:
        obstore = _obstore()
        found = self._unless_missing(key, lambda: obstore.head(self.objects, key))
        return None if found is None else found["last_modified"].timestamp()

    def place(self, key: str = "") -> str:
        return f"{self.address}/{key}" if key else self.address

    def probe(self, writing: bool) -> None:
        """Try what a store needs.

        Raises:
            ValueError: the bucket is not there, refuses an operation, or ignores the condition of
                one; the line names it.
        """
        try:
            with self._naming("list"):
                next(self.list(".probe/"), None)
            if writing:
                self._probe_writing(f".probe/{secrets.token_hex(8)}")
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(f"cannot use {self.address} as a store: {reason}") from None

    def _probe_writing(self, key: str) -> None:
        with self._naming("create (PUT with If-None-Match)"):
            version = self.create(key, b"1")
        try:
            with self._naming("create (PUT with If-None-Match)"):
                ignored = version is None or self.create(key, b"2") is not None
            if ignored:
                self._refuse("If-None-Match: an object would be created twice")
            assert version is not None
            with self._naming("swap (PUT with If-Match)"):
                newer = self.swap(key, b"3", version)
                ignored = newer is None or self.swap(key, b"4", version) is not None
            if ignored:
                self._refuse("If-Match: two could hold one claim")
        finally:
            with self._naming("delete"):
                self.delete(key)

    def _refuse(self, what: str) -> None:
        raise ValueError(
            f"cannot use {self.address} as a store: its server ignores {what}; "
            "AWS, MinIO and SeaweedFS heed it"
        )

    @contextlib.contextmanager
    def _naming(self, operation: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"{operation} is refused: {error.strerror or error}"
            raise OSError(error.errno or errno.EIO, said) from None

    def _conditionally(self, key: str, data: bytes, mode: Any) -> str | None:
        obstore = _obstore()
        refused = (
            obstore.exceptions.AlreadyExistsError,
            obstore.exceptions.PreconditionError,
            FileNotFoundError,  # what was to be replaced is gone
        )
        with self._faults(key):
            try:
                return _version(obstore.put(self.objects, key, data, mode=mode))
            except refused:
                pass
        # A request whose answer was lost is sent again, and finds what it wrote.
        there = self.read(key)
        return there.version if there is not None and there.data == data else None

    def _unless_missing(self, key: str, ask: Callable[[], _Answer]) -> _Answer | None:
        with self._faults(key):
            try:
                return ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    @contextlib.contextmanager
    def _faults(self, key: str) -> Iterator[None]:
        """Errors of obstore as OSError, in one line without its debugging output."""
        exceptions = _obstore().exceptions
        try:
            yield
        except exceptions.NotSupportedError as error:
            raise OSError(errno.ENOTSUP, _said(error), self.place(key)) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise OSError(errno.EACCES, _said(error), self.place(key)) from None
        except exceptions.BaseError as error:
            raise OSError(errno.EIO, _said(error), self.place(key)) from None
        except FileNotFoundError as error:
            raise OSError(errno.ENOENT, _said(error), self.place(key)) from None


def _obstore() -> Any:
    import obstore

    return obstore


def _connected(address: str, retry: dict[str, Any]) -> Any:
    import obstore.store

    more: dict[str, Any] = {}
    plain = False
    if address.startswith("s3://"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            more["endpoint"] = endpoint
        if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
            more["region"] = "us-east-1"  # what servers other than Amazon's call theirs
        if "AWS_ACCESS_KEY_ID" not in os.environ and find_spec("boto3"):
            with contextlib.suppress(ValueError):  # boto3 finds none either
                from obstore.auth.boto3 import Boto3CredentialProvider

                more["credential_provider"] = Boto3CredentialProvider()
        plain = (endpoint or "").startswith("http://")
    client = {**_CLIENT, "allow_http": plain}
    connect: Any = obstore.store.from_url
    return connect(address, client_options=client, retry_config=retry, **more)


def _version(meta: Any) -> str:
    return f"{meta.get('e_tag') or ''}\n{meta.get('version') or ''}"


def _said(error: Exception) -> str:
    """The first line of the innermost cause, without secrets."""
    text = str(error).partition("\n\nDebug source:")[0]
    if _METADATA in text:
        return "there are no credentials in the environment, and this machine has no role"
    described = _MESSAGE.search(text)
    if described:
        text = described[1]
    text = _EFFORT.sub("", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return cut(redacted(lines[-1] if lines else type(error).__name__))


__all__ = ["SCHEMES", "Bucket"]
