"""A request as it came over ASGI: its line, headers and query, split into bucket and key, and its raw body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from fallow.ports.clock import Clock
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.watch import SILENCE_MS, SLOWEST_BYTES_PER_S, Watch

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
"""As ASGI 3 has them."""

KEY_BYTES_MAX: Final = 1024
HEADERS_MAX: Final = 200
_SPACES: Final = " \t"
"""All that is space in a header: other bytes that Python takes for it are parts of characters."""
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_BUCKET: Final = re.compile(rf"^(?=.{{3,63}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_ADDRESS: Final = re.compile(r"^\d{1,3}(\.\d{1,3}){3}\Z")
_AMZ: Final = "x-amz-"
_SIGNATURES: Final = ("X-Amz-Signature", "AWSAccessKeyId")
"""Names in a query that is signed."""
_OF_SIGNATURE: Final = frozenset({
    "x-amz-algorithm", "x-amz-content-sha256", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signature",
    "x-amz-signedheaders",
})  # fmt: skip
_DIGEST: Final = re.compile(r"x-amz-checksum-(?:crc|sha)")
"""Of content that who signs an address does not have: SDKs write that of nothing into it."""


class Request:
    """A request. `path` and `raw_query` are as they were sent.

    Once it is `split`, `query` holds the pairs, decoded, and `bucket` and `key` what is named. `headers` have
    lower-case names; bytes of their values are characters of Latin-1, both ways. `from_query` are those of them that
    stand in a query which is signed: many SDKs sign addresses so.
    """

    def __init__(self, scope: Scope, receive: Receive, clock: Clock, domains: Sequence[str]) -> None:
        self.method: str = scope["method"]
        self.path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_query: bytes = scope.get("query_string", b"")
        self.fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        self.headers: dict[str, str] = {}
        for name, value in self.fields:
            said = value.strip(_SPACES)
            self.headers[name] = f"{self.headers[name]},{said}" if name in self.headers else said
        self.from_query: frozenset[str] = frozenset()
        self.query: list[tuple[str, str]] = []
        self.secure: bool = scope.get("scheme") == "https"
        self.address: str = (scope.get("client") or ("", 0))[0]
        self.hosted = _hosted(self.headers.get("host", ""), domains)
        self.watch = Watch(clock)
        self.ended = False
        self._names: dict[str, str] = {}
        self._receive = receive
        self._clock = clock
        self._began_ms = clock.monotonic_ms()
        self._received = 0
        self.bucket, self.key = "", ""

    def split(self) -> None:
        """Read the query, and bucket and key from the path, or the bucket from the host's name.

        Raises:
            S3Error: InvalidURI, KeyTooLongError, InvalidRequest.
        """
        if len(self.fields) > HEADERS_MAX:
            raise S3Error("InvalidRequest", "There are too many headers.")
        self.query = query_pairs(self.raw_query)
        self._names = dict(self.query)
        if any(map(self.has, _SIGNATURES)):
            self._take_headers_from_query()
        try:
            path = unquote_to_bytes(self.path).decode()
        except UnicodeDecodeError as error:
            raise S3Error("InvalidURI") from error
        if "\x00" in path:
            raise S3Error("InvalidURI")
        if self.hosted:
            self.bucket, self.key = self.hosted, path[1:]
        else:
            self.bucket, _, self.key = path[1:].partition("/")
        if len(self.key.encode()) > KEY_BYTES_MAX:
            raise S3Error("KeyTooLongError")

    def _take_headers_from_query(self) -> None:
        lower = {name.lower(): value.encode().decode("latin-1") for name, value in self.query if name.isascii()}
        found = {
            name: value
            for name, value in lower.items()
            if name.startswith(_AMZ) and name not in _OF_SIGNATURE | self.headers.keys() and not _DIGEST.match(name)
        }
        self.from_query = frozenset(found)
        self.headers |= found

    def arg(self, name: str, default: str = "") -> str:
        """The last value of a name in the query."""
        return self._names.get(name, default)

    def has(self, name: str) -> bool:
        """Whether a name is in the query, with a value or without."""
        return name in self._names

    def header(self, name: str, default: str = "") -> str:
        """The value of a header, by its lower-case name."""
        return self.headers.get(name, default)

    @property
    def length(self) -> int | None:
        """How many bytes of body the headers promise; None: they do not."""
        value = self.headers.get("content-length")
        length = None if value is None else whole(value)
        if value is not None and length is None:
            raise S3Error("InvalidArgument", "The Content-Length is not a number.")
        return length

    @property
    def expects(self) -> bool:
        """Whether the sender waits with the body until it is asked for."""
        return self.header("expect").lower() == "100-continue"

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            S3Error: RequestTimeout (it comes too slowly), IncompleteBody (the sender is gone).
        """
        while not self.ended:
            with self.watch.waiting():
                message = await self._receive()
            if message["type"] == "http.disconnect":
                self.ended = True
                raise S3Error("IncompleteBody")
            self.ended = not message.get("more_body", False)
            data: bytes = message.get("body", b"")
            self._received += len(data)
            took_ms = self._clock.monotonic_ms() - self._began_ms - SILENCE_MS
            if not self.ended and took_ms * SLOWEST_BYTES_PER_S > self._received * 1000:
                raise S3Error("RequestTimeout")
            if data:
                yield data

    async def left(self) -> None:
        """Wait until the client leaves.

        Raises:
            ConnectionError: it did.
        """
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("The client has left.")


def query_pairs(raw: bytes) -> list[tuple[str, str]]:
    """Split a query; "+" is a space in values.

    Raises:
        S3Error: InvalidURI.
    """
    pairs = []
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            try:
                pairs.append((unquote_to_bytes(name).decode(), unquote_to_bytes(value.replace(b"+", b" ")).decode()))
            except UnicodeDecodeError as error:
                raise S3Error("InvalidURI") from error
    return pairs


def check_bucket_name(name: str) -> None:
    """Check the name of a bucket to be.

    Raises:
        S3Error: InvalidBucketName.
    """
    if not _BUCKET.match(name) or _ADDRESS.match(name):
        raise S3Error("InvalidBucketName")


def _hosted(host: str, domains: Sequence[str]) -> str:
    """The bucket that a host's name begins with, under one of our domains; else ""."""
    name = host.lower().rpartition(":")[0] if re.search(r":\d+$", host) else host.lower()
    for domain in domains:
        if name.endswith("." + domain):
            return name[: -len(domain) - 1]
    return ""
