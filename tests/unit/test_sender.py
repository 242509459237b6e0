"""Each thing is done once, whatever chain, node and process do: by random troubles, and each trouble alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.errors import Conflict, FallowError, InvalidInput, Unavailable
from fallow.domain.sending import PPM, Done, Rules, Send
from fallow.domain.wallets import address_of, keccak, sign_digest
from fallow.ports.chain import ContractRefused, Event, Fees, Receipt, Seen
from fallow.services.sender.service import Sender
from tests.unit.agent_fakes import FakeClock

CHAIN_ID, TO = 4242, b"\x0c" * 20
RULES = Rules(depth=3, stuck_ms=30_000, fee_max=10_000)
KEY = PrivateKey(b"\x07" * 32)


class KeySigner:
    """The signer port on a key in memory."""

    address = address_of(KEY)

    async def sign(self, digest: bytes) -> bytes:
        """See the port."""
        return sign_digest(KEY, digest)


class Killed(BaseException):
    """The process dies here."""


class KeptLog:
    """The log port in memory. It outlives its process, which may die before or after an entry is kept."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.dies = ""

    def entries(self) -> Iterator[bytes]:
        """See the port."""
        yield from list(self.kept)

    def append(self, entry: bytes) -> None:
        """See the port."""
        if self.dies == "before":
            raise Killed
        self.kept.append(entry)
        if self.dies == "after":
            raise Killed


