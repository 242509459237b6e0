"""The embedded chain: takes signed transactions, mines a block a second while there are any, and keeps the blocks.

Its log holds, for each block, number, time, raw transactions and hash. Everything else follows from it: a start
executes all of them again and compares each hash, which commits to state and receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from fallow.domain.errors import Conflict, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.evm import Block, Machine, Sent
from fallow.ports.log import Log
from fallow.ports.tasks import background
from fallow.services.devchain.pool import Pool


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A block in the log. New fields come last and have defaults."""

    number: int
    timestamp_s: int
    transactions: list[bytes]
    hash: bytes


class DevChain:
    """One writer. `blocks[n]` is block n; a block is in the log before anybody sees it there.

    `numbers` finds a block by its hash, `found` a transaction: its block's number, and its place in it.
    """

    def __init__(self, *, chain_id: int, machine: Machine, log: Log, clock: Clock, block_gas_max: int) -> None:
        self.chain_id = chain_id
        self.machine = machine
        self.pool = Pool()
        self.blocks: list[Block] = [machine.head]
        self.numbers: dict[bytes, int] = {machine.head.hash: machine.head.number}
        self.found: dict[bytes, tuple[int, int]] = {}
        self._log = log
        self._clock = clock
        self._block_gas_max = block_gas_max
        self._wake = asyncio.Event()

    def replay(self) -> None:
        """Come to the state that the log's blocks lead to.

        Raises:
            Conflict: a block leads to something else than when it was mined.
        """
        for raw in self._log.entries():
            entry = msgspec.msgpack.decode(raw, type=Entry)
            block = self.machine.mine([self.machine.decode(one) for one in entry.transactions], entry.timestamp_s)
            if (block.number, block.hash) != (entry.number, entry.hash):
                raise Conflict(
                    "chain.diverged",
                    f"Block {entry.number} was {entry.hash.hex()} when it was mined, and is {block.hash.hex()} now.",
                    "Run the version of Fallow (and of py-evm) that mined it.",
                )
            self._show(block)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Mine while the context is open. What fails ends the context: the next start replays the log."""
        async with background(self._mine_for_ever()):
            yield

    def send(self, raw: bytes) -> bytes:
        """Take a signed transaction and return its hash; the same one again, mined or not, changes nothing.

        Raises:
            InvalidInput: it can never be mined, or its nonce does not fit.
            Conflict: another one with its nonce waits.
            TooMuch: too many wait.
        """
        sent = self.machine.decode(raw)
        if sent.hash not in self.found:
            self.pool.add(sent, self.machine.nonce)
            self._wake.set()
        return sent.hash

    def nonce(self, account: bytes, *, pending: bool) -> int:
        """Transactions of an account that are mined, and with `pending` those that wait behind them."""
        mined = self.machine.nonce(account)
        return self.pool.pending_nonce(account, mined) if pending else mined

    @property
    def now_s(self) -> int:
        """Seconds since 1970. Time goes on where no block is mined: what depends on it is asked about as of now."""
        return self._clock.now_ms() // 1000

    def check(self) -> None:
        """Make sure that what the machine knows is in the log.

        Raises:
            Unavailable: a block could not be written. This process is about to end; the next one knows nothing of it.
        """
        if self.machine.head.number != self.blocks[-1].number:
            raise Unavailable("chain.ending", "The chain could not write its last block.", "Try again.")

    async def _mine_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while taken := await self._next():
                self._mine(taken)

    async def _next(self) -> list[Sent]:
        """What the next block holds, once its second has come: times of blocks only rise (Yellow Paper, 4.4.4)."""
        if not len(self.pool):
            return []
        while (wait_ms := (self.machine.head.timestamp_s + 1) * 1000 - self._clock.now_ms()) > 0:
            await self._clock.sleep(wait_ms / 1000)
        return self.pool.take(self.machine.nonce, self._block_gas_max)

    def _mine(self, taken: list[Sent]) -> None:
        """In one go: nobody asks the machine between a block's execution and its place in the log."""
        block = self.machine.mine(taken, self._clock.now_ms() // 1000)
        entry = Entry(block.number, block.timestamp_s, [sent.raw for sent in taken], block.hash)
        self._log.append(msgspec.msgpack.encode(entry))
        self._show(block)

    def _show(self, block: Block) -> None:
        self.blocks.append(block)
        self.numbers[block.hash] = block.number
        for place, outcome in enumerate(block.outcomes):
            self.found[outcome.sent.hash] = (block.number, place)
