"""Blobs of leases over HTTP: inputs through a local cache, outputs straight to the gateway."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx2

from fallow.agent.cache import InputCache
from fallow.agent.http import error_of, retrying
from fallow.agent.traffic import Traffic
from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.domain.signing import Sign
from fallow.domain.tickets import Ticket, prove
from fallow.ports.clock import Clock

SMALL_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 1 << 18
TRANSFERS_MAX: Final = 16


class BlobGateway:
    """The network's blobs at `url`, as this node reaches them. `network_key` signs tickets, `sign` is the node's.

    `traffic` counts what goes over the line, and paces what goes up.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: str,
        cache: InputCache,
        clock: Clock,
        *,
        node: bytes,
        sign: Sign,
        network_key: bytes,
        traffic: Traffic | None = None,
    ) -> None:
        self.cache = cache
        self.clock = clock
        self.client = client
        self.traffic = traffic
        self._url = url.rstrip("/")
        self._node = node
        self._sign = sign
        self._network_key = network_key

    def lease(self, lease: str, ticket: str, *, input_bytes_max: int) -> GatewayBlobs:
        """Open the blobs of a lease with its ticket (base64url without padding).

        Raises:
            InvalidInput: the ticket is malformed.
            NotAllowed: it is not the network's, or for another node or lease.
        """
        try:
            sealed = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
        except ValueError:
            raise InvalidInput("agent.ticket", "The lease's ticket is not base64url.") from None
        opened = Ticket.open(sealed, self._network_key)
        if opened.node != self._node or opened.lease.hex() != lease:
            raise NotAllowed("agent.ticket", "The ticket is for another node or lease.")
        headers = {
            "Fallow-Ticket": ticket,
            "Fallow-Proof": base64.urlsafe_b64encode(prove(sealed, self._sign)).rstrip(b"=").decode(),
        }
        return GatewayBlobs(self, opened, headers, input_bytes_max)

    def blob_url(self, sha256: str) -> str:
        """Where a blob is."""
        return f"{self._url}/v1/blobs/{sha256}"


class GatewayBlobs:
    """The `LeaseBlobs` of one lease."""

    def __init__(self, gateway: BlobGateway, ticket: Ticket, headers: dict[str, str], input_bytes_max: int) -> None:
        self._gateway = gateway
        self._ticket = ticket
        self._headers = headers
        self._reads = {sha256.hex() for sha256 in ticket.reads}
        self._input_bytes_left = input_bytes_max
        self._stored: dict[str, asyncio.Lock] = {}
        self._done: set[str] = set()

    async def fetch(self, sha256: str, to: Path) -> None:
        """See the port."""
        if sha256 not in self._reads:
            raise NotAllowed("agent.not_in_ticket", f"The lease's ticket does not name the blob {sha256[:80]}.")
        # One owner's input is never handed to another one's lease, even if he knows its hash.
        owner = self._ticket.owner.hex()
        bytes_max = self._input_bytes_left
        size = await self._gateway.cache.copy(owner, sha256, to, self._download, bytes_max=bytes_max)
        self._input_bytes_left -= size
        if self._input_bytes_left < 0:
            raise TooMuch("agent.inputs_too_large", "The inputs are larger than the lease's share of the disk.")

    async def store(self, path: Path) -> str:
        """See the port.

        Raises:
            Unavailable: the gateway could not be reached, or not take it now.
            TooMuch: the blob is larger than the ticket allows.
            NotAllowed: the ticket does not hold any more.
        """
        size, sha256, small = await asyncio.to_thread(_look, path)
        if size > self._ticket.write_bytes_max:
            raise TooMuch("agent.output_too_large", f"{size} bytes are more than the lease may write in one blob.")
        async with self._stored.setdefault(sha256, asyncio.Lock()):
            if sha256 not in self._done:
                await retrying(self._gateway.clock, lambda: self._put(sha256, path, small, size))
                self._done.add(sha256)
        return sha256

    async def _put(self, sha256: str, path: Path, small: bytes | None, size: int) -> None:
        headers = {**self._headers, "Content-Length": str(size), "Content-Type": "application/octet-stream"}
        content = small if small is not None else _chunks(path)
        if self._gateway.traffic is not None:
            content = self._gateway.traffic.up(content)
        try:
            answer = await self._gateway.client.put(self._gateway.blob_url(sha256), content=content, headers=headers)
        except httpx2.TransportError as error:
            raise Unavailable("agent.gateway", f"The gateway cannot be reached: {error}.") from error
        if not answer.is_success:
            raise error_of(answer)

    async def _download(self, sha256: str, part: Path, bytes_max: int) -> None:
        """Write the blob to `part`, going on where an attempt before broke off."""
        state = _Download(sha256, part, bytes_max)
        await retrying(self._gateway.clock, lambda: self._get(state))
        state.check()

    async def _get(self, state: _Download) -> None:
        headers = {**self._headers, "Accept-Encoding": "identity"}
        if state.size:
            headers["Range"] = f"bytes={state.size}-"
        url = self._gateway.blob_url(state.sha256)
        try:
            async with self._gateway.client.stream("GET", url, headers=headers) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise error_of(answer)
                state.goes_on(answer)
                async for chunk in answer.aiter_bytes():
                    if self._gateway.traffic is not None:
                        self._gateway.traffic.count(len(chunk))
                    await state.add(chunk)
        except httpx2.TransportError as error:
            raise Unavailable("agent.gateway", f"The gateway cannot be reached: {error}.") from error


class _Download:
    """A blob that comes in, hashed on its way. A broken transfer keeps what it has."""

    def __init__(self, sha256: str, part: Path, bytes_max: int) -> None:
        self.sha256 = sha256
        self.size = 0
        self._part = part
        self._bytes_max = bytes_max
        self._hash = hashlib.sha256()
        part.write_bytes(b"")

    def goes_on(self, answer: httpx2.Response) -> None:
        """Start over unless the answer is the rest of what is here."""
        partial = answer.status_code == httpx2.codes.PARTIAL_CONTENT
        if self.size and not (partial and answer.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")):
            self.size, self._hash = 0, hashlib.sha256()
            self._part.write_bytes(b"")

    async def add(self, chunk: bytes) -> None:
        """Take in the next bytes.

        Raises:
            TooMuch: they are more than there is room for.
        """
        self.size += len(chunk)
        if self.size > self._bytes_max:
            raise TooMuch("agent.inputs_too_large", "The inputs are larger than the lease's share of the disk.")
        self._hash.update(chunk)
        if self.size <= SMALL_BYTES:
            self._write(chunk)
        else:
            await asyncio.to_thread(self._write, chunk)

    def check(self) -> None:
        """Raise Unavailable unless the whole has the hash that was asked for."""
        if self._hash.hexdigest() != self.sha256:
            raise Unavailable("agent.blob_corrupt", f"The gateway sent other bytes than {self.sha256}.")

    def _write(self, chunk: bytes) -> None:
        with self._part.open("ab") as file:
            file.write(chunk)


def _look(path: Path) -> tuple[int, str, bytes | None]:
    """Size, SHA-256 and, when it is small, the content of a file."""
    size = path.stat().st_size
    if size <= SMALL_BYTES:
        content = path.read_bytes()
        return len(content), hashlib.sha256(content).hexdigest(), content
    with path.open("rb") as file:
        return size, hashlib.file_digest(file, "sha256").hexdigest(), None


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
