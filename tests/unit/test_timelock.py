"""Changes to the contracts through the timelock, on their real bytecode: announced, then carried out or given up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from fallow.bootstrap.governance import READ_EVERY_MS
from fallow.bootstrap.governance import Governed as Shown
from fallow.domain.errors import Conflict, InvalidInput, NotFound
from fallow.domain.identity import address_text
from fallow.domain.transactions import call_data
from fallow.domain.views.network import ContractsView
from fallow.ports.chain import Event
from fallow.ports.rpc import Empty
from fallow.services.sender.deployment import TIMELOCK_S
from fallow.services.sender.governance import NONE, PARAMETERS, Pending, parameters, pending
from fallow.services.sender.holders import Holders
from fallow.services.sender.timelock import SETTERS, Scheduled, Timelock, change_call
from tests.settled_world import SettledWorld, settled_world

MINT_MAX = 9_000 * 10**18
GUARDIAN = b"\x11" * 20
SCHEDULE_BATCH = "scheduleBatch(address[],uint256[],bytes[],bytes32,bytes32,uint256)"


class Governed:
    """An operator at the timelock."""

    def __init__(self, world: SettledWorld) -> None:
        self.world = world
        self.contracts: dict[str, bytes] = {name: getattr(world.made, name) for name in PARAMETERS}
        self.timelock = Timelock(world.chain, self.contracts, 0)

    async def schedule(self, contract: str, name: str, *values: str, id_: str = "one") -> Scheduled:
        """Announce a change."""
        async with self.world.operator() as sender:
            return await self.timelock.schedule(sender, id_, contract, change_call(contract, name, values))

    async def execute(self, change: str) -> None:
        """Carry a change out."""
        async with self.world.operator() as sender:
            await self.timelock.execute(sender, change)

    async def cancel(self, change: str) -> None:
        """Give a change up."""
        async with self.world.operator() as sender:
            await self.timelock.cancel(sender, change)

    async def now(self, contract: str, name: str) -> str:
        """What a contract says."""
        return (await parameters(self.world.chain, self.contracts))[contract][name]

    async def waiting(self) -> list[bytes]:
        """Ids of what waits."""
        return [each.id for each in await pending(self.world.chain, self.contracts["timelock"], 0)]

    def pass_time(self) -> None:
        """Let the timelock's delay go by."""
        self.world.clock.ms += (TIMELOCK_S + 1) * 1000


@pytest.fixture
async def governed() -> Governed:
    return Governed(await settled_world())


async def test_a_change_waits_and_is_carried_out_once_its_time_has_come(governed: Governed) -> None:
    before = governed.world.chain.evm.head.timestamp_s
    change = await governed.schedule("distributor", "epochMintMax", str(MINT_MAX))
    assert await governed.schedule("distributor", "epochMintMax", str(MINT_MAX)) == change
    assert await governed.waiting() == [change.id]
    assert change.ready_at >= before + TIMELOCK_S
    with pytest.raises(Conflict, match="not time"):
        await governed.execute(change.id.hex())
    governed.pass_time()
    await governed.execute("0x" + change.id.hex()[:8].upper())
    assert await governed.now("distributor", "epochMintMax") == str(MINT_MAX)
    with pytest.raises(NotFound):
        await governed.execute(change.id.hex())


async def test_the_same_change_can_be_made_again_later(governed: Governed) -> None:
    first = address_text(governed.world.validators[0])
    for number, guardian in enumerate([address_text(GUARDIAN), first, address_text(GUARDIAN)]):
        change = await governed.schedule("vault", "guardian", guardian, id_=str(number))
        governed.pass_time()
        await governed.execute(change.id.hex())
        assert await governed.now("vault", "guardian") == guardian


async def test_what_was_given_up_never_happens_and_can_be_announced_anew(governed: Governed) -> None:
    change = await governed.schedule("distributor", "guardian", address_text(GUARDIAN))
    await governed.cancel(change.id.hex())
    governed.pass_time()
    with pytest.raises(NotFound):
        await governed.execute(change.id.hex())
    with pytest.raises(Conflict, match=r"timelock\.id"):
        await governed.schedule("distributor", "guardian", address_text(GUARDIAN))
    again = await governed.schedule("distributor", "guardian", address_text(GUARDIAN), id_="two")
    assert await governed.waiting() == [again.id]


async def test_an_id_is_one_change(governed: Governed) -> None:
    await governed.schedule("distributor", "guardian", address_text(GUARDIAN))
    with pytest.raises(Conflict, match=r"timelock\.id"):
        await governed.schedule("vault", "guardian", address_text(GUARDIAN))
    assert len(await governed.waiting()) == 1


async def test_what_the_contract_would_refuse_is_not_announced(governed: Governed) -> None:
    with pytest.raises(Conflict, match="shorter than the time for an appeal"):
        await governed.schedule("vault", "delays", "86400", "172800")
    assert await governed.waiting() == []


async def test_a_beginning_that_several_have_names_none(governed: Governed) -> None:
    for number in range(17):
        await governed.schedule("distributor", "activationDelay", "7200", id_=str(number))
    digits = [change.hex()[0] for change in await governed.waiting()]
    with pytest.raises(Conflict, match=r"timelock\.several"):
        await governed.cancel(next(digit for digit in digits if digits.count(digit) > 1))
    with pytest.raises(NotFound):
        await governed.cancel("")


