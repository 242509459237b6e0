"""What a stream to a node is for, and the ticket that lets its opener have it.

A ticket is signed by the network: relays check it without asking anybody, and the node checks it again.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.signing import Signed
from fallow.domain.wire.multiplex import OPENING_BYTES_MAX

Purpose = Literal["logs", "exec", "port"]
SERVICE_BYTES_MAX = 8 << 10
LogSource = Literal["stdout", "stderr"]

DIRECT_PORT_MIN = 1024
"""Nothing that belongs to a system listens there: a network's probe never knocks at such a door."""
PROBE_BYTES = 32
CERTIFICATE_BYTES_MAX = 2048


class StreamTicket(Signed, frozen=True, kw_only=True):
    """The right of `account` to open streams for one purpose to one lease, until `expires_at` (ms since 1970)."""

    tag: ClassVar[str] = "fallow/stream-ticket/1"
    net: str
    node: bytes
    lease: bytes
    account: bytes
    purpose: str
    expires_at: int


class Want(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="purpose"):
    """Base of what a stream can be for."""


class Logs(Want, frozen=True, tag="logs"):
    """What the program writes, from byte `offset` on; with `follow` until it ends, else what is there."""

    source: LogSource
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    follow: bool = False


class Port(Want, frozen=True, tag="port"):
    """A connection to a TCP port that the program listens on, on its own 127.0.0.1."""

    port: Annotated[int, Meta(ge=1, le=65535)]


Words = Annotated[
    list[Annotated[str, Meta(max_length=8192, pattern=r"^[^\x00]*$")]], Meta(min_length=1, max_length=256)
]
"""A command and its arguments; what an opening has no room for is refused where it is opened."""


class TerminalSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large a terminal is, in characters."""

    rows: Annotated[int, Meta(ge=1, le=2000)]
    columns: Annotated[int, Meta(ge=1, le=2000)]


class Exec(Want, frozen=True, tag="exec"):
    """A command in the sandbox, with a terminal of this size if one is given; `fallow.domain.commands` follows."""

    command: Words
    terminal: TerminalSize | None = None


class Line(Want, frozen=True, tag="line"):
    """A session with the node itself, carried as a stream: what a direct one goes on over when its own line breaks.

    A ticket for any purpose will do: each stream of that session shows its own.
    """


class Service(Want, frozen=True, tag="service"):
    """What the worker of a vertical serves beside leases: it is handed the request as it came.

    Its ticket is for the purpose `service_purpose(vertical)`, with an empty lease.
    """

    vertical: Annotated[str, Meta(pattern=r"^[a-z_]{1,40}$(?!\n)")]
    request: Annotated[bytes, Meta(max_length=SERVICE_BYTES_MAX)]


def service_purpose(vertical: str) -> str:
    """What a ticket for the service of a vertical says of its purpose."""
    return f"service:{vertical}"


def is_for_service(ticket: StreamTicket) -> bool:
    """Whether a ticket is for what a worker serves beside leases."""
    return ticket.purpose.startswith(service_purpose(""))


class DirectOffer(Signed, frozen=True, kw_only=True):
    """A node says that it can be dialled: at `port` of the address that it is seen at, showing `certificate` (PEM).

    It opens a stream to its relay with this. Who knows `probe` may try it.
    """

    tag: ClassVar[str] = "fallow/direct-offer/1"
    net: str
    node: bytes
    port: Annotated[int, Meta(ge=DIRECT_PORT_MIN, le=65535)]
    certificate: Annotated[str, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    probe: Annotated[bytes, Meta(min_length=PROBE_BYTES, max_length=PROBE_BYTES)]


class DirectAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node was reached from outside, and the certificate (PEM) that alone is to be trusted there."""

    host: str
    port: int
    certificate: str


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first thing on a stream: a sealed StreamTicket, and what is wanted under it."""

    ticket: bytes
    want: Logs | Port | Exec | Line | Service

    def write(self) -> bytes:
        """Encode it."""
        return msgspec.msgpack.encode(self)


def read_opening(data: bytes) -> Opening:
    """Decode an opening.

    Raises:
        InvalidInput: malformed (`stream.opening`).
    """
    try:
        return msgspec.msgpack.decode(data[: OPENING_BYTES_MAX + 1], type=Opening)
    except UNREADABLE as error:
        raise InvalidInput("stream.opening", f"The stream's opening is malformed: {error}.") from error


def check_ticket(opening: Opening, *, net: str, network_key: bytes, now_ms: int) -> StreamTicket:
    """Open the ticket of an opening.

    Raises:
        InvalidInput: malformed.
        NotAllowed: not by this network, for something else, or expired (`stream.ticket`).
    """
    ticket = open_ticket(opening.ticket, net=net, network_key=network_key, now_ms=now_ms)
    want = opening.want
    purpose = service_purpose(want.vertical) if isinstance(want, Service) else want.__struct_config__.tag
    if not isinstance(want, Line) and ticket.purpose != purpose:
        raise NotAllowed("stream.ticket", "The ticket is for something else.")
    return ticket


def open_ticket(sealed: bytes, *, net: str, network_key: bytes, now_ms: int) -> StreamTicket:
    """Open a ticket, whatever it is for.

    Raises:
        InvalidInput: malformed.
        NotAllowed: not by this network, for another, or expired (`stream.ticket`).
    """
    ticket = StreamTicket.open(sealed, network_key)
    if ticket.net != net:
        raise NotAllowed("stream.ticket", "The ticket is for something else.")
    if ticket.expires_at <= now_ms:
        raise NotAllowed("stream.ticket", "The ticket has expired.", "Ask the network for a new one.")
    return ticket


def may_probe(address: str, network_host: str) -> bool:
    """Whether a network that is reached at `network_host` (an address) may knock at a node's address.

    Only at public ones; at private ones where it is a private network itself, at loopback only where it is there, too.
    """
    node, own = _plain(address), _plain(network_host)
    if node is None or node.is_multicast or node.is_unspecified or node.is_link_local:
        return False
    if node.is_global:
        return True
    if own is None or own.is_global:
        return False
    return own.is_loopback if node.is_loopback else node.is_private


def _plain(address: str) -> IPv4Address | IPv6Address | None:
    try:
        plain = ip_address(address)
    except ValueError:
        return None
    return plain.ipv4_mapped or plain if isinstance(plain, IPv6Address) else plain
