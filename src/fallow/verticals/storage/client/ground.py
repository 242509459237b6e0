"""What buckets, objects and uploads stand on, and how versions and names come out of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import cached_property, lru_cache
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.ports.remembered import Remembered
from fallow.verticals.storage.client.asking import Asker
from fallow.verticals.storage.client.cutting import SMALL_BYTES, Cutter, Room
from fallow.verticals.storage.client.keys import DocumentT, Keys, KeysOf
from fallow.verticals.storage.client.pieces import Mover
from fallow.verticals.storage.client.reading import Crew
from fallow.verticals.storage.client.sending import Spot, send_segment
from fallow.verticals.storage.client.store import Body, Ended, Entry, Finish, Head, Lock, Marks
from fallow.verticals.storage.client.waiting import both
from fallow.verticals.storage.core.calls.base import HEAD_BYTES_MAX
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import If, Version
from fallow.verticals.storage.core.names import DELIMITER

ID_BYTES: Final = 16
NAME_BYTES_MAX: Final = 1024
HELD_BYTES_MAX: Final = 1 << 30
"""Of all bodies together, beyond `SMALL_BYTES` of each."""
SENT_MAX: Final = 16
"""Segments over `SMALL_BYTES` that are sent at a time: each takes some portions beside its payload."""
AGAIN_S: Final = (2.0, 8.0)
"""Pauses behind which an owner's machine sends a segment again, as when the relay was started anew, which takes all
streams with it. Who stores through a hosted gateway has a client that tries again.
"""
BUCKETS_KNOWN_MAX: Final = 100
"""Buckets that are remembered for a moment, each with settings of up to 256 KiB."""
NULL: Final = "null"
HEAD: Final = "head"
MARKS: Final = "marks"


class Name:
    """An object's name in its bucket: plain, sealed, and what goes with it."""

    def __init__(self, keys: Keys, key: str) -> None:
        plain = name_bytes(key)
        if not 1 <= len(plain) <= NAME_BYTES_MAX:
            raise InvalidInput("storage.name_length", f"An object's name has 1 to {NAME_BYTES_MAX} bytes of UTF-8.")
        self.key = key
        self.plain = plain
        self._keys = keys

    @cached_property
    def sealed(self) -> bytes:
        """As the network knows it."""
        return self._keys.seal_name(self.plain)

    @property
    def slashes(self) -> list[int]:
        """The bytes of the sealed name behind which a "/" ends."""
        return [2 * at + 2 for at, byte in enumerate(self.plain) if byte == DELIMITER]

    @cached_property
    def secret(self) -> bytes:
        """The object's secret."""
        return self._keys.secret_of(self.plain)

    def etag(self, etag: str) -> str:
        """An ETag as the network knows it, where it is one."""
        return self._keys.etag(self.plain, etag) if etag not in {"", "*"} else etag

    def only_if(self, only_if: If) -> If:
        """A condition as the network understands it."""
        return msgspec.structs.replace(only_if, etag=self.etag(only_if.etag)) if only_if.etag else only_if

    def seal(self, kind: str, document: object, stream: bytes = b"") -> bytes:
        """Seal a document that stands beside the object; with `stream`: beside these bytes of it alone.

        Raises:
            TooMuch: it is too large.
        """
        sealed = self._keys.seal(self.plain, kind, document, stream)
        if len(sealed) > HEAD_BYTES_MAX:
            raise TooMuch("storage.head", f"What stands beside an object takes at most {HEAD_BYTES_MAX} bytes.")
        return sealed

    def open(self, kind: str, sealed: bytes, to: type[DocumentT], stream: bytes = b"") -> DocumentT:
        """Open it; an empty one is as if nothing had been said."""
        return self._keys.open(self.plain, kind, sealed, to, stream) if sealed else to()


class Ground:
    """Buckets, objects and uploads of all accounts.

    `own`: the keys are the accounts' own, which no gateway of the network has.
    """

    def __init__(
        self,
        asker: Asker,
        mover: Mover,
        crew: Crew,
        *,
        keys_of: KeysOf,
        random_bytes: Callable[[int], bytes],
        own: bool = False,
    ) -> None:
        self._asker = asker
        self._own = own
        self._mover = mover
        self._crew = crew
        self._random_bytes = random_bytes
        self._room = Room(HELD_BYTES_MAX)
        self._sent = asyncio.Semaphore(SENT_MAX)
        self._known: Remembered[str, Bucket] = Remembered(mover.clock, BUCKETS_KNOWN_MAX)
        self._keys = lru_cache(maxsize=1024)(keys_of)

    @property
    def altered(self) -> Counter[bytes]:
        """How many shares were not what was stored, by the node that sent them."""
        return self._crew.altered

    def _name(self, account: str, bucket: str, key: str) -> Name:
        return Name(self._keys(account, bucket), key)

    @asynccontextmanager
    async def _begun(self, body: Body) -> AsyncIterator[Cutter]:
        """Take in the first segment of a body."""
        cutter = Cutter(body, self._room)
        try:
            await cutter.fill()
            yield cutter
        finally:
            cutter.close()

    async def _send(self, cutter: Cutter, spot: Spot, finish: Finish) -> tuple[int, Ended]:
        """Store segment by segment what a cutter gives, the first of which it holds; returns all bytes.

        The next segment is taken in while one is sent.
        """
        size, ended = 0, finish() if cutter.over else None
        while cutter.held:
            size += len(cutter.held)
            await both(self._send_one(cutter, spot, cutter.take()), cutter.fill())
            ended = ended or (finish() if cutter.over else None)
            spot = spot._replace(number=spot.number + 1)
        return size, ended or finish()

    async def _send_one(self, cutter: Cutter, spot: Spot, payload: memoryview) -> None:
        """Store a segment; large ones wait for their turn, which no other body can hold up: its bytes are here."""
        size = len(payload)
        async with self._sent if size > SMALL_BYTES else nullcontext():
            again_s = AGAIN_S if self._own else ()
            await send_segment(self._mover, self._asker, spot, payload, self._random_bytes, again_s)
        del payload
        cutter.give_back(size)


def name_bytes(text: str) -> bytes:
    """Write a name as bytes.

    Raises:
        InvalidInput: it has no such form (`storage.name`).
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("storage.name", "The name is no UTF-8.") from error


def name_text(plain: bytes) -> str:
    """Read a name that was opened.

    Raises:
        InvalidInput: it is none (`storage.name`): whoever calls the network himself can put any bytes there.
    """
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("storage.name", "The name is no UTF-8.") from error


def version_id(version: str) -> bytes:
    """Read the id of a version, or of an upload.

    Raises:
        NotFound: `storage.no_version`: it is none.
    """
    try:
        found = bytes.fromhex(version)
    except ValueError:
        found = b""
    if len(found) != ID_BYTES or found.hex() != version:
        raise NotFound("storage.no_version", "There is no such version.")
    return found


def entry_of(version: Version, name: Name) -> Entry:
    """Open a version."""
    return Entry(
        key=name.key,
        version=NULL if version.null else version.version.hex(),
        marker=version.marker,
        latest=version.latest,
        size=version.size,
        made_ms=version.made_ms,
        head=name.open(HEAD, version.head, Head, version.stream),
        marks=name.open(MARKS, version.tags, Marks),
        lock=Lock(version.retention, version.until_ms, version.hold),
        parts=version.parts,
        source=version,
    )
