"""The owner comes first: an agent whose machine is wanted back, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.agent.policy_file import IdlePolicy, save_policy
from fallow.agent.service import Agent
from fallow.agent.status import why_idle
from fallow.agent.traffic import CountedBus, Traffic
from fallow.domain import calls
from fallow.domain.errors import InvalidInput, Unavailable
from tests.unit.agent_fakes import FakeClock, World, eventually, settle
from tests.unit.owner_fakes import FakeProbes, new_owner, reading

LEASE = f"{1:032x}"


class Case:
    """A world whose agent has an owner."""

    def __init__(self, folder: Path, policy: IdlePolicy) -> None:
        self.world = World(folder)
        self.probes = FakeProbes()
        save_policy(self.world.home.path, policy)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Agent]:
        """Network and agent, after a few looks."""
        world = self.world
        world.owner = new_owner(world.home.path, self.probes, world.clock)
        async with world.network(), world.start() as agent:
            await world.clock.advance(3)
            yield agent

    @property
    def offers(self) -> list[dict[str, Any]]:
        """All offers so far."""
        return self.world.ingest.bodies("offer.made")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, IdlePolicy(others_cpu_percent=40, away_minutes=5, reopen_after_s=10))


async def test_the_machine_is_back_within_a_look(case: Case) -> None:
    world = case.world
    async with case.serving() as agent:
        await world.propose(world.proposal())
        await eventually(lambda: LEASE in world.worker.running)
        case.probes.reading = reading(idle_s=0.0)
        await world.clock.advance(1)
        await eventually(lambda: not world.worker.running)
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        receipt = world.ingest.bodies("usage.receipt")[0]
        assert (receipt["ok"], receipt["reason"], receipt["caused_by"]) == (False, "owner.present", "owner")
        assert [offer["open"] for offer in case.offers] == [True, False]
        kinds = [record.kind for record in world.ingest.records]
        assert kinds.index("usage.receipt") > len(kinds) - 1 - kinds[::-1].index("offer.made")
        assert (await agent.status()).free.cpu_milli == 2000


async def test_nothing_new_comes_while_the_owner_is_there(case: Case) -> None:
    world = case.world
    case.probes.reading = reading(others_cpu_percent=90.0)
    async with case.serving() as agent:
        assert [offer["open"] for offer in case.offers] == [False]
        await world.propose(world.proposal())
        await eventually(lambda: bool(world.ingest.bodies("lease.declined")))
        assert world.ingest.bodies("lease.declined")[0]["reason"] == "owner.load"
        assert why_idle(await agent.status(), 0)[0] == (
            "Other programs take 90 % of the processor; the limit is 30 %. [owner.load]"
        )


async def test_why_idle_names_all_that_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = IdlePolicy(away_minutes=10, others_cpu_percent=30, watts_busy=100, tariff_usd_per_kwh=0.9)
    case = Case(tmp_path, policy)
    monkeypatch.setattr("fallow.agent.home.Home.free_mib", lambda _: 10)
    async with case.serving() as agent:
        case.probes.reading = reading(others_cpu_percent=90.0, idle_s=5.0, on_battery=True)
        await case.world.clock.advance(2)
        await agent.drain()
        case.world.hub.up = False
        await case.world.clock.advance(30)
        said = why_idle(await agent.status(), 0)
        case.world.hub.up = True
    applies = (
        "[owner.present]", "[owner.load]", "[owner.battery]", "takes nothing new", "cannot be reached",
        "disk is full", "electricity and wear cost more: 0.05 is asked",
    )  # fmt: skip
    for words in applies:
        assert len([sentence for sentence in said if words in sentence]) == 1, (words, said)


async def test_it_opens_again(case: Case) -> None:
    async with case.serving():
        case.probes.reading = reading(on_battery=True)
        await case.world.clock.advance(2)
        case.probes.reading = reading()
        await case.world.clock.advance(8)
        assert [offer["open"] for offer in case.offers] == [True, False]
        await case.world.clock.advance(5)
        assert [offer["open"] for offer in case.offers] == [True, False, True]


async def test_the_owners_commands_hold_beside_the_policy(case: Case) -> None:
    async with case.serving() as agent:
        case.probes.reading = reading(on_battery=True)
        await case.world.clock.advance(2)
        await agent.pause()
        case.probes.reading = reading()
        await case.world.clock.advance(20)
        assert not case.offers[-1]["open"]
        await agent.resume()
        await settle()
        assert case.offers[-1]["open"]


async def test_a_changed_policy_holds_at_once(case: Case) -> None:
    world = case.world
    async with case.serving() as agent:
        for number in (1, 2):
            await world.propose(world.proposal(number))
        await eventually(lambda: len(world.worker.running) == 2)
        save_policy(world.home.path, IdlePolicy(cpu_percent=25, watts_busy=100, tariff_usd_per_kwh=0.9))
        await world.clock.advance(1)
        await eventually(lambda: list(world.worker.running) == [LEASE])
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        assert world.ingest.bodies("usage.receipt")[0]["reason"] == "owner.share"
        assert case.offers[-1]["total"]["cpu_milli"] == 1000
        assert case.offers[-1]["terms"]["price_microusd_per_core_hour"] == 100_000
        assert (await agent.status()).offered.cpu_milli == 1000


async def test_another_price_is_offered_at_once_and_what_runs_goes_on(case: Case) -> None:
    world = case.world
    async with case.serving() as agent:
        await world.propose(world.proposal(1))
        await eventually(lambda: len(world.worker.running) == 1)
        before = case.offers[-1]
        save_policy(world.home.path, IdlePolicy(price_usd_per_core_hour=0.07, spot_usd_per_core_hour=0.02))
        await world.clock.advance(1)
        await eventually(lambda: case.offers[-1]["offer"] > before["offer"])
        made, status = case.offers[-1], await agent.status()
        assert made["terms"]["price_microusd_per_core_hour"] == 70_000
        assert made["spot"]["price_microusd_per_core_hour"] == 20_000
        assert status.asked == status.terms
        assert list(world.worker.running) == [LEASE]
        assert "Asks 0.07 US dollars an hour for a core" in " ".join(status.owner.policy if status.owner else [])


async def test_a_policy_that_cannot_be_read_changes_nothing_and_is_told(case: Case) -> None:
    async with case.serving() as agent:
        (case.world.home.path / "policy.toml").write_text("cpu_percent = 1000")
        await case.world.clock.advance(1)
        status = await agent.status()
        assert status.owner is not None
        assert "cpu_percent" in status.owner.trouble
        assert status.owner.open
        assert status.owner.trouble in why_idle(status, 0)
    with pytest.raises(InvalidInput):
        new_owner(case.world.home.path, case.probes, case.world.clock)


async def test_probes_that_fail_close_what_the_owner_asked_to_be_looked_at(case: Case) -> None:
    async with case.serving() as agent:
        case.probes.error = OSError("the sensor is gone")
        await case.world.clock.advance(15)
        status = await agent.status()
        assert status.owner is not None
        assert [code for code, _ in status.owner.reasons] == ["owner.present", "owner.load"]
        assert "the sensor is gone" in status.owner.reasons[0][1]
        assert msgspec.json.decode(msgspec.json.encode(status))["owner"]["readings"]["idle_s"]["unknown"]
    assert case.probes.closed


async def test_a_full_disk_does_not_keep_the_owner_waiting(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    world = case.world
    async with case.serving():
        await world.propose(world.proposal())
        await eventually(lambda: LEASE in world.worker.running)

        with monkeypatch.context() as patch:
            patch.setattr(world.home, "next_offer", _unavailable)
            case.probes.reading = reading(idle_s=0.0)
            await world.clock.advance(1)
            await eventually(lambda: not world.worker.running)
            await world.clock.advance(3)
            assert [offer["open"] for offer in case.offers] == [True]
        await world.clock.advance(2)
        assert [offer["open"] for offer in case.offers] == [True, False]


async def test_data_is_counted_and_the_budget_closes(tmp_path: Path) -> None:
    case = Case(tmp_path, IdlePolicy(data_gib_month=0.001))
    async with case.serving() as agent:
        owner = case.world.owner
        assert owner is not None
        assert (owner.has_room(1_000_000), owner.has_room(1_100_000)) == (True, False)
        owner.count(1_000_000)
        await case.world.clock.advance(1)
        assert not owner.has_room(50_000)
        owner.count(1_000_000)
        await case.world.clock.advance(1)
        status = await agent.status()
        assert status.owner is not None
        assert status.owner.reasons[0][0] == "owner.data_budget"
        assert status.owner.readings.data_bytes == 2_100_000
    # It is kept over a restart, until the month ends.
    kept = Traffic(case.world.home.path / "traffic.json", case.world.clock)
    assert kept.moved("2023-11") == 2_100_000
    assert kept.moved("2023-12") == 0


async def test_what_goes_over_the_bus_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    traffic = Traffic(tmp_path / "traffic.json", world.clock)
    bus = CountedBus(world.hub.connect(), traffic)
    async with world.network(), bus.subscribe(calls.nodes.beats(world.key.text)) as heard:
        beat = msgspec.msgpack.encode(calls.nodes.Beat(node=world.key.text, boot=1, leases=[]))
        await bus.publish(calls.nodes.beats(world.key.text), beat)
        assert (await anext(heard)).data == beat
    assert traffic.moved("x") == 2 * (len(beat) + 100 + (len(beat) + 100) // 20)


async def test_uploads_keep_to_the_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    traffic = Traffic(tmp_path / "traffic.json", clock)
    traffic.upload_bytes_s = 64 * 1024
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.ms += round(seconds * 1000)

    clock.sleep = sleep  # type: ignore[method-assign]
    pieces = [piece async for piece in traffic.up(bytes(256 * 1024))]
    assert sum(len(piece) for piece in pieces) == 256 * 1024
    assert 3.5 < sum(slept) <= 4


def _unavailable() -> int:
    raise Unavailable("agent.disk_full", "The disk is full.")
