"""What operators say of tariffs: kept in a log that only grows, and told to whoever opens subscriptions or shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from fallow.domain.identity import address
from fallow.domain.tariffs import Tariffs, TariffWord
from fallow.ports.acting import action_of, note
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.registry_store import RegistryStore, TariffRow
from fallow.ports.rpc import Empty, serve
from fallow.services.registry.moments import HINT, moment_of


class TariffSetting:
    """Answers `registry.tariffs` and `registry.set_tariff`. Several copies may run: all state is in the store."""

    def __init__(self, *, tariffs: Tariffs, bus: Bus, clock: Clock, database: Database, store: RegistryStore) -> None:
        self._first = tariffs.first
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.tariffs.TARIFFS, Empty, self.said, queue="registry"),
            serve(self._bus, calls.tariffs.SET_TARIFF, calls.tariffs.SayTariff, self.say, queue="registry"),
        ):
            yield

    async def said(self, _: Empty) -> calls.tariffs.TariffWords:
        """Tell all that was said."""
        async with self._database.transaction() as tx:
            return calls.tariffs.TariffWords(words=[row.word for row in await self._store.tariffs(tx)])

    async def say(self, request: calls.tariffs.SayTariff) -> calls.tariffs.TariffWords:
        """Write down what new subscriptions are to pay, and from when. The same again is said once.

        Raises:
            NotFound: nothing of this vertical is sold by the meter (`tariff.no_service`).
            InvalidInput: it does not name each of its meters (`tariff.meters`), or asks less than owners were told
                within a day of now (`tariff.too_soon`), or its moment is past (`moment.past`) or more than a year ahead
                (`moment.too_far`).
            Conflict: the id belongs to something else.
            Unavailable: another operator was faster.
        """
        self._require_meters(request)
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            rows = await self._store.tariffs(tx)
            words = [row.word for row in rows]
            kept = next((row for row in rows if row.id == request.id), None)
            if kept is not None:
                _require_same(kept, request)
                return calls.tariffs.TariffWords(words=words)
            word = _word(Tariffs(self._first, words), request, now)
            by = request.by
            row = TariffRow(len(rows), request.id, now, address(by.account), by.key_id, *word)
            if not await self._store.add_tariff(tx, row):
                raise Unavailable("tariff.raced", "Somebody else set a tariff just now.", "Look at it, then try again.")
            await note(self._store, tx, action_of(by, "tariff.set", now, once=request.id, about=_about(word)))
        return calls.tariffs.TariffWords(words=[*words, word])

    def _require_meters(self, request: calls.tariffs.SayTariff) -> None:
        first = self._first.get(request.vertical)
        if first is None:
            raise NotFound("tariff.no_service", f"This network sells nothing of {request.vertical!r} by the meter.")
        if first.keys() != request.tariff.keys():
            raise InvalidInput(
                "tariff.meters",
                f"A tariff of {request.vertical} has a price for each of {', '.join(sorted(first))}, and no other.",
                "Name each of them.",
            )


def _word(tariffs: Tariffs, request: calls.tariffs.SetTariff, now: int) -> TariffWord:
    word = TariffWord(now, request.vertical, request.tariff)
    from_ms = moment_of(
        request.from_ms,
        now,
        lambda moment: tariffs.too_soon(word._replace(from_ms=moment), now),
        InvalidInput(
            "tariff.too_soon",
            "It asks less of buyers than owners were told, who earn by it, so it holds a day from now at the earliest: "
            "they may leave before.",
            HINT,
        ),
    )
    return word._replace(from_ms=from_ms)


def _about(word: TariffWord) -> str:
    prices = (f"{meter}={price.microusd}/{price.per}" for meter, price in sorted(word.tariff.items()))
    return " ".join((word.vertical, *prices, f"from_ms={word.from_ms}"))


def _require_same(kept: TariffRow, request: calls.tariffs.SetTariff) -> None:
    same = (kept.vertical, kept.tariff) == (request.vertical, request.tariff)
    if not same or request.from_ms not in {None, kept.from_ms}:
        raise Conflict("tariff.id_taken", f"The id {request.id} belongs to something else.", "Make a fresh one.")
