"""Seeds that validators make with the operator, gathered for real: over HTTP, from their books to the archive."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.published import HttpPublished
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.validator import parts_of
from fallow.domain import calls
from fallow.domain.draws import Purpose, Seed, draw
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.quorum import VALIDATORS_MAX
from fallow.domain.epochs.reading import filed_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.seeds import Pledge, drawn_seed
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound
from fallow.domain.network_facts import SeedDrawn
from fallow.ports.checks import PartRow
from fallow.ports.rpc import serve
from fallow.services.market.findings import Findings
from fallow.services.market.seeds import Seeds
from fallow.services.validator.book import Book
from fallow.services.validator.parts import Parts
from tests.closed_epochs import ADDRESSES, VALIDATORS
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.instant_chain import KeySigner
from tests.unit import fake_network
from tests.unit.sdk_world import connected
from tests.validators import FIRST, History, judged, validator
from tools import verify_seeds

EPOCH_MS = 1_000


class World:
    """A network that draws, its gateway on a port, and validators who know no more than that."""

    def __init__(self, fake: fake_network.FakeNetwork, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        self.store, self.database, self.decisions = MemoryCheckStore(), MemoryDatabase(), MemoryDecisionStore()
        self.seeds = Seeds(
            net=NET,
            secret=b"secret",
            sign=lambda message: NETWORK.sign(message).signature,
            epoch_ms=EPOCH_MS,
            store=self.store,
            decisions=self.decisions,
            validators=ADDRESSES[:2],
        )
        findings = Findings(cast("Any", None), self.database, cast("Any", None), self.seeds)
        self.routes: list[tuple[str, Any, Any]] = [
            (calls.checks.SEEDS, dict[str, str], findings.seeds),
            (calls.checks.DRAWS, calls.checks.DrawsRef, findings.draws),
            (calls.checks.SEED_PARTS, calls.checks.SeedRef, findings.seed_parts),
            (calls.checks.PLEDGE_PART, calls.checks.PledgePart, findings.pledge_part),
            (calls.checks.SHOW_PART, calls.checks.ShowPart, findings.show_part),
        ]
        self.url = ""
        self.open = ExitStack()

    async def epoch(self, number: int) -> Seed:
        """Begin an epoch of draws; what the gateway told of the one before is old by then."""
        self.fake.clock.ms += EPOCH_MS
        async with self.database.transaction() as tx:
            return await self.seeds.current(tx, (number - 1) * EPOCH_MS)

    def book(self, who: int) -> Book:
        return Book(self.folder / str(who), NETWORK_KEY)

    def parts(self, who: int) -> Parts:
        """Validator `who`, as a process that was just started."""
        return self.parts_at(self.url, who)

    def parts_at(self, url: str, who: int) -> Parts:
        published = self.open.enter_context(closing(HttpPublished(url)))
        return parts_of(KeySigner(VALIDATORS[who]), NETWORK_KEY, published, self.book(who))

    async def turn(self, *who: int) -> None:
        for one in who:
            await asyncio.to_thread(self.parts(one).take_turn)

    async def added(self, number: int) -> list[tuple[str, bool]]:
        async with self.database.transaction() as tx:
            view = await self.seeds.parts.shown(tx, number)
        return [(one.validator.lower(), one.part is not None) for one in view.parts]

    def drawn(self, number: int) -> SeedDrawn:
        bodies = [one.body for one in self.decisions.waiting.values() if isinstance(one.body, SeedDrawn)]
        return next(body for body in bodies if body.number == number)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fake_network.fake_network() as fake, AsyncExitStack() as stack:
        made = World(fake, tmp_path)
        for subject, kind, answer in made.routes:
            await stack.enter_async_context(serve(fake.bus, subject, kind, answer, queue="q"))
        port = await stack.enter_async_context(serving(fake.app, "127.0.0.1", 0))
        made.url = f"http://127.0.0.1:{port}"
        with made.open:
            yield made


async def two_made_the_third(world: World) -> Seed:
    """Two validators pledge, a third who is not listed tries; one of the two shows its part."""
    await world.epoch(1)
    await world.turn(0, 1, 2)
    await world.epoch(2)
    await world.turn(0)
    return await world.epoch(3)


def name(who: int) -> str:
    return f"0x{ADDRESSES[who].hex()}"


async def test_a_seed_is_made_by_the_operator_and_whoever_pledged_and_showed(world: World) -> None:
    third = await two_made_the_third(world)
    assert await world.added(3) == [(name(0), True), (name(1), False)]
    assert await world.added(4) == [(name(0), False)], "the next one is pledged in the same turn"
    assert third.value != (await alone(world)).value
    drawn = [draw(third, Purpose.CHECK, lease=bytes([n]) * 16, node=b"n" * 32, one_in=3, at=5) for n in range(30)]
    async with world.database.transaction() as tx:
        await world.store.add(tx, drawn)
    await world.epoch(4)
    async with connected(world.fake) as client:
        report = await client.verify_draws(3)
        assert (report.draws, report.faults) == (30, [])
        assert [each.lower() for each in report.parts] == [name(0)]
        assert [each.lower() for each in report.silent] == [name(1)], (
            "who does not show is named, and the seed is fixed"
        )
    joint = drawn_seed(world.drawn(3), NET, NETWORK_KEY)
    assert (joint.value, joint.silent) == (third.value, (ADDRESSES[1],))


async def alone(world: World) -> Seed:
    """What the seed would be were it the operator's alone."""
    bare = Seeds(
        net=NET,
        secret=b"secret",
        sign=lambda message: NETWORK.sign(message).signature,
        epoch_ms=EPOCH_MS,
        store=MemoryCheckStore(),
        decisions=MemoryDecisionStore(),
    )
    async with world.database.transaction() as tx:
        for number in (1, 2):
            await bare.current(tx, (number - 1) * EPOCH_MS)
        return await bare.current(tx, 2 * EPOCH_MS)


