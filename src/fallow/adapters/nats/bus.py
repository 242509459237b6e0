"""The bus over NATS: connections that come back by themselves, bounded in what they hold."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from nats import errors
from nats.aio.msg import Msg

from fallow.adapters.memory.mailbox import Mailbox, answering
from fallow.adapters.memory.subjects import check_pattern, check_subject
from fallow.adapters.nats.client import SigningClient, keeping_cancellation
from fallow.adapters.nats.dial import BusState, Dial, OnState, dial
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import INBOX_ROOT
from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.ports.bus import MESSAGE_BYTES_MAX, Handler, Message

_log = logging.getLogger(__name__)

SERVE_PENDING_MAX = 1024
"""Requests that wait for a free handler; further ones are dropped."""

REFUSED_HINT = "A key that was banned or revoked is refused: ask the network's operator."

_ROUND_TRIP_S = 5
_CLOSE_S = 5.0
# Between the socket and our own mailbox nats-py keeps a queue; one read of the socket always fits into it.
_PARSED_MAX = 1 << 16
_NOT_SUBSCRIBED = re.compile(r'permissions violation for subscription to "([^"]*)"')


class NatsBus:
    """One connection to NATS: the `Bus` port. Made by `connect_nats`.

    Counters since the start: `dropped` messages of slow readers, `replies_refused` to subjects that are no inbox,
    `replies_lost` because the connection was down, `violations` that the server reported.
    """

    def __init__(self, client: SigningClient, *, reply_root: str) -> None:
        self.dropped = 0
        self.replies_refused = 0
        self.replies_lost = 0
        self.violations = 0
        self._client = client
        self._reply_root = reply_root
        self._confirming: dict[str, bool] = {}
        self._refused = False

    @property
    def connected(self) -> bool:
        """Whether the connection is up, as far as this side knows."""
        return bool(self._client.is_connected)

    async def publish(self, subject: str, data: bytes) -> None:
        """See the port; errors `bus.payload`, `bus.disconnected`, `bus.subject`."""
        check_subject(subject)
        await self._send(subject, data)

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """See the port; errors also `bus.no_responders`, `bus.timeout`."""
        check_subject(subject)
        self._check_sendable(data)
        with _translated(subject):
            async with keeping_cancellation():
                reply = await self._client.request(subject, data, timeout=timeout_s)
        return bytes(reply.data)

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue: str = "", pending_max: int = 1024
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See the port. The server has taken the subscription when the context opens.

        Raises:
            NotAllowed: this key may not listen to the subject (`bus.forbidden`).
        """
        inbox: Mailbox[Msg] = Mailbox(pending_max)
        async with self._subscribed(subject, queue, inbox):
            yield _messages(inbox)

    @asynccontextmanager
    async def serve(
        self, subject: str, handler: Handler, *, queue: str = "", concurrency: int = 64
    ) -> AsyncIterator[None]:
        """See the port, and `subscribe`."""
        inbox: Mailbox[Msg] = Mailbox(SERVE_PENDING_MAX)

        async def answer(message: Msg) -> None:
            data = await handler(Message(message.subject, message.data))
            if message.reply:
                await self._reply(message.reply, data)

        async with (
            answering(subject, inbox, answer, concurrency=concurrency),
            self._subscribed(subject, queue, inbox),
        ):
            yield

    async def note_error(self, error: Exception) -> None:
        """Take in what nats-py reports outside of any call."""
        _log.info("bus: %s", error)
        if isinstance(error, errors.SlowConsumerError):
            self.dropped += 1
        if "permissions violation" in str(error):
            self.violations += 1
        if "authorization violation" in str(error).lower():
            self._refused = True
        if (match := _NOT_SUBSCRIBED.search(str(error))) and match[1] in self._confirming:
            self._confirming[match[1]] = False

    async def _send(self, subject: str, data: bytes) -> None:
        self._check_sendable(data)
        with _translated(subject):
            async with keeping_cancellation():
                await self._client.publish(subject, data)

    async def _reply(self, subject: str, data: bytes) -> None:
        # The sender chose this subject, and we may send where he may not: only an inbox is not somebody's ear.
        if not subject.startswith(self._reply_root):
            self.replies_refused += 1
            return
        try:
            await self._send(subject, data)
        except InvalidInput:
            self.replies_refused += 1
        except Unavailable:
            self.replies_lost += 1

    def _check_sendable(self, data: bytes) -> None:
        if len(data) > MESSAGE_BYTES_MAX:
            raise TooMuch("bus.payload", f"{len(data)} bytes are more than a message may have ({MESSAGE_BYTES_MAX}).")
        # nats-py would keep it for later; by then its sender has long acted on the failure.
        if not self.connected:
            raise self._down()
        self._refused = False

    def _down(self) -> Unavailable:
        if self._refused:
            return Unavailable("bus.disconnected", "The bus closed the connection and refuses this key.", REFUSED_HINT)
        return Unavailable("bus.disconnected", "The connection to the bus is down.")

    @asynccontextmanager
    async def _subscribed(self, subject: str, queue: str, inbox: Mailbox[Msg]) -> AsyncIterator[None]:
        check_pattern(subject)
        self._check_sendable(b"")

        async def take(message: Msg) -> None:
            if not inbox.put(message):
                self.dropped += 1

        with _translated(subject):
            subscription = await self._client.subscribe(subject, queue=queue, cb=take, pending_msgs_limit=_PARSED_MAX)
        try:
            await self._confirm(subject)
            yield
        finally:
            inbox.close()
            with suppress(errors.Error, OSError):
                await subscription.unsubscribe()

    async def _confirm(self, subject: str) -> None:
        """Wait until the server has seen the subscription; a refusal arrives before the answer to the ping."""
        key = subject.lower()  # nats-py reports errors in lower case
        self._confirming[key] = True
        try:
            with _translated(subject):
                async with keeping_cancellation():
                    await self._client.round_trip(_ROUND_TRIP_S)
            if not self._confirming[key]:
                raise NotAllowed("bus.forbidden", f"This key may not listen to {subject}.")
        finally:
            self._confirming.pop(key, None)


