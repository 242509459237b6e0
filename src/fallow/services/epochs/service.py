"""Closes epochs, one after the other: files what ingest wrote, and signs the statement.

The steps of a closing: ingest ends the epoch (no record comes in any more), the files are put into the archive, the
manifest last, after them what follows from them; the statement is created there, and that is noted. Each step gives
the same bytes however often it is done; a closing that was cut short begins again at the first one. Once there is a
statement in the archive nothing of its epoch changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fallow.domain.calls.base import Person
from fallow.domain.calls.epochs import END_EPOCH, END_NOW, EndEpoch, EndNow
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import STATEMENT, Manifest, checked, path_of
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.plugins import PLUGIN_ERROR
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import STATE
from fallow.domain.epochs.statement import NONE, STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import Conflict, FallowError, NotFound, Unavailable
from fallow.domain.happenings import Happening, Happenings
from fallow.domain.signing import Sign
from fallow.ports.archive import Archive, whole
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.epochs import Attested, Attesting, Closed, EpochStore
from fallow.ports.happenings import show
from fallow.ports.ingest_store import EpochEnd, IngestStore
from fallow.ports.mishaps import MISHAPS, steadily
from fallow.ports.rpc import call, serve
from fallow.ports.tasks import background, first_error
from fallow.services.epochs.adding_up import add_up
from fallow.services.epochs.concluding import Concluded, Work, conclude
from fallow.services.epochs.writing import Files

LOOK_S = 2.0
"""How long after its end an epoch's closing begins, at most."""

ADD_AGAIN_S = 60.0
LEAD_MS = 4_000
RENEW_S = 1.0

_log = logging.getLogger(__name__)