async def test_without_validators_the_operators_committed_seed_stays(world: World) -> None:
    for number in (1, 2):
        await world.epoch(number)
    seed = await world.epoch(3)
    assert seed == await alone(world)
    await world.epoch(4)
    assert drawn_seed(world.drawn(3), NET, NETWORK_KEY) == (seed.value, {}, ())


async def test_nothing_is_taken_at_another_time_or_of_anybody_else(world: World) -> None:
    await world.epoch(1)
    mine, other = VALIDATORS[0], VALIDATORS[2]
    made = Pledge.make(mine, ADDRESSES[0], NET, 3, b"p" * 32)
    async with world.database.transaction() as tx:
        parts = world.seeds.parts
        for number in (1, 2, 4):
            with pytest.raises(Conflict, match=r"seed\.not_now"):
                await parts.pledge(tx, Pledge.make(mine, ADDRESSES[0], NET, number, b"p" * 32).encode())
        with pytest.raises(NotAllowed, match=r"seed\.not_listed"):
            await parts.pledge(tx, Pledge.make(other, ADDRESSES[2], NET, 3, b"p" * 32).encode())
        with pytest.raises(InvalidInput, match=r"seed\.pledge"):
            await parts.pledge(tx, Pledge.make(mine, ADDRESSES[0], "other", 3, b"p" * 32).encode())
        assert await parts.pledge(tx, made.encode()) == await parts.pledge(tx, made.encode())
        with pytest.raises(Conflict, match=r"seed\.pledged_twice"):
            await parts.pledge(tx, Pledge.make(mine, ADDRESSES[0], NET, 3, b"q" * 32).encode())
        with pytest.raises(Conflict, match=r"seed\.not_now"):
            await parts.show(tx, 3, ADDRESSES[0], b"p" * 32)
    await world.epoch(2)
    async with world.database.transaction() as tx:
        with pytest.raises(Conflict, match=r"seed\.not_now"):
            await parts.pledge(tx, made.encode())
        with pytest.raises(InvalidInput, match=r"seed\.part"):
            await parts.show(tx, 3, ADDRESSES[0], b"q" * 32)
        with pytest.raises(NotFound, match=r"seed\.not_pledged"):
            await parts.show(tx, 3, ADDRESSES[1], b"p" * 32)
        assert await parts.show(tx, 3, ADDRESSES[0], b"p" * 32) == await parts.show(tx, 3, ADDRESSES[0], b"p" * 32)
    third = await world.epoch(3)
    async with world.database.transaction() as tx:
        with pytest.raises(Conflict, match=r"seed\.not_now"):
            await parts.show(tx, 3, ADDRESSES[0], b"p" * 32)
        assert await world.seeds.current(tx, 2 * EPOCH_MS + 5) == third


async def test_a_validator_that_was_killed_keeps_to_its_part(world: World) -> None:
    await world.epoch(1)
    first = world.parts(0)
    await asyncio.to_thread(first.take_turn)
    kept = world.book(0).part(3)
    await world.turn(0)
    assert world.book(0).part(3) == kept
    await world.epoch(2)
    for _ in range(2):
        await world.turn(0)
    shown = world.book(0).part(3)
    assert shown is not None
    assert (shown.shown, len(shown.pledges)) == (True, 1)
    assert await world.added(3) == [(name(0), True)]


async def test_an_unreachable_market_keeps_no_epoch_from_being_judged(world: World) -> None:
    await world.turn(0)  # nothing is committed to yet
    assert world.book(0).part(2) is None
    await asyncio.to_thread(world.parts_at("http://127.0.0.1:1", 0).take_turn)


# From the archive


