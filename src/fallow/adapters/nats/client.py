"""nats-py's client, with the few things changed that it would otherwise get wrong for us.

- It knows how to sign with a key only through the `nkeys` package; here the signer is the caller's.
- It signs whatever a server calls a nonce; here only what looks like one, so that no server can have a node's key
  sign a record.
- It lets a server greet in plain text before there is encryption; here `tls://` means from the first byte on.
- It speaks WebSocket through a large HTTP package; here with the one that other links use, through a gateway.
- It goes on in plain text when a server (or somebody in between) does not offer TLS; here it stops.
- It closes for good when a server reports an error, such as an expired permission; here it connects again.
- Its `flush` pings before it writes what waits, and so proves nothing; `round_trip` does it in order.
- It forgets a cancellation that arrives while its output is full; here it is raised again.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats import errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv

from fallow.adapters.nats.nkeys import KeySigner, Kind, encode_public
from fallow.adapters.nats.transport import OwnTransport
from fallow.adapters.nats.tunnel import TunnelTransport

# The server's nonce is base64url text of some random bytes. Nothing else that a key of ours signs fits this form.
_NONCE = re.compile(r"[A-Za-z0-9_-]{11,44}")


class SigningClient(Client):
    """A client that proves that it holds a key."""

    def __init__(self, signer: KeySigner, *, tls_required: bool, local_address: str = "") -> None:
        super().__init__()
        self._local_address = local_address
        self._signer = signer
        self._tls_required = tls_required
        self._public_nkey = encode_public(Kind.USER, signer.public_key)

    def sign_nonce(self, nonce: str) -> bytes:
        """Base64 of the signature of the server's nonce; nats-py's error if it is no nonce."""
        if _NONCE.fullmatch(nonce) is None:
            raise errors.ProtocolError
        return base64.b64encode(self._signer.sign(nonce.encode()))

    async def round_trip(self, timeout_s: int) -> None:
        """Return when the server has taken everything that was sent so far, and its errors about it are in."""
        await self._flush_pending(force_flush=True)
        await self.flush(timeout=timeout_s)

    async def close(self) -> None:
        """Close for good; does nothing if connecting never began."""
        if self._flush_queue is not None:
            await super().close()

    def _connect_command(self) -> bytes:
        if self._tls_required and not self._is_tls():
            raise errors.SecureConnWantedError
        return super()._connect_command()

    def _is_tls(self) -> bool:
        scheme = self._current_server.uri.scheme if self._current_server else ""
        if isinstance(self._transport, OwnTransport) and self._transport.context is not None:
            return True
        # nats-py upgrades the connection exactly if the server says this, except on a web socket.
        return scheme == "wss" or (scheme != "ws" and bool(self._server_info.get("tls_required")))

    async def _connect_to_server(self, server: Srv) -> None:
        if server.uri.scheme in {"ws", "wss"}:
            server.last_attempt = time.monotonic()
            self._transport = TunnelTransport(self.options.get("tls"), self._local_address)
            await self._transport.connect(server.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])
            return
        if server.uri.scheme not in {"nats", "tls"}:
            await super()._connect_to_server(server)
            return
        server.last_attempt = time.monotonic()
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        at_once = server.uri.scheme == "tls" and self._tls_required
        self._transport = OwnTransport(self.ssl_context if at_once else None, self._local_address)
        await self._transport.connect(server.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except ssl.SSLError:
            raise  # of which one is a ValueError, too
        except ValueError as error:
            # A line that is too long. Only an error that nats-py knows leads to another attempt.
            raise errors.ProtocolError from error

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(errors.Error(f"nats: {err_msg}"))


@asynccontextmanager
async def keeping_cancellation() -> AsyncIterator[None]:
    """Raise CancelledError at the end if a cancellation came in between and nats-py dropped it."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