@asynccontextmanager
async def connect_nats(
    url: str | Sequence[str],
    *,
    signer: KeySigner,
    name: str,
    tls: ssl.SSLContext | None,
    inbox_prefix: str,
    on_state: OnState | None = None,
    connect_timeout_s: float = 10.0,
    reply_root: str = INBOX_ROOT,
    jitter: random.Random | None = None,
    local_address: str = "",
) -> AsyncIterator[NatsBus]:
    """Connect, and keep the connection for as long as the context is open, however often it breaks.

    `tls` given means that plain text is refused; with a URL that begins with `tls://` not even a greeting is in it.
    `inbox_prefix` is where replies come in; see
    `permissions.inbox_prefix`. `reply_root` begins every subject that `serve` may answer to. `local_address` is where
    it connects from; "" leaves that to the system.

    Raises:
        InvalidInput: a URL that is none (`bus.url`).
        Unavailable: no server answered within `connect_timeout_s` (`bus.unreachable`).
        NotAllowed: the server refused this key (`bus.refused`), offers no TLS (`bus.plain_text`), or is not the
            one that `tls` trusts (`bus.untrusted`).
        ValueError: `inbox_prefix` does not begin as every inbox does.
    """
    if not inbox_prefix.startswith(INBOX_ROOT):
        raise ValueError(f"an inbox begins with {INBOX_ROOT}, or nobody would answer to it")
    client = SigningClient(signer, tls_required=tls is not None, local_address=local_address)
    bus = NatsBus(client, reply_root=reply_root)
    urls = (url,) if isinstance(url, str) else tuple(url)
    heard = on_state or _nobody
    to = Dial(urls, name, tls, inbox_prefix, connect_timeout_s, heard, bus.note_error, jitter or random.SystemRandom())
    try:
        await dial(client, to)
        heard(BusState.CONNECTED)
        yield bus
        # What was published just before leaving still arrives.
        with suppress(errors.Error, OSError):
            await client.round_trip(_ROUND_TRIP_S)
    finally:
        with suppress(errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await client.close()


def _nobody(_state: BusState) -> None:
    """Nobody wants to know."""


async def _messages(inbox: Mailbox[Msg]) -> AsyncIterator[Message]:
    async for message in inbox:
        yield Message(message.subject, message.data)


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn nats-py's errors into ours."""
    try:
        yield
    except errors.NoRespondersError:
        raise Unavailable("bus.no_responders", f"Nobody serves {subject}.") from None
    except errors.MaxPayloadError:
        raise TooMuch("bus.payload", "The message is larger than this server takes.") from None
    except errors.TimeoutError:
        raise Unavailable("bus.timeout", f"No answer on {subject} in time.") from None
    except errors.BadSubjectError:
        raise InvalidInput("bus.subject", f"{subject!r} is not a subject.") from None
    except (errors.Error, OSError) as error:
        raise Unavailable("bus.disconnected", f"The connection to the bus is down ({error}).") from error
