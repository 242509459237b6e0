"""Looks at the alerts of each account that wants to be told, and puts what has begun or ended into the queue."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import msgspec

from fallow.domain.alerts import changes
from fallow.domain.errors import FallowError, TooMuch
from fallow.domain.identity import address_text
from fallow.ports.account_alerts import alerts_of
from fallow.ports.alert_store import AlertStore, Channel
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.mishaps import MISHAPS
from fallow.services.alerts.limits import count_message
from fallow.services.alerts.messages import Changed

LOOK_MS: Final = 60_000
PAUSE_S: Final = 5.0
CHANNELS_A_ROUND: Final = 32
WAITING_MAX: Final = 20
"""Messages of one channel. When it is full nothing is counted as told: the next look finds it again."""

_log = logging.getLogger(__name__)


class Watching:
    """Looks once a minute at each channel. `verticals` are those that tell alerts, by name."""

    def __init__(
        self, *, bus: Bus, clock: Clock, database: Database, store: AlertStore, verticals: Collection[str]
    ) -> None:
        self._verticals = verticals
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store

    async def for_ever(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                looked = await self.look()
            except FallowError as error:
                _log.warning("alerts wait: %s", error)
                looked = 0
            if looked < CHANNELS_A_ROUND:
                await self._clock.sleep(PAUSE_S)

    async def look(self) -> int:
        """Look at those that are due; returns how many that were.

        Raises:
            Unavailable: the database is away; nothing is lost, and nothing counts as told.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            due = await self._store.take_looks(tx, now, now - LOOK_MS, CHANNELS_A_ROUND)
        for channel in due:
            await self._tell(channel, now)
        return len(due)

    async def _tell(self, channel: Channel, now: int) -> None:
        """Put what has changed into the queue and keep that it was told, both or neither."""
        try:
            known = await alerts_of(self._bus, address_text(channel.account), now, self._verticals)
            async with self._database.transaction() as tx:
                current = await self._store.locked(tx, channel.account, channel.kind)
                if current is None or current.salt != channel.salt:
                    return
                if await self._store.waiting(tx, channel.salt) >= WAITING_MAX:
                    return
                told = await self._store.told(tx, channel.account, channel.kind)
                alerts = known.and_before(told or ())
                # What happened before somebody wanted to be told is no news to him; what holds is.
                before = [one for one in alerts if one.once] if told is None else told
                began, ended = changes(before, alerts)
                if began or ended:
                    await count_message(self._store, tx, channel, now)
                    body = msgspec.json.encode(Changed(began, ended))
                    await self._store.add(tx, channel, "alerts", body, now)
                if told is None or {one.id for one in told} != {one.id for one in alerts}:
                    await self._store.tell(tx, channel.account, channel.kind, alerts)
        except TooMuch:
            _log.info("an account was told as often today as it may be: the rest waits")
        except FallowError as error:
            _log.warning("the alerts of an account were not looked at: %s", error)
        except Exception as error:  # noqa: BLE001 - an account that hits a bug must not stop the others
            MISHAPS.note("alerts.watching", error)
