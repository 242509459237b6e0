"""Where an account is told of its alerts: it names an address, and whoever reads that confirms it (ADR 66)."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain import calls
from fallow.domain.errors import Conflict, NotAllowed, NotFound
from fallow.domain.identity import address
from fallow.domain.views.alerts import ChannelsView, ChannelView
from fallow.ports.alert_store import AlertStore, Channel
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.mishaps import steadily
from fallow.ports.rpc import Empty, serve
from fallow.ports.tasks import background
from fallow.services.alerts.addresses import check_address
from fallow.services.alerts.limits import count_confirmation
from fallow.services.alerts.secrets import ChannelSecrets
from fallow.services.alerts.sending import Sending
from fallow.services.alerts.watching import Watching

QUEUE: Final = "alerts"
SALT_BYTES: Final = 16
CONFIRM_MS: Final = 3_600_000
TRIES_MAX: Final = 5
"""Wrong codes, of a hundred million, before the address must be named again."""


class Alerting:
    """Answers `alerts.*`, looks and sends. Several copies may run: all state is in the store.

    `mail` says whether the operator has set a mail server; `plain` lets webhooks be reached without TLS.
    """

    def __init__(
        self,
        *,
        secrets: ChannelSecrets,
        random_bytes: Callable[[int], bytes],
        bus: Bus,
        clock: Clock,
        database: Database,
        store: AlertStore,
        sending: Sending,
        watching: Watching,
        mail: bool,
        plain: bool,
    ) -> None:
        self._secrets = secrets
        self._random_bytes = random_bytes
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._sending = sending
        self._watching = watching
        self._mail = mail
        self._plain = plain

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, look and send while the context is open."""
        async with (
            serve(self._bus, calls.alerts.ALERT_CHANNELS, calls.base.AccountRef, self.channels, queue=QUEUE),
            serve(self._bus, calls.alerts.SET_CHANNEL, calls.alerts.SetChannel, self.set, queue=QUEUE),
            serve(self._bus, calls.alerts.CONFIRM_CHANNEL, calls.alerts.ConfirmChannel, self.confirm, queue=QUEUE),
            serve(self._bus, calls.alerts.END_CHANNEL, calls.alerts.ChannelRef, self.end, queue=QUEUE),
            serve(self._bus, calls.alerts.STOP_ALERTS, calls.alerts.StopAlerts, self.stop, queue=QUEUE),
            background(
                steadily("alerts.watching", self._watching.for_ever, self._clock),
                steadily("alerts.sending", self._sending.for_ever, self._clock),
            ),
        ):
            yield

    async def channels(self, request: calls.base.AccountRef) -> ChannelsView:
        """Show where an account is told."""
        async with self._database.transaction() as tx:
            found = await self._store.channels(tx, address(request.account))
            shown = [_view(one, await self._store.waiting(tx, one.salt)) for one in found]
        return ChannelsView(channels=shown, mail=self._mail)

    async def set(self, request: calls.alerts.SetChannel) -> ChannelView:
        """Name where an account is told, and have that address asked whether it wants to be.

        The one that was told before hears that it is not any more. The same address again is asked again.

        Raises:
            InvalidInput: it is no address of that kind.
            Conflict: the network sends no mail (`alerts.no_mail`).
            TooMuch: so much was asked today.
        """
        check_address(request.kind, request.to.address, plain=self._plain)
        if request.kind == "email" and not self._mail:
            raise Conflict("alerts.no_mail", "This network's operator has set no mail server.", "Name a webhook.")
        now = self._clock.now_ms()
        channel = Channel(
            address(request.account),
            request.kind,
            request.to.address,
            request.to.language,
            self._random_bytes(SALT_BYTES),
            now,
        )
        async with self._database.transaction() as tx:
            await self._end(tx, channel.account, channel.kind, now)
            await count_confirmation(self._store, tx, channel, now)
            await self._store.put(tx, channel)
            await self._store.add(tx, channel, "confirm", b"", now)
        secret = self._secrets.signing(channel) if channel.kind == "webhook" else ""
        return _view(channel, 1, secret)

    async def confirm(self, request: calls.alerts.ConfirmChannel) -> ChannelView:
        """Take the code that came by mail; once confirmed it stays so.

        Raises:
            NotFound: the account names no such address.
            NotAllowed: this is not the code, it is too old, or too many wrong ones came (`alerts.code`).
        """
        now, account = self._clock.now_ms(), address(request.account)
        async with self._database.transaction() as tx:
            channel = await self._store.locked(tx, account, request.kind)
            if channel is None:
                raise _none()
            usable = channel.kind == "email" and channel.tries < TRIES_MAX and now < channel.asked_at + CONFIRM_MS
            right = usable and hmac.compare_digest(self._secrets.code(channel).encode(), request.code.encode())
            if right and channel.confirmed_at is None:
                channel = channel._replace(confirmed_at=now)
                await self._store.confirm(tx, channel.salt, now)
            elif not right:
                await self._store.count_try(tx, channel.salt)
            waiting = await self._store.waiting(tx, channel.salt)
        if not right:
            raise NotAllowed("alerts.code", "This is not the code, or it is too old.", "Name the address again.")
        return _view(channel, waiting)

    async def end(self, request: calls.alerts.ChannelRef) -> Empty:
        """Tell an account no more there; where it is not told, that stays so."""
        async with self._database.transaction() as tx:
            await self._end(tx, address(request.account), request.kind, self._clock.now_ms())
        return {}

    async def stop(self, request: calls.alerts.StopAlerts) -> Empty:
        """Do the same for whoever reads what is sent; once done it stays so.

        Raises:
            NotFound: the token is of no address, or of one that is not told any more.
        """
        account, kind = self._secrets.of_token(request.token)
        async with self._database.transaction() as tx:
            channel = await self._store.locked(tx, account, kind)
            if channel is None or not hmac.compare_digest(
                self._secrets.stop_token(channel).encode(), request.token.encode()
            ):
                raise NotFound("alerts.token", "There is nothing to end with this link.")
            await self._store.end(tx, account, kind)
        return {}

    async def _end(self, tx: Transaction, account: bytes, kind: str, now: int) -> None:
        """Forget a channel. One that was confirmed hears of it: a thief's first step would be to silence it."""
        before = await self._store.locked(tx, account, kind)
        await self._store.end(tx, account, kind)
        if before is not None and before.confirmed_at is not None:
            await self._store.add(tx, before, "stopped", b"", now)


def _none() -> NotFound:
    return NotFound("alerts.none", "The account names no such address.", "fallow account alerts --email ADDRESS")


def _view(channel: Channel, waiting: int, secret: str = "") -> ChannelView:
    code, _, sentence = channel.failure.partition(": ")
    return ChannelView(
        kind=channel.kind,
        address=channel.address,
        language=channel.language,
        confirmed=channel.confirmed_at is not None,
        waiting=waiting,
        failed_at=channel.failed_at,
        failure_code=code,
        failure=sentence,
        secret=secret,
    )
