"""Brings the pieces of nodes that leave to others, and says in the end what they had and what became of it.

The node that leaves is the source: each piece is read once, and is what its client claimed, or has failed. All that is
known is in rows, so that any process goes on where another stopped. A piece is counted in the transaction that moves
it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from fallow.domain.decisions import Decision
from fallow.domain.errors import FallowError
from fallow.domain.network_facts import NodeLendingReturned
from fallow.domain.signing import Sign
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.vertical.control import Ask, ControlGround
from fallow.verticals.storage.control import exit_rows, repair_rows
from fallow.verticals.storage.control.exit_rows import Taken
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.lost_pieces import lose
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.questioning import printable
from fallow.verticals.storage.control.recovering import was_restored_lately
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.control.repairing import Repairs
from fallow.verticals.storage.control.verdicts import read_state
from fallow.verticals.storage.control.whole_audits import SHOWN_OF_WHOLE, WholeAudits
from fallow.verticals.storage.core.exiting import (
    LENGTH_MAX_MS,
    ExitReceipt,
    ExitWish,
    Tally,
    held_up,
    ppm,
    reason_against,
)
from fallow.verticals.storage.core.questions import ExitSays, Stock
from fallow.verticals.storage.core.reputation import RETRIES_MAX, Reputation
from fallow.verticals.storage.core.tariff import VERTICAL

PIECES_AT_ONCE: Final = 4
"""In a process: up to 16 MiB each."""
LOOK_S: Final = 2.0
TOLD_AT_ONCE: Final = 32
RETRY_MS: Final = 300_000
"""Until a piece is tried again that nobody took, or whose node or owner had other things to do."""
RETRY_BLAMED_MS: Final = 1_800_000
LOSE_AT_ONCE: Final = 500
REASON_LETTERS_MAX: Final = 300

_AWAY: Final = ("owner.", "stream.", "bus.")
"""Codes of what shows nothing of a piece. Who answers so for ever is to blame all the same when time is up."""
_log = logging.getLogger(__name__)


class Exits:
    """Several processes may do it at the same time."""

    def __init__(self, ground: ControlGround, nodes: Nodes, repairs: Repairs) -> None:
        self._net = ground.net
        self._network_key = ground.network_key
        self._sign: Sign = ground.sign
        self._clock: Clock = ground.clock
        self._database: Database = ground.database
        self._ask: Ask = ground.ask
        self._decisions: DecisionStore = ground.decisions
        self._secrets = Secrets(ground.secret)
        self._nodes = nodes
        self._repairs = repairs
        self._audits = WholeAudits(ground, nodes)
        self._turn = itertools.count()
        self._turns: dict[int, int] = {}
        self._reading: Counter[int] = Counter()
        self._taking = asyncio.Lock()

    async def run(self) -> None:
        """Go on until cancelled."""
        await self._repairs.introduce()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self.look))
            group.create_task(self._again(self.tell))
            for _ in range(PIECES_AT_ONCE):
                group.create_task(self._again(self._move_all))

    async def look(self) -> None:
        """Hear who leaves, look for what counts on those who do, and end what is done."""
        await self._begin()
        leaving = {one.alias: one for one in self._nodes.all() if one.exit}
        for row in await self._open(leaving):
            if row["receipt"] is None:
                await self._look_at(leaving[row["alias"]])
        goes_on = True
        while goes_on:
            async with self._database.transaction() as tx:
                goes_on = await exit_rows.search(tx, self._clock.now_ms())

    async def tell(self) -> None:
        """Tell those that are there how far they are; with their receipt, until they have that.

        Apart from all else, and many at once: who does not listen holds up no others.
        """
        there = {one.alias: one for one in self._nodes.online() if one.exit}
        gate = asyncio.Semaphore(TOLD_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for row in await self._open(there):
                group.create_task(self._tell(there[row["alias"]], row, gate))

    async def move_next(self) -> bool:
        """Move a piece off a node that is there; whether there was one to be tried now."""
        there = {one.alias: one for one in self._nodes.online() if one.exit == "leaving"}
        if not there:
            return False
        async with self._taking:  # whoever takes next sees whose piece this is: at once all would take the same node's
            async with self._database.transaction() as tx:
                taken = await exit_rows.take(tx, self._in_turn(there), self._clock.now_ms())
            if taken is None:
                return False
            self._turns[taken.alias] = next(self._turn)
            self._reading[taken.alias] += 1
        try:
            await self._move(taken, there[taken.alias])
        finally:
            self._reading[taken.alias] -= 1
        return True

    def _in_turn(self, aliases: Iterable[int]) -> list[int]:
        """Those that fewest pieces are read from now first, then those whose turn is longest ago.

        So one that is slow, or has much, holds up no others.
        """
        return sorted(aliases, key=lambda alias: (self._reading[alias], self._turns.get(alias, -1)))

    async def _begin(self) -> None:
        for lender, sealed in self._nodes.wishes():
            try:
                wish = ExitWish.open(sealed, lender.node)
            except FallowError:
                continue
            if (wish.net, wish.node) != (self._net, lender.node):
                continue
            async with self._database.transaction() as tx:
                await exit_rows.begin(tx, lender.alias, sealed, self._clock.now_ms())
            lender.exit = "leaving"
            _log.info("node %s leaves with what it lends", lender.node.hex())
        for lender, stock in self._nodes.left():
            await self._hear_left(lender, stock)

    async def _hear_left(self, lender: Lender, stock: Stock) -> None:
        """Take the network's own word for how a node has left, which a restore has made it forget.

        For as long as it may have: else who has such a word could go on, and show it once audits find him out.
        """
        try:
            receipt = ExitReceipt.open(stock.receipt, self._network_key)
        except FallowError:
            return
        if (receipt.net, receipt.node) != (self._net, lender.node):
            return
        async with self._database.transaction() as tx:
            if lender.standing or not await was_restored_lately(tx, self._clock.now_ms()):
                return
            await exit_rows.begin(tx, lender.alias, stock.wish, receipt.began_ms)
            row = await exit_rows.lock(tx, lender.alias)
            if row is None:
                return  # another process has it
            if row["receipt"] is None:
                await self._close(tx, lender, stock.receipt, receipt)
                await exit_rows.told(tx, lender.alias)
        lender.exit = "left"

    async def _look_at(self, lender: Lender) -> None:
        """End it where a whole search has found nothing more."""
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            row = await exit_rows.lock(tx, lender.alias)
            if row is None or row["receipt"] is not None:
                return  # another process has it
            late = now - row["began_ms"] >= LENGTH_MAX_MS
            if late:
                await self._give_up(tx, row, now)
            if await exit_rows.is_over(tx, row, now, late=late):
                await self._end(tx, lender, row, now)

    async def _give_up(self, tx: Transaction, row: Row, now_ms: int) -> None:
        """Time is up: what is still there counts as lost to the network."""
        alias = row["alias"]
        in_vain = row["unplaced"] + await exit_rows.in_vain(tx, alias)
        blamed = held_up(tally_of(row), row["read_ms"], in_vain)
        some = await exit_rows.some(tx, alias, LOSE_AT_ONCE)
        sizes = await lose(tx, alias, list(some), now_ms)
        failed = [segment for segment in sizes if (blamed if some[segment] is None else some[segment])]
        tally = Tally(
            failed=len(failed),
            failed_bytes=sum(sizes[segment] for segment in failed),
            gone=len(some) - len(sizes),
            unplaced=len(sizes) - len(failed),
        )
        await exit_rows.count(tx, alias, list(some), tally)

    async def _end(self, tx: Transaction, lender: Lender, row: Row, now_ms: int) -> None:
        states = await tx.fetch("SELECT state, audits FROM storage.reputation WHERE alias = $1", lender.alias)
        reputation = read_state(states[0]["state"]) if states else Reputation()
        tally = tally_of(row)
        receipt = ExitReceipt(
            net=self._net,
            node=lender.node,
            account=lender.account,
            began_ms=row["began_ms"],
            ended_ms=now_ms,
            held=tally.held,
            **tally._asdict(),
            audits=states[0]["audits"] if states else 0,
            score_ppm=ppm(reputation.score),
            online_ppm=ppm(reputation.online_score),
            why=reason_against(reputation, tally, row["began_ms"]),
        )
        await self._close(tx, lender, receipt.seal(self._sign), receipt)
        lender.exit = "left"

    async def _close(self, tx: Transaction, lender: Lender, sealed: bytes, receipt: ExitReceipt) -> None:
        """Note that a node has left, and have epochs return what is held of its pay, if they are to."""
        await exit_rows.end(tx, lender.alias, sealed, receipt.why)
        if not receipt.why:
            last = await exit_rows.all_have_left(tx, lender.account)
            body = NodeLendingReturned(
                vertical=VERTICAL, node=lender.node, account=lender.account, receipt=sealed, last=last
            )
            await self._decisions.add(tx, [Decision(self._clock.now_ms(), body)])
        _log.info("node %s has left: %s", lender.node.hex(), receipt)

    async def _open(self, lenders: Mapping[int, Lender]) -> Sequence[Row]:
        if not lenders:
            return []
        async with self._database.transaction() as tx:
            return await exit_rows.open_exits(tx, list(lenders))

    async def _tell(self, lender: Lender, row: Row, gate: asyncio.Semaphore) -> None:
        async with gate:
            async with self._database.transaction() as tx:
                waiting = await exit_rows.waiting(tx, lender.alias)
            says = ExitSays(
                moved=row["moved"],
                moved_bytes=row["moved_bytes"],
                failed=row["failed"],
                gone=row["gone"],
                waiting=waiting,
                counted=not row["searching"] and row["found"] is not None,
                reason=row["reason"],
                receipt=row["receipt"] or b"",
            )
            try:
                await self._ask(lender.node, msgspec.msgpack.encode(says))
            except FallowError:  # it is told again
                return
            if says.receipt:
                async with self._database.transaction() as tx:
                    await exit_rows.told(tx, lender.alias)

    async def _move(self, taken: Taken, lender: Lender) -> None:
        async with self._database.transaction() as tx:
            segment = await repair_rows.look_up(tx, taken.segment)
            if segment is None or taken.alias not in segment.nodes:
                await exit_rows.count(tx, taken.alias, [taken.segment], Tally(gone=1))
                return
            signers = await exit_rows.signers(tx, taken.segment)
        number = list(segment.nodes).index(taken.alias)
        piece = await self._read(segment, number, lender)
        try:
            if isinstance(piece, FallowError):
                raise piece
            if signers:
                await self._audits.check(segment.id, lender, [*signers, self._secrets.repairs(number)], piece)
        except FallowError as error:
            await self._blame(taken, segment, lender, error)
            return

        async def count(tx: Transaction) -> None:
            await exit_rows.count(tx, taken.alias, [taken.segment], Tally(moved=1, moved_bytes=len(piece)))

        try:
            await self._repairs.move_piece(segment, number, piece, count)
        except FallowError as error:
            await self._later(taken, error, RETRY_MS, blamed=False, counts=False)

    async def _read(self, segment: Damaged, number: int, lender: Lender) -> memoryview | FallowError:
        """Read a piece, or return why it is not given; and note how long that took, which is no word of the node's.

        Raises:
            Unavailable: the database is away.
        """
        began_ms = self._clock.now_ms()
        try:
            given: memoryview | FallowError = await self._repairs.read_piece(segment, number, lender)
        except FallowError as error:
            given = error
        async with self._database.transaction() as tx:
            await exit_rows.waited(tx, lender.alias, max(0, self._clock.now_ms() - began_ms))
        return given

    async def _blame(self, taken: Taken, segment: Damaged, lender: Lender, error: FallowError) -> None:
        """The node did not give its piece: it has failed, or is asked again."""
        if error.code.startswith(_AWAY):
            await self._later(taken, error, RETRY_MS, blamed=True, counts=False)
        elif error.code in SHOWN_OF_WHOLE or taken.tries >= RETRIES_MAX:
            await self._fail(taken, segment, lender, error)
        else:
            await self._later(taken, error, RETRY_BLAMED_MS, blamed=True, counts=True)

    async def _fail(self, taken: Taken, segment: Damaged, lender: Lender, error: FallowError) -> None:
        """Book it as audits book what they do not get, and have the segment count on the node no more."""

        async def lose_it(tx: Transaction) -> None:
            sizes = await lose(tx, taken.alias, [taken.segment], self._clock.now_ms())
            tally = Tally(failed=len(sizes), failed_bytes=sum(sizes.values()), gone=1 - len(sizes))
            await exit_rows.count(tx, taken.alias, [taken.segment], tally)

        await self._audits.fail(segment.id, lender, "when it left", error, lose_it)

    async def _later(self, taken: Taken, error: FallowError, after_ms: int, *, blamed: bool, counts: bool) -> None:
        reason = printable(str(error), REASON_LETTERS_MAX)
        due_ms = self._clock.now_ms() + after_ms
        async with self._database.transaction() as tx:
            await exit_rows.later(tx, taken, due_ms, reason, blamed=blamed, counts=counts)

    async def _move_all(self) -> None:
        while await self.move_next():
            pass

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            await self._clock.sleep(LOOK_S)


def tally_of(row: Row) -> Tally:
    """What became of a node's pieces, by its row."""
    return Tally(**{name: row[name] for name in Tally._fields})
