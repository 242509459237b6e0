"""Storage's worker: keeps pieces in a folder that its owner lends, serves them, and hands in what pays for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from fallow.domain.errors import FallowError, InvalidInput, NotFound, Unavailable
from fallow.ports.streams import Stream
from fallow.ports.vertical.worker import HandBack, Lent, Overview, Probe, Say, Worker, WorkerGround
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.lending import Lending, read_lending, size_text
from fallow.verticals.storage.core.questions import ExitSays, Note, Prove, Purge, Stock, Tell, read_question
from fallow.verticals.storage.core.statements import Statement
from fallow.verticals.storage.worker.answers import answer
from fallow.verticals.storage.worker.book import PAIRS_MAX, Book
from fallow.verticals.storage.worker.clock import NetworkTime
from fallow.verticals.storage.worker.folder import Folder
from fallow.verticals.storage.worker.leaving import Leaving
from fallow.verticals.storage.worker.moving import STALL_S, Ground, Moving, Owner, portion_bytes
from fallow.verticals.storage.worker.notes import Notes
from fallow.verticals.storage.worker.overview import Known, overview_of
from fallow.verticals.storage.worker.store import Amounts, PieceStore
from fallow.verticals.storage.worker.threads import in_thread

NAME: Final = "storage"
ATTRIBUTE: Final = "storage.bytes"
LEAVING: Final = "storage.leaving"
SPARE_BYTES_MAX: Final = 1 << 30
SPARE_PART: Final = 20
"""A twentieth of what is lent stays free of its disk, or a gibibyte: the owner's own programs must find room."""
ROOM_MIN_BYTES: Final = 4 << 20
"""With less room than that nothing is asked of a node any more: it holds one more piece, or none."""

FLUSH_S: Final = 1.0
HAND_IN_S: Final = 60.0
SWEEP_S: Final = 600.0
OPEN_S: Final = 30.0
"""Until a folder that could not be used is looked for again: disks are mounted after services have started, too."""
TROUBLE_LETTERS_MAX: Final = 200

_log = logging.getLogger(__name__)


