"""Certificates of a test's own, and a server that stands where a network should and remembers what it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from fallow.adapters import certificates
from fallow.adapters.certificates import Issued
from fallow.domain.pins import der_of, pin_of

NAMES = ("127.0.0.1", "localhost")


def now() -> datetime:
    """The time, for certificates that real programs judge."""
    return datetime.now(UTC)


class Authority:
    """A certificate authority that is not the network's, or is (with its files)."""

    def __init__(self, issued: Issued | None = None) -> None:
        self.issued = issued or certificates.new_authority(certificates.new_key(), "test", now())

    @classmethod
    def of(cls, data: Path) -> Authority:
        """The one of a network, whose key somebody has got hold of."""
        return cls(Issued((data / "ca.pem").read_text(), (data / "secrets" / "ca.key").read_text()))

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.issued.certificate

    @property
    def pin(self) -> str:
        """Its pin."""
        return pin_of(der_of(self.pem))

    def server(self, folder: Path, *, names: tuple[str, ...] = NAMES, at: datetime | None = None) -> Path:
        """A file with a certificate for `names`, issued `at` a time, and its key."""
        issued = certificates.issue(self.issued, names, at or now())
        path = folder / "server.pem"
        path.write_text(issued.key + issued.certificate)
        return path

    def write(self, path: Path) -> Path:
        """A file with its certificate."""
        path.write_text(self.pem)
        return path


class Impostor:
    """What was heard: each connection's first bytes after encryption, as it would be for a real man in the middle."""

    def __init__(self, ca_pem: str) -> None:
        self.port = 0
        self.heard = b""
        self._ca_pem = ca_pem

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand out the authority's certificate; be agreeable about everything else."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while request := await reader.read(65_536):
                self.heard += request
                body = self._ca_pem.encode() if b"/v1/ca.pem" in request else b"{}"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()


@asynccontextmanager
async def impostor(certificate: Path, ca_pem: str = "") -> AsyncIterator[Impostor]:
    """Stand there with a certificate, and say that the authority is `ca_pem`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    found = Impostor(ca_pem)
    async with await asyncio.start_server(found.answer, "127.0.0.1", 0, ssl=context) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found
