"""Recomputing draws from outside: the client and the command on the control API, over the market's real seeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.cli import main, profiles
from fallow.domain import calls
from fallow.domain.draws import Draw, Purpose, Seed, draw
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.domain.orders import Order
from fallow.domain.views.checks import DrawView, RerunView, SeedPartsView, SeedView
from fallow.domain.views.jobs import JobView
from fallow.ports.rpc import serve
from fallow.sdk import checks
from fallow.sdk.checks import DrawsReport
from fallow.sdk.client import AsyncClient
from fallow.services.market.seeds import Seeds
from tests.unit import fake_network
from tests.unit.fake_network import NET
from tests.unit.sdk_world import connected

EPOCH_MS = 1_000


class Network:
    """A network whose market has drawn in an epoch that is over."""

    def __init__(self, seeds: Seeds, store: MemoryCheckStore) -> None:
        self._seeds = seeds
        self._database = MemoryDatabase()
        self._store = store
        self.first = Seed(0, b"")

    async def draw(self, count: int, *, twisted: int = 0) -> None:
        """Draw `count` times; the first `twisted` are written down as the operator would like them."""
        async with self._database.transaction() as tx:
            self.first = await self._seeds.current(tx, 10)
            await self._store.add(tx, [self._one(n, twisted=n < twisted) for n in range(count)])
            await self._seeds.current(tx, EPOCH_MS)

    async def seeds(self, _: object) -> list[SeedView]:
        """Serve `market.seeds`."""
        async with self._database.transaction() as tx:
            return await self._seeds.shown(tx)

    async def parts(self, ask: calls.checks.SeedRef) -> SeedPartsView:
        """Serve `market.seed_parts`."""
        async with self._database.transaction() as tx:
            return await self._seeds.parts.shown(tx, ask.number)

    async def draws(self, ask: calls.checks.DrawsRef) -> list[DrawView]:
        """Serve `market.draws`."""
        async with self._database.transaction() as tx:
            return await self._seeds.draws(
                tx, ask.number, (bytes.fromhex(ask.after_lease), ask.after_purpose), ask.limit
            )

    def _one(self, number: int, *, twisted: bool) -> Draw:
        lease = number.to_bytes(16, "big")
        made = draw(self.first, Purpose.CHECK, lease=lease, node=b"n" * 32, one_in=3, at=20)
        return made._replace(hit=made.hit ^ twisted)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Network, AsyncClient]]:
    async with fake_network.fake_network() as fake, AsyncExitStack() as stack:
        store = MemoryCheckStore()
        seeds = Seeds(
            net=NET,
            secret=b"secret",
            sign=lambda message: fake.signer.sign(message).signature,
            epoch_ms=EPOCH_MS,
            store=store,
            decisions=MemoryDecisionStore(),
        )
        network = Network(seeds, store)
        await stack.enter_async_context(serve(fake.bus, calls.checks.SEEDS, dict[str, str], network.seeds, queue="q"))
        await stack.enter_async_context(
            serve(fake.bus, calls.checks.SEED_PARTS, calls.checks.SeedRef, network.parts, queue="q")
        )
        await stack.enter_async_context(
            serve(fake.bus, calls.checks.DRAWS, calls.checks.DrawsRef, network.draws, queue="q")
        )
        yield network, await stack.enter_async_context(connected(fake))


async def test_an_honest_network_holds(served: tuple[Network, AsyncClient], monkeypatch: pytest.MonkeyPatch) -> None:
    network, client = served
    monkeypatch.setattr(checks, "PAGE", 7)
    await network.draw(25)
    report = await client.verify_draws(1, kept=(await client.seeds())[-1].commitment)
    assert (report.draws, report.faults) == (25, [])
    assert 0 < report.hits < 25


async def test_twisted_draws_are_found(served: tuple[Network, AsyncClient]) -> None:
    network, client = served
    await network.draw(9, twisted=2)
    assert len((await client.verify_draws(1)).faults) == 2


async def test_a_commitment_to_something_else_is_found(served: tuple[Network, AsyncClient]) -> None:
    network, client = served
    await network.draw(9)
    following, *_ = await client.seeds()
    assert len((await client.verify_draws(1, kept=following.commitment)).faults) >= 2
    with pytest.raises((InvalidInput, NotAllowed)):
        await client.verify_draws(1, kept=following.commitment[:-2] + "00")
    with pytest.raises(InvalidInput):
        await client.verify_draws(1, kept="no hex")


async def test_an_open_epoch_tells_nothing(served: tuple[Network, AsyncClient]) -> None:
    network, client = served
    await network.draw(9)
    for number in (2, 3, 4):
        with pytest.raises(NotFound):
            await client.verify_draws(number)
    with pytest.raises(NotFound):
        _ = [drawn async for drawn in client.draws(2)]


async def test_only_an_operator_who_may_buy_plants() -> None:
    async with fake_network.fake_network() as fake:
        taken: list[calls.jobs.Submit] = []

        async def plant(ask: calls.jobs.Submit) -> JobView:
            taken.append(ask)
            return fake_network.job_view(ask.order.id)

        order = Order(id="ab" * 16, vertical="compute", work={"program": await uploaded(fake)}, replicas=2)
        async with serve(fake.bus, calls.jobs.PLANT, calls.jobs.Submit, plant, queue="q"):
            for key in (fake_network.BUYER_KEY, fake_network.OPERATOR_KEY):
                async with connected(fake, key) as client:
                    with pytest.raises(NotAllowed):
                        await client.plant(order)
            fake.keys["fk_both"] = calls.keys.KeyInfo(
                key_id="both", account=fake_network.BUYER, scopes=["buy", "operate"]
            )
            async with connected(fake, "fk_both") as client:
                await client.plant(order)
        assert [(ask.account, ask.order) for ask in taken] == [(fake_network.BUYER, order)]


async def uploaded(fake: fake_network.FakeNetwork) -> str:
    async with connected(fake) as client:
        return await client.upload(b"program")


class Canned:
    """A client that gives one report."""

    def __init__(self, faults: list[str]) -> None:
        self.report = DrawsReport(number=4, draws=9, hits=3, faults=faults)
        self.limit = 200

    def verify_draws(self, number: int, *, kept: str) -> DrawsReport:
        """See `CheckCalls`."""
        assert (number, kept) == (4, "ab")
        return self.report

    def seeds(self) -> list[SeedView]:
        """See `CheckCalls`."""
        return [
            SeedView(number=5, commitment="", opened_at=None, closed_at=None, seed=None),
            SeedView(number=4, commitment="", opened_at=0, closed_at=1, seed="00"),
        ]

    def reruns(self, *, limit: int) -> list[RerunView]:
        """See `AccountCalls`."""
        assert limit == self.limit
        nodes = ["ab" * 32, "cd" * 32]
        fields: dict[str, Any] = {"at": 1, "account": "0x" + "0f" * 20, "program": "e" * 64, "nodes": nodes}
        return [
            RerunView(lease="1" * 32, same=True, suspects=[], **fields),
            RerunView(lease="2" * 32, same=False, suspects=nodes[1:], **fields),
        ]


@pytest.mark.parametrize(("faults", "code"), [([], 0), (["a draw \x1b[31m"], 1)])
def test_the_command_ends_by_what_it_found(
    faults: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[Canned]:
        yield Canned(faults)

    monkeypatch.setattr(profiles, "connect", connect)
    assert main.run(["checks", "verify", "4", "--kept", "ab"]) == code
    assert main.run(["checks", "verify", "4", "--kept", "ab", "--json"]) == code
    assert main.run(["checks", "ls"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "committed" in printed


def test_hints_are_listed_with_at_whom_they_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canned = Canned([])

    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[Canned]:
        yield canned

    monkeypatch.setattr(profiles, "connect", connect)
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run(["checks", "hints"]) == 0
    printed = capsys.readouterr()
    _, same, other = printed.out.splitlines()
    assert printed.err == ""
    assert "the same" in same
    assert same.count("cdcdcdcdcdcd") == 1
    assert "something else" in other
    assert other.count("cdcdcdcdcdcd") == 2
    assert main.run(["checks", "hints", "--json"]) == 0
    assert '"suspects"' in capsys.readouterr().out
    canned.limit = 2
    assert main.run(["checks", "hints", "--limit", "2"]) == 0
    assert "These are the latest 2. There may be more" in capsys.readouterr().err