class StorageWorker(Worker):
    """The worker on one node. What is lent is opened by `probe`, or else by `report`; until then nothing is served."""

    def __init__(self, ground: WorkerGround) -> None:
        self._ground = ground
        self._lending = read_lending(ground.lends) if ground.lends else None
        self._leaving = Leaving(ground.kept, net=ground.net, node=ground.node, network_key=ground.network_key)
        self._owner = Owner(self._closed)
        self._time = NetworkTime(ground.clock)
        self._kept: Ground | None = None
        self._why_not = ""
        self._troubles: dict[str, str] = {}
        self._streams: set[Moving] = set()
        self._proving = asyncio.Semaphore(1)
        self._purging = asyncio.Lock()
        self._notes = Notes(ground.kept)
        self._statement: Statement | None = None

    async def probe(self) -> Probe:
        """See the port."""
        if self._lending is None:
            return Probe({}, {NAME: "No disk is lent (fallow agent lend storage=FOLDER:SIZE)."})
        if self._leaving.receipt is not None:
            self._why_not = f"It has left with its disk, for good: {self._leaving.receipt_path} says how."
            return Probe({}, {NAME: self._why_not})
        if not await self._try_to_open(self._lending):
            return Probe({}, {NAME: self._why_not})
        return Probe({ATTRIBUTE: str(self._lending.size_bytes)}, {})

    async def serve(self, stream: Stream, request: bytes, client: bytes) -> None:
        """See the port."""
        moving = Moving(self._opened(), stream, lambda: portion_bytes(len(self._streams)))
        self._streams.add(moving)
        try:
            await moving.serve(request, client)
        finally:
            self._streams.discard(moving)

    async def report(self, say: Say) -> None:
        """Hand in orders, and see after the disk, until cancelled; a disk that was not there is waited for."""
        while self._kept is None:
            if self._lending is None or self._leaving.receipt is not None:
                return
            await self._ground.clock.sleep(OPEN_S)
            await self._try_to_open(self._lending)
        book, store = self._kept.book, self._kept.store
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._again("flush", FLUSH_S, lambda: in_thread(book.flush)))
                group.create_task(self._again("hand in", FLUSH_S, self._hand_in_many(say, book)))
                group.create_task(self._again("sweep", SWEEP_S, lambda: in_thread(store.sweep)))
                group.create_task(self._again("watch", STALL_S, self._give_up_still))
        finally:
            with suppress(
                FallowError
            ):  # raised from here it would take the place of being cancelled: no end would come
                await in_thread(book.flush)

    async def tell(self) -> bytes:
        """See the port: its `Stock`."""
        if self._kept is None or self._lending is None:
            return self._leaving.stock()
        amounts = await in_thread(self._kept.store.amounts)
        return msgspec.msgpack.encode(
            Stock(
                limit_bytes=self._lending.size_bytes,
                used_bytes=amounts.used_bytes,
                room_bytes=amounts.room_bytes,
                trash_bytes=amounts.trash_bytes,
                pieces=amounts.pieces,
                trouble=(self._owner.reason or self._disk_trouble(amounts))[:TROUBLE_LETTERS_MAX],
                wish=self._leaving.wish,
            )
        )

    async def answer(self, question: bytes) -> bytes:
        """See the port; proofs are given one at a time, and none while the owner wants his machine for himself."""
        asked = read_question(question)
        if isinstance(asked, Note):
            await in_thread(self._notes.keep, asked)
            return b""
        if isinstance(asked, Tell):
            self._hear(Statement.open(asked.statement, self._ground.network_key))
            return b""
        if isinstance(asked, ExitSays):
            await in_thread(self._leaving.hear, asked)
            return b""
        store = self._opened().store
        if isinstance(asked, Purge):
            return await self._purge(store, asked)
        if not isinstance(asked, Prove):
            return await in_thread(answer, store, asked)
        self._owner.check_moving()
        async with self._proving:
            return await in_thread(answer, store, asked)

    async def lent(self) -> Lent | None:
        """See the port."""
        if self._lending is None:
            return None
        folder, size = self._lending.folder, size_text(self._lending.size_bytes)
        if self._leaving.wish:
            return Lent(self._leaving.state().says, "" if self._leaving.receipt else self._why_not)
        said = await in_thread(self._notes.trouble, self._ground.clock.now_ms())
        amounts, trouble = await self._amounts()
        if amounts is None:
            return Lent(f"{size} in {folder}, which is not used", trouble)
        used, trash = size_text(amounts.used_bytes), size_text(amounts.trash_bytes)
        says = f"{used} of {size} in {folder} are used, by {amounts.pieces:,} pieces; {trash} of it wait in the trash"
        return Lent(says, trouble or said)

    async def overview(self) -> Overview | None:
        """See the port."""
        if self._lending is None:
            return None
        now_ms, kept = self._ground.clock.now_ms(), self._kept
        amounts, trouble = await self._amounts()
        return overview_of(
            Known(
                lending=self._lending,
                amounts=amounts,
                orders_waiting=await in_thread(kept.book.waiting) if kept is not None else 0,
                trouble=trouble,
                statement=self._statement,
                notes=await in_thread(self._notes.all),
                alerts=await in_thread(self._notes.standing, now_ms),
                leaves=self._leaving.state().says if self._leaving.wish else "",
            )
        )

    async def hand_back(self) -> HandBack:
        """See the port: pieces go to others, and the network signs for it."""
        if self._leaving.receipt is None:
            if self._lending is None:
                raise NotFound("agent.not_lent", "No disk is lent here.", "Nothing has to be handed back.")
            self._opened()
            await in_thread(self._leaving.begin, self._ground.sign, self._ground.clock.now_ms())
        return self._leaving.state()

    async def erase(self, *, for_good: bool) -> None:
        """See the port: pieces stay where the same node may come back."""
        if for_good and self._lending is not None:
            await in_thread(self._folder(self._lending).erase)

    def close(self) -> None:
        """Let go of the folder."""
        if self._kept is not None:
            self._kept.book.close()
            self._kept.store.close()
            self._kept = None

    def _folder(self, lending: Lending) -> Folder:
        return Folder(Path(lending.folder), self._ground.kept, net=self._ground.net, node=self._ground.node)

    async def _try_to_open(self, lending: Lending) -> bool:
        """Open what is lent; whether that went well, and else why not."""
        try:
            await in_thread(self._open, lending)
        except FallowError as error:
            self._why_not = f"{error.message} {error.hint}".strip()
            return False
        self._why_not = ""
        return True

    def _open(self, lending: Lending) -> None:
        ground, folder = self._ground, self._folder(lending)
        if folder.path.is_relative_to(ground.cache):
            raise InvalidInput(
                "agent.lends", f"{folder.path} is in a cache that may be deleted.", "Lend another folder."
            )
        folder.claim()
        store = PieceStore(
            folder.path,
            limit_bytes=lending.size_bytes,
            now_ms=ground.clock.now_ms,
            spare_bytes=min(SPARE_BYTES_MAX, lending.size_bytes // SPARE_PART),
            durable=lending.durable,
        )
        try:
            book = Book(ground.kept)
        except Unavailable:
            store.close()
            raise
        self._kept = Ground(
            ground.net, ground.node, ground.network_key, ground.sign, ground.clock, store, book, self._owner, self._time
        )

    async def _purge(self, store: PieceStore, asked: Purge) -> bytes:
        """To overwrite many pieces takes minutes, and is asked for again meanwhile: each time would hold a thread."""
        if self._purging.locked():
            raise Unavailable("storage.purging", "Pieces are being overwritten here.", "Ask again later.")
        async with self._purging:
            return await in_thread(answer, store, asked)

    def _hear(self, statement: Statement) -> None:
        """Take the network's word on this node, the latest one, signed just now."""
        if (statement.net, statement.node) != (self._ground.net, self._ground.node):
            raise InvalidInput("storage.statement", "That statement is of another node.")
        self._time.hear(statement.at_ms)
        if self._statement is None or statement.at_ms >= self._statement.at_ms:
            self._statement = statement

    def _closed(self) -> Sequence[str]:
        """Why nothing new is put here: the owner's reasons, and that the node leaves."""
        return [*self._ground.closed(), *([LEAVING] if self._leaving.wish else [])]

    def _opened(self) -> Ground:
        if self._kept is None:
            raise Unavailable("storage.not_lent", f"This node keeps no pieces. {self._why_not}".rstrip())
        return self._kept

    async def _amounts(self) -> tuple[Amounts | None, str]:
        """What the store takes, where that can be known, and what is wrong with the disk, or why it is not used."""
        if self._kept is None:
            return None, self._why_not
        try:
            amounts = await in_thread(self._kept.store.amounts)
        except FallowError as error:
            return None, f"{error.code}: {error.message}"
        return amounts, self._disk_trouble(amounts)

    def _disk_trouble(self, amounts: Amounts) -> str:
        """Why the disk takes nothing new, or what else is wrong; a code comes first."""
        failed = self._kept.store.failed if self._kept is not None else ""
        if failed:
            return f"storage.disk_failing: {failed}"
        if self._time.trouble:
            return self._time.trouble
        if amounts.room_bytes < ROOM_MIN_BYTES:
            return "storage.full: there is no room for another piece"
        return next(iter(self._troubles.values()), "")

    # What is done beside

    async def _again(self, name: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do it again and again; what a disk refuses is shown until it goes well, and tried again."""
        while True:
            await self._ground.clock.sleep(seconds)
            try:
                await work()
            except FallowError as error:
                if name not in self._troubles:
                    _log.warning("storage: %s: %s", name, error)
                self._troubles[name] = f"{error.code}: {error.message}"
            else:
                self._troubles.pop(name, None)

    def _hand_in_many(self, say: Say, book: Book) -> Callable[[], Awaitable[None]]:
        """Return what hands in, where a record's worth waits, or something has waited for a minute."""
        clock = self._ground.clock
        since_ms = clock.monotonic_ms()

        async def work() -> None:
            nonlocal since_ms
            waiting = await in_thread(book.waiting)
            late = clock.monotonic_ms() - since_ms >= HAND_IN_S * 1000
            while waiting >= PAIRS_MAX or (waiting and late):
                await self._hand_in(say, book)
                waiting = await in_thread(book.waiting)
            if not waiting:
                since_ms = clock.monotonic_ms()

        return work

    async def _hand_in(self, say: Say, book: Book) -> None:
        """A crash between the two says a pair twice; its serial shows that."""
        pairs = await in_thread(book.due)
        await say(StorageServed(served=[[pair.limit, pair.order] for pair in pairs]))
        await in_thread(book.handed_in, pairs, self._ground.clock.now_ms())

    async def _give_up_still(self) -> None:
        for moving in self._streams:
            moving.give_up_if_still()
