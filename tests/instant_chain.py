"""The chain port on a real EVM in this process, which mines whatever it takes at once; and troubles on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from coincurve import PrivateKey

from fallow.adapters.evm.machine import PyEvm
from fallow.domain.errors import Unavailable
from fallow.domain.sending import Rules
from fallow.domain.wallets import address_of, sign_digest
from fallow.ports.chain import ContractRefused, Event, Fees, Receipt, Seen
from fallow.ports.evm import Message, Reverted
from fallow.services.sender.deployment import Addresses, Plan, deploy
from fallow.services.sender.service import Sender
from tests.evm_accounts import code_of

CHAIN_ID = 4242
GAS = 8_000_000


class SwiftClock:
    """The clock port: whoever sleeps finds the time passed."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        """See the port."""
        return self.ms

    def monotonic_ms(self) -> int:
        """See the port."""
        return self.ms

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        self.ms += int(seconds * 1000)
        await asyncio.sleep(0)


class KeySigner:
    """The signer port on a key in memory."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.address = address_of(key)

    async def sign(self, digest: bytes) -> bytes:
        """See the port."""
        return sign_digest(self._key, digest)


class Killed(BaseException):
    """The process dies here."""


class KeptLog:
    """The log port in memory. It outlives its process, which dies at entry number `dies_at`, before or after it."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.dies_at: tuple[int, bool] | None = None
        self._count = 0

    def entries(self) -> Iterator[bytes]:
        """See the port."""
        self._count = 0
        yield from list(self.kept)

    def append(self, entry: bytes) -> None:
        """See the port."""
        self._count += 1
        number, after = self.dies_at or (0, False)
        if number == self._count and not after:
            self.dies_at = None
            raise Killed
        self.kept.append(entry)
        if number == self._count:
            self.dies_at = None
            raise Killed


class InstantChain:
    """`silent` answers nothing; `loses_answers` takes transactions and does not say so."""

    def __init__(self, clock: SwiftClock) -> None:
        self.evm = PyEvm(CHAIN_ID)
        self.clock = clock
        self.silent = self.loses_answers = False
        self._receipts: dict[bytes, Receipt] = {}
        self._events: list[Event] = []

    @property
    def now_s(self) -> int:
        """Time of the next block."""
        return max(self.clock.now_ms() // 1000, self.evm.head.timestamp_s + 1)

    async def chain_id(self) -> int:
        """See the port."""
        return CHAIN_ID

    async def head(self) -> int:
        """See the port."""
        self._answer()
        return self.evm.head.number

    async def look(self, account: bytes, hashes: Sequence[bytes], depth: int) -> Seen:
        """See the port."""
        del depth
        self._answer()
        nonce = self.evm.nonce(account)
        return Seen(self.evm.head.number, nonce, nonce, tuple(self._receipts.get(one) for one in hashes))

    async def fees(self) -> Fees:
        """See the port."""
        return Fees(0, 0)

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        self._answer()
        try:
            return self.evm.estimate(Message(sender, to, data, GAS), self.now_s)
        except Reverted as error:
            raise ContractRefused(error.data, error.reason) from error

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """See the port."""
        self._answer()
        try:
            number = self.evm.head.number if block is None else block
            return self.evm.call(Message(bytes(20), to, data, GAS), number, self.now_s)
        except Reverted as error:
            raise ContractRefused(error.data, error.reason) from error

    async def submit(self, raw: bytes) -> None:
        """See the port."""
        self._answer()
        sent = self.evm.decode(raw)
        if sent.hash not in self._receipts and sent.nonce == self.evm.nonce(sent.sender):
            block = self.evm.mine([sent], self.now_s)
            (outcome,) = block.outcomes
            self._receipts[sent.hash] = Receipt(
                sent.hash, block.number, block.hash, succeeded=outcome.succeeded, contract=outcome.contract
            )
            self._events += [
                Event(log.address, log.topics, log.data, block.number, sent.hash, place)
                for place, log in enumerate(outcome.logs)
            ]
        if self.loses_answers:
            raise Unavailable("chain.silent", "")

    async def events(self, contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        """See the port."""
        self._answer()
        return [
            event
            for event in self._events
            if event.contract in contracts and event.topics[0] in topics and first <= event.block <= last
        ]

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("chain.silent", "The chain's node does not answer.")

    @asynccontextmanager
    async def sender(self, key: PrivateKey, log: KeptLog) -> AsyncIterator[Sender]:
        """A process that sends with a key."""
        sender = Sender(
            chain=self, chain_id=CHAIN_ID, signer=KeySigner(key), log=log, clock=self.clock, rules=Rules(depth=1)
        )
        async with sender.running():
            yield sender

    async def with_contracts(self, operator: PrivateKey, validators: Sequence[bytes], activation_s: int) -> Addresses:
        """Make a network's contracts."""
        plan = Plan(address_of(operator), validators, activation_s)
        async with self.sender(operator, KeptLog()) as sender:
            return await deploy(sender, code_of, plan)
