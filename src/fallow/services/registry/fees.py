"""What operators say of the network's fee: kept in a log that only grows, and told to whoever charges or shows it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.errors import Conflict, InvalidInput, Unavailable
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.identity import ADDRESS_BYTES, address
from fallow.ports.acting import action_of, note
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.registry_store import FeeRow, RegistryStore
from fallow.ports.rpc import Empty, serve
from fallow.services.registry.moments import HINT, moment_of

_log = logging.getLogger(__name__)


async def begun(database: Database, store: RegistryStore, settings: FeePolicy) -> list[FeeWord]:
    """Return all that was said of the fee; a network's first start says what it begins with.

    So other settings at a later start take nothing from owners without the day that they have to leave.
    """
    async with database.transaction() as tx:
        first = FeeRow(0, "settings", 0, bytes(ADDRESS_BYTES), "", 0, settings.fee_ppm, settings.reserve_ppm)
        await store.add_fee(tx, first)
        rows = await store.fees(tx)
    kept = rows[0]
    if kept.id == first.id and kept != first:
        _log.warning(
            "The settings fee_ppm and reserve_ppm (%d, %d) are not those that this network began with (%d, %d), and "
            "change nothing. An operator sets its fee: fallow price fee --fee PERCENT --reserve PERCENT",
            *(first.fee_ppm, first.reserve_ppm, kept.fee_ppm, kept.reserve_ppm),
        )
    return [row.word for row in rows]


class FeeSetting:
    """Answers `registry.fees` and `registry.set_fee`. Several copies may run: all state is in the store."""

    def __init__(self, *, fees: Fees, bus: Bus, clock: Clock, database: Database, store: RegistryStore) -> None:
        self._first = fees.first
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.fees.FEES, Empty, self.said, queue="registry"),
            serve(self._bus, calls.fees.SET_FEE, calls.fees.SayFee, self.say, queue="registry"),
        ):
            yield

    async def said(self, _: Empty) -> calls.fees.FeeWords:
        """Tell all that was said."""
        async with self._database.transaction() as tx:
            return calls.fees.FeeWords(words=[row.word for row in await self._store.fees(tx)])

    async def say(self, request: calls.fees.SayFee) -> calls.fees.FeeWords:
        """Write down what is to hold, and from when. The same again is said once.

        Raises:
            InvalidInput: it would take more from owners within a day of now (`fee.too_soon`), or its moment is past
                (`moment.past`) or more than a year ahead (`moment.too_far`).
            Conflict: the id belongs to something else.
            Unavailable: another operator was faster.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            rows = await self._store.fees(tx)
            words = [row.word for row in rows]
            kept = next((row for row in rows if row.id == request.id), None)
            if kept is not None:
                _require_same(kept, request)
                return calls.fees.FeeWords(words=words)
            word = _word(Fees(self._first, words), request, now)
            by = request.by
            row = FeeRow(len(rows), request.id, now, address(by.account), by.key_id, *word)
            if not await self._store.add_fee(tx, row):
                raise Unavailable("fee.raced", "Somebody else set the fee just now.", "Look at it, then try again.")
            about = f"fee_ppm={word.fee_ppm} reserve_ppm={word.reserve_ppm} from_ms={word.from_ms}"
            await note(self._store, tx, action_of(by, "fee.set", now, once=request.id, about=about))
        return calls.fees.FeeWords(words=[*words, word])


def _word(fees: Fees, request: calls.fees.SetFee, now: int) -> FeeWord:
    word = FeeWord(now, request.fee_ppm, request.reserve_ppm)
    from_ms = moment_of(
        request.from_ms,
        now,
        lambda moment: fees.too_soon(word._replace(from_ms=moment), now),
        InvalidInput(
            "fee.too_soon",
            "It takes more from owners than they were told, so it holds a day from now at the earliest: "
            "they may leave before.",
            HINT,
        ),
    )
    return word._replace(from_ms=from_ms)


def _require_same(kept: FeeRow, request: calls.fees.SetFee) -> None:
    same = (kept.fee_ppm, kept.reserve_ppm) == (request.fee_ppm, request.reserve_ppm)
    if not same or request.from_ms not in {None, kept.from_ms}:
        raise Conflict("fee.id_taken", f"The id {request.id} belongs to something else.", "Make a fresh one.")