class Closed:
    """An epoch whose records say how a seed came about."""

    def __init__(self, drawn: SeedDrawn) -> None:
        network = Node(1)
        network.key, network.id = NETWORK, NETWORK_KEY
        forged = msgspec.structs.replace(drawn, value=bytes(32))
        self.files = EpochFiles(FIRST, [network.batch(drawn), Node(2).batch(forged)])
        epoch = Epoch(NET, FIRST, 1, NETWORK_KEY)
        records = filed_records(self.files.manifest, self.files.read)
        self.seed: bytes = close(b"", epoch, records, Rules(), {}).fields["seed"]


async def test_the_statement_names_the_seed_that_its_records_give(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = await two_made_the_third(world)
    await world.epoch(4)
    closed = Closed(world.drawn(3))
    assert closed.seed == third.value, "what another node says of seeds is nothing"
    folder = tmp_path / "archive" / "epochs" / str(FIRST)
    manifest = closed.files.manifest.encode()
    for file, data in [*closed.files.files.items(), ("manifest", manifest)]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(bytes(data))
    (folder / "statement").write_bytes(closed.files.sealed(seed=closed.seed))
    words = [str(tmp_path / "archive"), str(FIRST), "--key", NETWORK_KEY.hex()]
    assert verify_seeds.main(words) == 0
    said = capsys.readouterr().out
    assert f"{name(0)} has its part in it" in said
    assert f"{name(1)} pledged, and is NOT in it" in said
    (folder / "statement").write_bytes(closed.files.sealed(seed=bytes(32)))
    assert verify_seeds.main(words) == 1
    twisted = Closed(msgspec.structs.replace(world.drawn(3), value=bytes(32)))
    assert twisted.seed == b"", "the operator committed to another one"


Twist = Callable[[SeedDrawn], SeedDrawn]


def left_out(drawn: SeedDrawn) -> SeedDrawn:
    return msgspec.structs.replace(drawn, parts=[b"" for _ in drawn.parts])


def one_more(drawn: SeedDrawn) -> SeedDrawn:
    """Somebody pledged after he knew the others' parts."""
    late = Pledge.make(VALIDATORS[3], ADDRESSES[3], NET, 3, b"l" * 32)
    return msgspec.structs.replace(drawn, pledges=[*drawn.pledges, late.encode()], parts=[*drawn.parts, b"l" * 32])


def another_value(drawn: SeedDrawn) -> SeedDrawn:
    return msgspec.structs.replace(drawn, value=bytes(32))


@pytest.mark.parametrize(
    ("twist", "code"), [(left_out, "seed.left_out"), (one_more, "seed.other_parts"), (another_value, "seed.commitment")]
)
async def test_a_validator_signs_no_epoch_whose_seed_is_not_what_it_saw(world: World, twist: Twist, code: str) -> None:
    await two_made_the_third(world)
    await world.epoch(4)
    honest, twisted = (history_of(drawn) for drawn in (world.drawn(3), twist(world.drawn(3))))
    assert [seen.vote is not None for seen in judged(honest.published(), world.folder / "bystander")] == [True]
    (seen,) = await asyncio.to_thread(judge_with, world, twisted)
    assert seen.refusal is not None
    assert (seen.refusal.code, seen.vote) == (code, None)
    (seen,) = await asyncio.to_thread(judge_with, world, honest)
    assert seen.vote is not None


async def test_no_more_pledge_than_a_record_of_the_seed_has_room_for(world: World) -> None:
    await world.epoch(1)
    made = [Pledge.make(VALIDATORS[who], ADDRESSES[who], NET, 3, b"p" * 32).encode() for who in (0, 1)]
    async with world.database.transaction() as tx:
        for number in range(VALIDATORS_MAX - 1):  # listed until the operator began anew with others
            await world.store.put_part(tx, PartRow(3, number.to_bytes(20), made[0], None))
        parts = world.seeds.parts
        assert len((await parts.pledge(tx, made[0])).parts) == VALIDATORS_MAX
        with pytest.raises(Conflict, match=r"seed\.enough"):
            await parts.pledge(tx, made[1])
        assert len((await parts.pledge(tx, made[0])).parts) == VALIDATORS_MAX
    decision = SeedDrawn(number=3, commitment=b"", value=bytes(32), pledges=made[:1] * VALIDATORS_MAX)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decision), type=SeedDrawn) == decision


def history_of(drawn: SeedDrawn) -> History:
    """A history whose one epoch holds the network's word on a seed."""
    history = History()
    network = Node(1)
    network.key, network.id = NETWORK, NETWORK_KEY
    history.close(alter=lambda said: [*said, network.batch(drawn)])
    return history


def judge_with(world: World, history: History) -> list[Any]:
    """Let the validator that has shown its part judge, with the book that it showed it from."""
    return list(validator(history.published(), world.folder / "judging", parts=world.parts(0)).look())