class Closing:
    """Closes each epoch when it is over, or when the operator says so. Of several copies one does."""

    def __init__(
        self,
        *,
        net: str,
        holder: str,
        sign: Sign,
        network_key: bytes,
        kinds: Collection[str],
        folder: Path,
        bus: Bus,
        clock: Clock,
        database: Database,
        log: IngestStore,
        store: EpochStore,
        archive: Archive,
        rules: Rules,
        meterings: Mapping[str, Metering],
        attesting: Attesting,
        conclude: Callable[[Work], Concluded] = conclude,
    ) -> None:
        self._net = net
        self._holder = holder
        self._sign = sign
        self._network_key = network_key
        self._attesting = attesting
        self._files = Files(folder, net, kinds, database, log)
        self._bus = bus
        self._clock = clock
        self._database = database
        self._log_store = log
        self._store = store
        self._archive = archive
        self._rules = rules
        self._meterings = meterings
        self._conclude = conclude
        self._to_add_up = asyncio.Event()
        self._to_add_up.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close epochs while the context is open."""
        try:
            async with (
                background(steadily("epochs.closing", self._watch, self._clock)),
                background(steadily("epochs.adding_up", self._add_up, self._clock)),
                serve(self._bus, END_NOW, EndNow, self._end_now, queue="epochs"),
            ):
                yield
        finally:
            await self._files.forget()

    async def close_next(self) -> Statement | None:
        """Close the epoch after the last closed one; None while that goes on.

        Raises:
            Conflict: another closer is at it (`epoch.busy`), or the archive is not this network's (`epoch.foreign`).
            Unavailable: a part, or the chain, is away; what was done is found again.
        """
        async with self._database.transaction() as tx:
            last = await self._store.last(tx)
        end = await self._end(last.epoch if last else None)
        if end is None:
            return None
        await self._lead()
        with first_error():
            async with background(self._renew()):
                return await self._close(end, last)

    async def file_ahead(self) -> None:
        """Write what has come in of the open epoch, so that closing it takes less time once it has ended."""
        async with self._database.transaction() as tx:
            last = await self._store.last(tx)
            epoch = await self._log_store.first_epoch(tx) if last is None else last.epoch + 1
        if epoch is not None:
            await self._files.go_on(epoch)

    async def _close(self, end: EpochEnd, last: Closed | None) -> Statement:
        sealed = await asyncio.to_thread(self._said, end.epoch)
        if sealed is None:
            manifest = await self._file(end.epoch)
            statement = self._statement(end, last, manifest, await self._attesting())
            sealed = await self._say(await asyncio.to_thread(self._folded, statement, last, manifest))
        await self._note(Closed(end.epoch, sealed))
        self._to_add_up.set()
        closed = Happening(at=self._clock.now_ms(), kind="epoch.closed", epoch=end.epoch)
        await show(self._bus, Happenings(shown=[closed]))
        return self._own(sealed, end.epoch)

    async def _end(self, after: int | None, *, early: bool = False, by: Person | None = None) -> EpochEnd | None:
        ended = await call(self._bus, END_EPOCH, EndEpoch(after=after, early=early, by=by), list[EpochEnd])
        return ended[0] if ended else None

    def _said(self, epoch: int) -> bytes | None:
        """Return the statement that is in the archive already."""
        try:
            sealed = whole(self._archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX)
        except NotFound:
            return None
        self._own(sealed, epoch)
        return sealed

    def _own(self, sealed: bytes, epoch: int) -> Statement:
        try:
            statement = Statement.open(sealed, self._network_key)
        except FallowError as error:
            raise Conflict("epoch.foreign", f"The archive's statement of epoch {epoch} is not ours. {error}") from error
        if (statement.net, statement.epoch) != (self._net, epoch):
            raise Conflict("epoch.foreign", f"The archive's statement of epoch {epoch} is of another epoch or network.")
        return statement

    async def _file(self, epoch: int) -> Manifest:
        """Put what came in during the epoch into the archive."""
        return await self._files.put(epoch, self._archive)

    def _statement(self, end: EpochEnd, last: Closed | None, manifest: Manifest, attested: Attested) -> Statement:
        return Statement(
            net=self._net,
            epoch=end.epoch,
            from_ms=end.from_ms,
            until_ms=end.until_ms,
            manifest=hashlib.sha256(manifest.encode()).digest(),
            previous=hashlib.sha256(last.statement).digest() if last else NONE,
            revision=attested.revision,
            chain_id=attested.domain.chain_id,
            contract=attested.domain.contract,
            validators=list(attested.validators),
        )

    def _folded(self, statement: Statement, last: Closed | None, manifest: Manifest) -> Statement:
        """Put the files that follow from the records into the archive; returns the statement with what they say."""
        epoch = Epoch(statement.net, statement.epoch, statement.until_ms, self._network_key)
        work = Work(self._archive, self._closing_state(last), epoch, manifest, self._rules, self._meterings)
        found = self._conclude(work)
        for name, error in found.errors.items():
            said = f"In epoch {epoch.number} records were rejected as {PLUGIN_ERROR} since it raised {error}"
            MISHAPS.note(f"epochs.policy.{name}", RuntimeError(said))
        return msgspec.structs.replace(statement, **found.fields)

    def _closing_state(self, last: Closed | None) -> bytes:
        """Read what the epoch before has carried on."""
        said = self._own(last.statement, last.epoch) if last else None
        if said is None or said.closing == NONE:
            return b""
        file = next(file for file in said.files if file.name == STATE)
        return b"".join(checked(file, self._archive.read(path_of(said.epoch, STATE))))

    async def _say(self, statement: Statement) -> bytes:
        """Create the statement in the archive: from then on it is said."""
        sealed = statement.seal(self._sign)
        if not await asyncio.to_thread(self._archive.create, path_of(statement.epoch, STATEMENT), sealed):
            raise Conflict("epoch.busy", f"Another closer has closed epoch {statement.epoch} meanwhile.")
        return sealed

    async def _note(self, closed: Closed) -> None:
        async with self._database.transaction() as tx:
            await self._store.add(tx, closed)
        _log.info("epoch %d is closed", closed.epoch)

    async def _end_now(self, request: EndNow) -> EpochEnd:
        """End the open epoch before its time. It is closed as soon as those before it are."""
        after = request.after
        if after is None:
            async with self._database.transaction() as tx:
                last = await self._store.last(tx)
            after = last.epoch if last else None
            while (over := await self._end(after)) is not None:
                after = over.epoch
        ended = await self._end(after, early=True, by=request.by)
        if ended is None:
            raise Conflict("epoch.not_ended", "The epoch did not end.", "Try again.")
        return ended

    async def _watch(self) -> None:
        while True:
            try:
                if await self.close_next() is not None:
                    continue
                await self.file_ahead()
            except FallowError as error:
                _log.warning("no epoch is closed for now: %s", error)
            await self._clock.sleep(LOOK_S)

    async def _add_up(self) -> None:
        """Add up by vertical what is closed: once at the start, and then whenever an epoch was closed here."""
        while True:
            await self._to_add_up.wait()
            self._to_add_up.clear()
            try:
                async with self._database.transaction() as tx:
                    last = await self._store.last(tx)
                if last is not None:
                    await asyncio.to_thread(add_up, self._archive, last.epoch, self._network_key)
            except Unavailable as error:
                _log.warning("an epoch is not added up for now: %s", error)
                await self._clock.sleep(ADD_AGAIN_S)
                self._to_add_up.set()

    async def _lead(self) -> None:
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            if not await self._store.lead(tx, self._holder, now, now + LEAD_MS):
                raise Conflict("epoch.busy", "Another process closes epochs.", "Try again in a minute.")

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(RENEW_S)
            await self._lead()