async def test_several_calls_under_one_id_are_given_up_together_and_not_carried_out_apart(governed: Governed) -> None:
    made = governed.world.made
    calls = [change_call("vault", "guardian", [address_text(GUARDIAN)])] * 2
    batch = [made.vault] * 2, [0] * 2, calls, NONE, NONE, TIMELOCK_S
    async with governed.world.operator() as sender:
        await sender.send("batch", made.timelock, call_data(SCHEDULE_BATCH, *batch))
    (first, second) = await governed.waiting()
    assert first == second
    with pytest.raises(Conflict, match=r"timelock\.batch"):
        await governed.execute(first.hex())
    await governed.cancel(first.hex())
    assert await governed.waiting() == []


async def test_a_change_that_is_carried_out_is_not_announced_again(governed: Governed) -> None:
    change = await governed.schedule("distributor", "epochMintMax", str(MINT_MAX))
    governed.pass_time()
    await governed.execute(change.id.hex())
    with pytest.raises(Conflict, match=r"timelock\.done"):
        await governed.schedule("distributor", "epochMintMax", str(MINT_MAX))


async def test_all_that_can_be_changed_is_shown_by_the_same_name(governed: Governed) -> None:
    values = {"address": address_text(GUARDIAN), "list": address_text(GUARDIAN)}
    for contract, names in SETTERS.items():
        shown = {name for name, _ in PARAMETERS[contract]} | {"delays"}
        assert names.keys() <= shown
        for name, setter in names.items():
            typed = [values.get(name, values["address"])] if "address" in setter else ["172800"]
            if name == "delays":
                typed = ["259200", "172800"]
            await governed.schedule(contract, name, *typed, id_=f"{contract} {name}")
    assert len(await governed.waiting()) == sum(map(len, SETTERS.values()))


@pytest.mark.parametrize(
    ("contract", "name", "values"),
    [
        ("distributor", "deposited", ["1"]),
        ("nobody", "owner", [address_text(GUARDIAN)]),
        ("distributor", "guardian", []),
        ("distributor", "guardian", ["0x12"]),
        ("distributor", "epochMintMax", ["1.5"]),
        ("distributor", "epochMintMax", ["-1"]),
        ("distributor", "epochMintMax", [str(2**96)]),
        ("vault", "delays", ["86400"]),
    ],
)
def test_what_is_no_such_change_is_told(contract: str, name: str, values: list[str]) -> None:
    with pytest.raises(InvalidInput):
        change_call(contract, name, values)


async def test_what_is_final_of_the_timelock_is_asked_of_the_chain_once(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, depth, asked = governed.world.chain, 2, list[tuple[int, int]]()
    events = chain.events

    async def counted(contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        asked.append((first, last))
        return await events(contracts, topics, first, last)

    monkeypatch.setattr(chain, "events", counted)
    waits = Pending(chain, governed.contracts["timelock"], 0, depth)
    first = await governed.schedule("distributor", "epochMintMax", str(MINT_MAX), id_="one")
    second = await governed.schedule("vault", "guardian", address_text(GUARDIAN), id_="two")
    assert [(one.id, one.ready_at) for one in await waits.read()] == [
        (change.id, change.ready_at) for change in (first, second)
    ]
    final = await chain.head() - depth
    assert asked == [(0, final), (final + 1, final + depth)]
    await governed.cancel(first.id.hex())
    asked.clear()
    assert await waits.read() == await pending(chain, governed.contracts["timelock"], 0)
    assert [one.id for one in await waits.read()] == [second.id]
    assert min(begin for begin, _ in asked if begin) == final + 1


async def test_who_holds_a_token_follows_from_its_transfers_read_on_from_where_they_were(governed: Governed) -> None:
    world = governed.world
    holders = Holders(world.chain, world.made.settlement, 0, 1)
    await world.fund(10**9)
    async with world.operator() as sender:
        for number, amount in enumerate((5, 7), start=1):
            give = call_data("give(address,uint256)", bytes([number]) * 20, amount)
            await sender.send(f"give/{number}", world.made.settlement, give)
    await holders.read()
    expected = [(one, await world.held(one)) for one in (world.made.distributor, b"\x02" * 20, b"\x01" * 20)]
    assert holders.largest(20) == expected  # the operator gave all of his on
    assert (holders.largest(1), holders.total) == (expected[:1], 3)
    await world.fund(10**9)
    await holders.read()
    assert holders.largest(1) == [(world.made.distributor, await world.held(world.made.distributor))]


async def test_everybody_sees_what_waits_as_it_was_at_most_five_minutes_ago(governed: Governed) -> None:
    world = governed.world
    contracts = {name: address_text(getattr(world.made, name)) for name in (*PARAMETERS, "settlement")}
    shown = Shown(world.chain, msgspec.convert({"block": 0, **contracts}, ContractsView), 1, world.clock)
    before, read_ms = await shown.view(Empty()), world.clock.ms
    assert before.pending == []
    change = await governed.schedule("distributor", "epochMintMax", str(MINT_MAX))
    world.clock.ms = read_ms + READ_EVERY_MS - 1
    assert await shown.view(Empty()) == before
    world.clock.ms += 1
    after = await shown.view(Empty())
    assert [(one.id, one.contract, one.call) for one in after.pending] == [
        ("0x" + change.id.hex(), "distributor", "setEpochMintMax(uint96)")
    ]
    assert after.at > before.at