class HostileChain:
    """The chain port on a chain that can be told to misbehave. A block is a list of transactions by nonce."""

    def __init__(self) -> None:
        self.blocks: list[dict[int, bytes]] = [{}]
        self.pool: dict[int, bytes] = {}
        self.base, self.tip = 100, 2
        self.highest = 0
        self.loses_answers = self.loses_requests = self.refuses = False
        self.submitted: list[bytes] = []

    async def chain_id(self) -> int:
        """See the port. It says that it is Ethereum's main one."""
        return 1

    async def head(self) -> int:
        """See the port."""
        return len(self.blocks) - 1

    async def look(self, account: bytes, hashes: Sequence[bytes], depth: int) -> Seen:
        """See the port."""
        del account
        mined = {keccak(raw): (at, raw) for at, block in enumerate(self.blocks) for raw in block.values()}
        receipts = tuple(
            Receipt(one, mined[one][0], bytes(32), succeeded=True, contract=b"") if one in mined else None
            for one in hashes
        )
        final = self.blocks[: max(1, len(self.blocks) - depth + 1)]
        return Seen(len(self.blocks) - 1, self.used(self.blocks), self.used(final), receipts)

    async def fees(self) -> Fees:
        """See the port."""
        return Fees(self.base, self.tip)

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        if data == b"never":
            raise ContractRefused(b"", "it says no")
        return 21_000 + len(sender + to)

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """See the port."""
        raise NotImplementedError

    async def submit(self, raw: bytes) -> None:
        """See the port."""
        self.submitted.append(raw)
        if self.loses_requests:
            raise Unavailable("chain.silent", "")
        if self.refuses:
            raise InvalidInput("chain.refused", "insufficient funds for gas")
        self._take(raw)
        if self.loses_answers:
            raise Unavailable("chain.silent", "")

    async def events(self, contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        """See the port."""
        raise NotImplementedError

    def _take(self, raw: bytes) -> None:
        nonce, fee = fields_of(raw)
        if nonce < self.used(self.blocks):
            raise Conflict("chain.nonce_taken", "nonce too low")
        old = self.pool.get(nonce)
        if old is not None and old != raw and fee * PPM < fields_of(old)[1] * 1_100_000:
            raise Conflict("chain.nonce_taken", "replacement transaction underpriced")
        self.pool[nonce] = raw

    @staticmethod
    def used(blocks: Sequence[dict[int, bytes]]) -> int:
        """Nonces that are used."""
        return sum(map(len, blocks))

    def mine(self) -> None:
        """Mine what fits and pays enough."""
        block: dict[int, bytes] = {}
        nonce = self.used(self.blocks)
        while nonce in self.pool and fields_of(self.pool[nonce])[1] >= self.base:
            block[nonce] = self.pool.pop(nonce)
            nonce += 1
        self.blocks.append(block)
        self.highest = max(self.highest, len(self.blocks) - 1)

    def reorganise(self, depth: int, *, forget: bool) -> None:
        """Take blocks back, none that lay deep enough; what they held waits again, or is forgotten."""
        final = max(0, self.highest - RULES.depth + 1)
        for _ in range(min(depth, len(self.blocks) - 1 - final)):
            for nonce, raw in self.blocks.pop().items():
                if not forget:
                    self.pool[nonce] = raw

    def forget(self) -> None:
        """Lose what waits, as a node does that starts anew."""
        self.pool.clear()

    def steal(self) -> None:
        """Let another program with the same key use the next nonce."""
        nonce = self.used(self.blocks)
        raw = Account.from_key(KEY.secret).sign_transaction(
            {"type": 2, "chainId": CHAIN_ID, "nonce": nonce, "to": TO, "data": b"stolen", "value": 0, "gas": 30_000,
             "maxFeePerGas": self.base * 1000, "maxPriorityFeePerGas": 1}
        ).raw_transaction  # fmt: skip
        self.pool[nonce] = bytes(raw)

    def done(self) -> list[bytes]:
        """Data of all transactions that are mined, ours alone; what fills a gap has none."""
        datas = [bytes(TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["data"]) for raw in self.mined()]
        return sorted(data for data in datas if data not in {b"stolen", b""})

    def mined(self) -> list[bytes]:
        """All that is mined."""
        return [raw for block in self.blocks for raw in block.values()]


def fields_of(raw: bytes) -> tuple[int, int]:
    """Nonce and fee."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return int(fields["nonce"]), int(fields["maxFeePerGas"])


class _Over(Exception):
    """A life ends in good order."""


async def _end() -> None:
    raise _Over


class World:
    """A sender that lives and dies, its log, its clock, and the chain."""

    def __init__(self) -> None:
        self.chain, self.log, self.clock = HostileChain(), KeptLog(), FakeClock()
        self.asked: set[bytes] = set()
        self.told: dict[bytes, Done] = {}

    async def live(self, steps: Sequence[Step]) -> None:
        """One life of a process: some steps, a second apart; it ends early where it is killed."""
        sender = Sender(
            chain=self.chain,
            chain_id=CHAIN_ID,
            signer=KeySigner(),
            log=self.log,
            clock=self.clock,
            rules=RULES,
            poll_s=1.0,
        )
        try:
            async with sender.running(), asyncio.TaskGroup() as group:
                for name, number in steps:
                    if name == "ask":
                        group.create_task(self._ask(sender, bytes([number])))
                    else:
                        self._trouble(name, number)
                    await self.clock.advance(number if name == "pass" else 1)
                group.create_task(_end())
        except* (_Over, Killed):
            self.log.dies = ""

    async def heal(self) -> None:
        """Let all troubles end, ask for everything again, and wait until all is done."""
        self.chain.loses_answers = self.chain.loses_requests = self.chain.refuses = False
        self.chain.base = 100
        again: list[Step] = [("ask", data[0]) for data in sorted(self.asked)]
        await self.live([*again, *[("pass", 40), ("mine", 0)] * 4, *[("mine", 0)] * 40])

    async def _ask(self, sender: Sender, data: bytes) -> None:
        self.asked.add(data)
        with suppress(FallowError):
            done = await sender.send(data.hex(), TO, data)
            assert self.told.setdefault(data, done) == done

    def _trouble(self, name: str, number: int) -> None:
        chain = self.chain
        if name in {"loses_answers", "loses_requests", "refuses"}:
            setattr(chain, name, bool(number % 2))
        elif name == "fees":
            chain.base = 100 * number + 1
        elif name == "dies":
            self.log.dies = ("before", "after")[number % 2]
        elif name == "reorganise":
            chain.reorganise(number % 3, forget=number % 2 == 0)
        elif name != "pass":
            getattr(chain, name)()


Step = tuple[str, int]
STEPS = st.tuples(
    st.sampled_from(
        ["ask", "ask", "mine", "mine", "mine", "pass", "reorganise", "forget", "steal", "fees", "dies",
         "loses_answers", "loses_requests", "refuses"]
    ),
    st.integers(1, 31),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(STEPS, max_size=12), max_size=4))
async def test_everything_is_done_once_whatever_happens(lives: list[list[Step]]) -> None:
    world = World()
    for steps in lives:
        await world.live(steps)
    await world.heal()
    assert world.chain.done() == sorted(world.asked)
    assert set(world.told) == world.asked
    mined = {keccak(raw) for raw in world.chain.mined()}
    assert {done.transaction for done in world.told.values()} <= mined


async def once(*steps: Step) -> World:
    """A world in which something was asked for, in spite of some troubles, and all is well in the end."""
    world = World()
    await world.live([("ask", 1), *steps])
    await world.heal()
    assert world.chain.done() == [bytes([1])]
    assert set(world.told) == {bytes([1])}
    return world


async def test_a_node_that_times_out_after_it_took_a_transaction() -> None:
    world = World()
    world.chain.loses_answers = True
    await world.live([("ask", 1), ("mine", 0), ("mine", 0), ("mine", 0), ("mine", 0)])
    assert list(world.told) == [bytes([1])]
    assert len(set(world.chain.submitted)) == 1


async def test_a_transaction_that_no_node_heard_of_is_handed_in_again_in_the_same_bytes() -> None:
    world = World()
    lost: list[Step] = [("loses_requests", 1), ("ask", 1), ("pass", 5), ("loses_requests", 2), ("forget", 0)]
    await world.live([*lost, ("pass", 2), *[("mine", 0)] * 4])
    assert world.chain.done() == [bytes([1])]
    assert len(set(world.chain.submitted)) == 1


@pytest.mark.parametrize("when", [0, 1])
async def test_a_crash_at_recording(when: int) -> None:
    """Before it: nothing has left. After it: the next life sends what was recorded."""
    world = World()
    await world.live([("dies", when), ("ask", 1)])
    assert (len(world.log.kept), world.chain.submitted) == (when, [])
    await world.heal()
    assert world.chain.done() == [bytes([1])]


async def test_a_crash_between_sending_and_hearing_that_it_is_mined() -> None:
    world = World()
    await world.live([("ask", 1), ("mine", 0)])
    assert (world.told, world.chain.done()) == ({}, [bytes([1])])
    await world.heal()
    assert world.chain.done() == [bytes([1])]


async def test_a_transaction_that_is_stuck_offers_more_under_its_nonce() -> None:
    world = await once(("fees", 9), ("pass", 31), ("pass", 2))
    assert {fields_of(raw)[0] for raw in world.chain.submitted} == {0}
    assert max(fields_of(raw)[1] for raw in world.chain.submitted) >= 2 * 901


async def test_where_gas_costs_nothing_a_stuck_transaction_is_the_same_again() -> None:
    world = World()
    world.chain.base = world.chain.tip = 0
    await world.live([("ask", 1), ("pass", 31), ("pass", 31), *[("mine", 0)] * 4])
    assert world.chain.done() == [bytes([1])]
    assert len(set(world.chain.submitted)) == 1
    assert {len(msgspec.msgpack.decode(entry, type=Send).attempts) for entry in world.log.kept} == {1}
    assert set(world.told) == {bytes([1])}


async def test_it_never_offers_more_than_is_allowed() -> None:
    world = World()
    await world.live([("fees", 31), ("ask", 1), *[("pass", 31), ("forget", 0)] * 20])
    offers = [fields_of(raw)[1] for raw in world.chain.submitted]
    assert max(offers) == RULES.fee_max


async def test_a_reorganisation_that_forgets_it() -> None:
    await once(("mine", 0), ("mine", 0), ("reorganise", 2))


async def test_a_nonce_that_another_program_used() -> None:
    """It moves only when that is for good: until then the first form could still be mined."""
    world = World()
    await world.live([("ask", 1), ("steal", 0), ("mine", 0), ("mine", 0)])
    assert {fields_of(raw)[0] for raw in world.chain.submitted} == {0}
    await world.heal()
    assert world.chain.done() == [bytes([1])]
    assert {fields_of(raw)[0] for raw in world.chain.submitted} == {0, 1}


@pytest.mark.parametrize("stolen", [1, 2])
async def test_nonces_of_another_program_that_a_reorganisation_takes_back_are_used_up(stolen: int) -> None:
    """What waits behind them keeps its own: its first form could still be mined, once anything fills the gap."""
    world = World()
    await world.live([*[("steal", 0), ("mine", 0)] * stolen, ("ask", 1), ("reorganise", 2)])
    assert world.chain.mined() == []
    await world.live([("pass", 20)])
    assert {fields_of(raw)[0] for raw in world.chain.submitted} == {stolen}, "the other program has its time, too"
    await world.heal()
    assert world.chain.done() == [bytes([1])]
    assert [fields_of(raw)[0] for raw in world.chain.mined()] == [*range(stolen), stolen]


async def test_what_fills_a_gap_is_over_when_another_program_uses_the_nonce_after_all() -> None:
    world = World()
    stolen: list[Step] = [("steal", 0), ("mine", 0)]
    await world.live([*stolen, ("ask", 1), ("reorganise", 2), ("loses_requests", 1), ("pass", 31), *stolen])
    await world.heal()
    assert world.chain.done() == [bytes([1])]
    assert [fields_of(raw)[0] for raw in world.chain.mined()] == [0, 1]
    assert {fields_of(raw)[0] for raw in world.chain.submitted} == {0, 1}


async def test_what_a_contract_refuses_uses_no_nonce() -> None:
    world = World()
    sender = Sender(
        chain=world.chain, chain_id=CHAIN_ID, signer=KeySigner(), log=world.log, clock=world.clock, rules=RULES
    )
    async with sender.running():
        with pytest.raises(ContractRefused):
            await sender.send("no", TO, b"never")
    assert world.log.kept == []


async def test_nothing_is_signed_for_the_chain_that_a_node_says_it_is() -> None:
    world = await once()
    signed = [TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["chainId"] for raw in world.chain.submitted]
    assert set(signed) == {CHAIN_ID}


async def test_an_id_names_one_thing() -> None:
    world = await once()
    sender = Sender(
        chain=world.chain, chain_id=CHAIN_ID, signer=KeySigner(), log=world.log, clock=world.clock, rules=RULES
    )
    async with sender.running():
        with pytest.raises(Conflict, match=r"chain\.other_send"):
            await sender.send(bytes([1]).hex(), TO, b"something else")
        assert await sender.send(bytes([1]).hex(), TO, bytes([1])) == world.told[bytes([1])]


async def test_who_has_no_coin_is_told_and_it_goes_on_when_he_has() -> None:
    world = World()
    world.chain.refuses = True
    sender = Sender(
        chain=world.chain, chain_id=CHAIN_ID, signer=KeySigner(), log=world.log, clock=world.clock, rules=RULES
    )
    async with sender.running():
        with pytest.raises(InvalidInput, match="insufficient funds"):
            await sender.send("1", TO, b"1")
    await world.heal()
    assert world.chain.done() == [b"1"]
