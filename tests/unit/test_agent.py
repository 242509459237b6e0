"""The agent against a network in memory: what it takes, what it signs, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from fallow.agent import control
from fallow.agent.home import Home
from fallow.agent.identity import NodeKey
from fallow.agent.service import Agent
from fallow.agent.status import why_idle
from fallow.domain import calls
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound
from fallow.domain.facts import LeaseCheckpoint
from fallow.domain.views.nodes import RefusalView, StandingView
from fallow.ports.rpc import Empty, serve
from fallow.services.market.vault import Vault
from tests.unit.agent_fakes import NET, World, eventually, settle
from tests.unit.test_vault import lease_of

LEASE = f"{1:032x}"
LEASE_BYTES = bytes.fromhex(LEASE)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Agent]:
    """Network and agent, and the agent is heard of."""
    world.beats.clear()
    async with world.network(), world.start() as agent:
        for _ in range(20):  # the first beat may wait for records of an earlier start
            await world.clock.advance(0.1)
        assert world.beats
        yield agent


async def test_it_enrols_once_and_offers_at_each_start(world: World) -> None:
    async with serving(world):
        pass
    async with serving(world):
        pass
    kinds = [(record.boot, record.kind) for record in world.ingest.records]
    offer = "offer.made"
    assert kinds == [(1, "node.enrolled"), (1, offer), (1, offer), (2, offer), (2, offer)]
    offers = world.ingest.bodies(offer)
    assert [(body["offer"], body["open"]) for body in offers] == [(1, True), (2, False), (3, True), (4, False)]
    assert offers[0]["attributes"] == {"compute.wasm": "wasi-p1", "score.cpu": "7"}
    assert offers[0]["total"]["cpu_milli"] == 2000


async def test_what_a_vertical_measures_by_itself_is_signed_without_a_lease(world: World) -> None:
    async with serving(world):
        for used_ms in (1, 2):
            measured = LeaseCheckpoint(lease=LEASE_BYTES, window=0, used_ms=used_ms, blob=bytes(32))
            world.worker.measured.put_nowait(measured)
        await eventually(lambda: len(world.ingest.bodies("lease.checkpoint")) == 2)
    assert [body["used_ms"] for body in world.ingest.bodies("lease.checkpoint")] == [1, 2]


async def test_a_checkpoint_is_stored_and_then_signed(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"half done")
    async with serving(world):
        await world.propose(world.proposal(checkpoints=True, resume="ab" * 32), world.proposal(2))
        await eventually(lambda: len(world.worker.running) == 2)
        assignment = world.worker.running[LEASE]
        assert assignment.resume == "ab" * 32
        assert assignment.save is not None
        await assignment.save(archive, 1500)
        await eventually(lambda: bool(world.ingest.bodies("lease.checkpoint")))
        assert world.worker.running[f"{2:032x}"].save is None
    (body,) = world.ingest.bodies("lease.checkpoint")
    blob = hashlib.sha256(b"half done").digest()
    assert body == {"lease": LEASE_BYTES, "window": 0, "used_ms": 1500, "blob": blob}


async def test_secrets_reach_the_worker_and_no_record(world: World) -> None:
    vault = Vault(bytes(32))
    locked = vault.lock("job", {"KEY": "hush"})
    boxes = [vault.seal(locked, lease_of("job", world.key.node, number)) for number in (1, 2)]
    async with serving(world):
        await world.propose(
            world.proposal(secrets=boxes[0], cpu_milli=500),
            world.proposal(2, cpu_milli=500),
            world.proposal(3, secrets=boxes[1], cpu_milli=500),  # sealed for lease 2
            world.proposal(4, secrets=boxes[0][:-1] + bytes([boxes[0][-1] ^ 1]), cpu_milli=500),
        )
        await eventually(lambda: len(world.ingest.bodies("usage.receipt")) == 2)
        assert dict(world.worker.running[LEASE].secrets) == {"KEY": "hush"}
        assert not world.worker.running[f"{2:032x}"].secrets
    assert {body["reason"] for body in world.ingest.bodies("usage.receipt")[:2]} == {"node.worker_failed"}
    assert not any(b"hush" in record.encode() for record in world.ingest.records)


async def test_a_lease_is_accepted_worked_on_and_receipted(world: World) -> None:
    async with serving(world) as agent:
        await world.propose(world.proposal())
        await eventually(lambda: LEASE in world.worker.running)
        await eventually(lambda: world.ingest.bodies("lease.accepted") == [{"lease": LEASE_BYTES}])
        workspace = world.worker.running[LEASE].workspace
        assert list(workspace.iterdir()) == []
        assert (await agent.status()).free.cpu_milli == 1000
        world.worker.finish(LEASE)
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        assert (await agent.status()).free.cpu_milli == 2000
        assert not workspace.exists()
    (receipt,) = world.ingest.bodies("usage.receipt")
    assert receipt == {
        "lease": LEASE_BYTES,
        "window": 0,
        "used_ms": 1234,
        "final": True,
        "ok": True,
        "reason": "",
        "caused_by": "nobody",
        "result": bytes.fromhex("ab" * 32),
        "measures": {"fuel": 7},
    }


async def test_beats_name_the_leases_until_their_receipt_has_arrived(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        await world.clock.advance(2)
        assert world.beats[-1].leases == [LEASE]
        world.ingest.refuse = lambda _: NotFound("x.y", "Not now.")
        world.worker.finish(LEASE)
        await world.clock.advance(2)
        assert world.beats[-1].leases == [LEASE]
        world.ingest.refuse = lambda _: None
        await world.clock.advance(60)
        assert world.beats[-1].leases == []
        assert {beat.boot for beat in world.beats} == {1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu_milli": 2001}, "agent.no_room"),
        ({"memory_mib": 4096}, "agent.no_room"),
        ({"cpu_milli": -1}, "agent.no_room"),
        ({"vertical": "storage"}, "agent.no_vertical"),
    ],
)
async def test_it_declines_with_a_reason(world: World, changes: dict[str, Any], reason: str) -> None:
    async with serving(world):
        await world.propose(world.proposal(**changes))
        await eventually(lambda: bool(world.ingest.bodies("lease.declined")))
    assert world.ingest.bodies("lease.declined") == [{"lease": LEASE_BYTES, "reason": reason}]
    assert world.ingest.bodies("lease.accepted") == []


async def test_one_core_is_not_sold_twice(world: World) -> None:
    async with serving(world):
        await world.propose(*(world.proposal(number) for number in range(1, 5)))
        await eventually(lambda: len(world.ingest.bodies("lease.declined")) == 2)
        assert len(world.ingest.bodies("lease.accepted")) == 2


async def test_one_gpu_is_not_sold_twice(tmp_path: Path) -> None:
    world = World(tmp_path, gpus=("GPU-a", "GPU-b"))
    async with serving(world):
        await world.propose(*(world.proposal(number, cpu_milli=100, gpus=1) for number in (1, 2, 3)))
        await eventually(lambda: len(world.worker.running) == 2)
        given = {lease: assignment.gpus for lease, assignment in world.worker.running.items()}
        assert sorted(given.values()) == [("GPU-a",), ("GPU-b",)]
        await settle()
        assert [body["reason"] for body in world.ingest.bodies("lease.declined")] == ["agent.no_room"]
        world.worker.finish(LEASE)
        await settle()
        await world.propose(world.proposal(4, cpu_milli=100, gpus=1), world.proposal(5, cpu_milli=100))
        await eventually(lambda: len(world.worker.running) == 3)
        assert world.worker.running[f"{4:032x}"].gpus == given[LEASE]
        assert world.worker.running[f"{5:032x}"].gpus == ()
    assert world.ingest.bodies("offer.made")[0]["total"]["gpus"] == 2


@pytest.mark.parametrize("changes", [{"lease": "../../etc"}, {"seed": "zz"}, {"window_ms": 0}, {"lease": "AB" * 16}])
async def test_what_makes_no_sense_gets_no_signature(world: World, changes: dict[str, Any]) -> None:
    async with serving(world):
        await world.propose(world.proposal(**changes))
        await world.hub.connect().publish(f"node.{world.key.text}.propose", b"\xc1 nonsense")
        await world.clock.advance(1)
        assert {record.kind for record in world.ingest.records} == {"node.enrolled", "offer.made"}


async def test_a_proposal_that_comes_twice_starts_nothing_twice(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal(), world.proposal())
        await world.propose(world.proposal())
        world.worker.finish(LEASE)
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        await world.propose(world.proposal())
        await world.clock.advance(1)
        assert len(world.ingest.bodies("lease.accepted")) == 1
        assert len(world.ingest.bodies("usage.receipt")) == 1


async def test_an_accept_that_a_crash_left_in_the_outbox_is_not_given_again(world: World) -> None:
    with pytest.RaisesGroup(RuntimeError):  # the process dies: nobody stops politely
        async with world.start():
            async with world.network():
                await eventually(lambda: bool(world.beats))
            await world.propose(world.proposal())
            await eventually(lambda: LEASE in world.worker.running)
            raise RuntimeError
    async with serving(world):
        await world.propose(world.proposal())
        await world.clock.advance(1)
        assert [record.boot for record in world.ingest.records if record.kind == "lease.accepted"] == [1]
        assert world.beats[-1].boot == 2
        assert world.beats[-1].leases == []
        assert list(world.home.work.iterdir()) == []


async def test_a_buyers_stop_ends_the_lease(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        await world.clock.advance(3)
        await world.stop_leases(LEASE, f"{9:032x}")
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
    (receipt,) = world.ingest.bodies("usage.receipt")
    assert (receipt["final"], receipt["ok"], receipt["used_ms"]) == (True, False, 3000)
    assert (receipt["reason"], receipt["caused_by"]) == ("buyer.cancelled", "buyer")


async def test_windows_roll_over(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal(window_ms=60_000, time_limit_s=3600))
        await world.clock.advance(130)
        world.worker.finish(LEASE, used_ms=130_000)
        await eventually(lambda: len(world.ingest.bodies("usage.receipt")) == 3)
    receipts = [(body["window"], body["used_ms"], body["final"]) for body in world.ingest.bodies("usage.receipt")]
    assert receipts == [(0, 60_000, False), (1, 60_000, False), (2, 10_000, True)]


async def test_a_window_is_cut_where_the_network_says(world: World) -> None:
    async with serving(world):
        cuts = {"cut_in_ms": 25_000, "cuts_apart_ms": 100_000}
        await world.propose(world.proposal(window_ms=60_000, time_limit_s=3600, **cuts))
        await world.clock.advance(130)
        world.worker.finish(LEASE, used_ms=130_000)
        await eventually(lambda: len(world.ingest.bodies("usage.receipt")) == 4)
    receipts = [(body["window"], body["used_ms"], body["final"]) for body in world.ingest.bodies("usage.receipt")]
    assert receipts == [(0, 25_000, False), (1, 60_000, False), (2, 40_000, False), (3, 5_000, True)]


async def test_the_last_window_that_the_time_limit_allows_ends_with_the_lease(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal(window_ms=60_000, time_limit_s=100))
        await world.clock.advance(400)
        world.worker.finish(LEASE, used_ms=100_000)
        await eventually(lambda: len(world.ingest.bodies("usage.receipt")) == 2)
    receipts = [(body["window"], body["used_ms"], body["final"]) for body in world.ingest.bodies("usage.receipt")]
    assert receipts == [(0, 60_000, False), (1, 40_000, True)]


async def test_windows_that_the_clock_missed_are_made_up_for(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal(window_ms=1000))
        world.worker.finish(LEASE, used_ms=2500)
        await eventually(lambda: len(world.ingest.bodies("usage.receipt")) == 3)
    receipts = [(body["window"], body["used_ms"], body["final"]) for body in world.ingest.bodies("usage.receipt")]
    assert receipts == [(0, 1000, False), (1, 1000, False), (2, 500, True)]


async def test_drain_finishes_what_runs_and_takes_nothing_new(world: World) -> None:
    async with serving(world) as agent:
        await world.propose(world.proposal(1))
        await agent.drain()
        await world.propose(world.proposal(2))
        await eventually(lambda: bool(world.ingest.bodies("lease.declined")))
        assert world.ingest.bodies("lease.declined")[0]["reason"] == "owner.draining"
        assert LEASE in world.worker.running
        world.worker.finish(LEASE)
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        assert not world.ingest.bodies("offer.made")[-1]["open"]
        assert world.home.state().mode == "draining"
        await agent.resume()
        await world.propose(world.proposal(3))
        await eventually(lambda: f"{3:032x}" in world.worker.running)
        assert world.ingest.bodies("offer.made")[-1]["open"]
    assert world.ingest.bodies("usage.receipt")[0]["ok"]


async def test_a_process_that_its_machines_owner_stops_has_not_ended_by_itself(world: World) -> None:
    async with serving(world) as agent:
        await world.propose(world.proposal(1, until_stopped=True))
        await eventually(lambda: LEASE in world.worker.running)
        await agent.pause()
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
    receipt = world.ingest.bodies("usage.receipt")[0]
    assert (receipt["ok"], receipt["reason"], receipt["caused_by"]) == (False, "owner.paused", "owner")
    assert receipt["result"], "what it left is kept"


async def test_pause_gives_the_machine_back_at_once_and_lasts_over_restarts(world: World) -> None:
    async with serving(world) as agent:
        await world.propose(world.proposal(1))
        await agent.pause()
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        assert world.worker.running == {}
    receipt = world.ingest.bodies("usage.receipt")[0]
    assert (receipt["reason"], receipt["caused_by"]) == ("owner.paused", "owner")
    async with serving(world) as agent:
        await world.propose(world.proposal(2))
        await eventually(lambda: bool(world.ingest.bodies("lease.declined")))
        assert "paused" in why_idle(await agent.status(), 0)[0]


async def test_leaving_ends_leases_politely_and_hands_everything_in(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        await world.clock.advance(3)
    (receipt,) = world.ingest.bodies("usage.receipt")
    assert (receipt["reason"], receipt["caused_by"], receipt["used_ms"]) == ("owner.left", "owner", 3000)
    assert not world.ingest.bodies("offer.made")[-1]["open"]
    assert world.outbox.waiting == 0


async def test_work_goes_on_and_nothing_is_lost_while_the_link_is_down(world: World) -> None:
    async with serving(world) as agent:
        await world.propose(world.proposal())
        await settle()
        world.hub.up = False
        world.worker.finish(LEASE)
        await world.clock.advance(30)
        assert world.ingest.bodies("usage.receipt") == []
        assert (await agent.status()).link_trouble
        world.hub.up = True
        await world.clock.advance(60)
        assert len(world.ingest.bodies("usage.receipt")) == 1
        assert not (await agent.status()).link_trouble
        assert "no work that fits" in why_idle(await agent.status(), 0)[0]


def standing(**changes: Any) -> StandingView:
    fine = StandingView(
        state="idle", trust="new", confirmed=0, wrong=0, suspended_until=0, left_alone_until=0, refused=[],
        usage_microusd={"granted": 12},
    )  # fmt: skip
    return msgspec.structs.replace(fine, **changes)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (standing(), "no work that fits"),
        (standing(state="banned"), "has banned this machine"),
        (standing(state="unknown"), "has not taken an offer"),
        (standing(state="offline"), "has not heard of this machine"),
        (standing(suspended_until=4_102_444_800_000, why="x.y"), "wrong (x.y); work comes again at 00:00:00 UTC"),
        (standing(left_alone_until=4_102_444_800_000), "asked again at 00:00:00 UTC"),
        (standing(refused=[RefusalView(boot=1, seq=2, code="record.body", at=0)]), "records of this run: record.body"),
        (standing(refused=[RefusalView(boot=0, seq=2, code="record.body", at=0)]), "no work that fits"),
    ],
)
async def test_why_idle_says_what_the_network_says(world: World, says: StandingView, told: str) -> None:
    async def answer(_: Empty) -> StandingView:
        return says

    asked = calls.nodes.standing(world.key.text)
    async with serving(world) as agent, serve(world.hub.connect(), asked, Empty, answer, queue="market"):
        (reason,) = await agent.why_idle()
        assert told in reason
        assert (await agent.full_status()).standing == says


async def test_a_network_that_does_not_say_how_it_sees_the_machine(world: World) -> None:
    async with serving(world) as agent:
        (reason,) = await agent.why_idle()
        assert "is not known: Nobody serves" in reason


async def test_a_sign_of_life_that_did_not_get_out_follows_as_soon_as_there_is_a_link(world: World) -> None:
    async with serving(world):
        world.hub.up = False
        await world.clock.advance(4.5)
        world.beats.clear()
        world.hub.up = True
        await world.clock.advance(0.3)
        assert world.beats


async def test_finished_work_outlives_a_restart_without_a_link(world: World) -> None:
    async with world.start():
        async with world.network():
            await eventually(lambda: bool(world.beats))
        await world.propose(world.proposal())
        await eventually(lambda: LEASE in world.worker.running)
        world.worker.finish(LEASE)
        await settle()
    assert world.ingest.bodies("usage.receipt") == []
    async with serving(world):
        await world.clock.advance(1)
    assert [record.kind for record in world.ingest.records if record.boot == 1][-2:] == ["usage.receipt", "offer.made"]


async def test_a_full_outbox_declines_new_work(tmp_path: Path) -> None:
    world = World(tmp_path, waiting_max=2)
    async with serving(world):
        world.ingest.refuse = lambda _: NotFound("x.y", "Not now.")
        await world.propose(world.proposal(1))
        await eventually(lambda: LEASE in world.worker.running)
        world.worker.finish(LEASE)
        await settle()
        assert world.outbox.full
        await world.propose(world.proposal(2))
        world.ingest.refuse = lambda _: None
        await world.clock.advance(60)
        assert [body["reason"] for body in world.ingest.bodies("lease.declined")] == ["agent.outbox_full"]
        assert len(world.ingest.bodies("usage.receipt")) == 1


async def test_a_broken_plugin_takes_down_nothing_but_its_lease(world: World) -> None:
    async with serving(world):
        world.worker.broken = True
        await world.propose(world.proposal(1))
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
        world.worker.broken = False
        await world.propose(world.proposal(2))
        await eventually(lambda: f"{2:032x}" in world.worker.running)
    receipt = world.ingest.bodies("usage.receipt")[0]
    assert (receipt["reason"], receipt["caused_by"], receipt["used_ms"]) == ("node.worker_failed", "provider", 0)


@pytest.mark.parametrize(
    "nonsense",
    [{"reason": "Nein!"}, {"caused_by": "market"}, {"used_ms": -1}, {"result": "xy"}, {"measures": {"a": -1}}],
)
async def test_a_worker_that_talks_nonsense_does_not_block_the_outbox(world: World, nonsense: dict[str, Any]) -> None:
    async with serving(world):
        await world.propose(world.proposal(1))
        world.worker.finish(LEASE, **nonsense)
        await eventually(lambda: bool(world.ingest.bodies("usage.receipt")))
    assert world.ingest.bodies("usage.receipt")[0]["reason"] == "node.worker_failed"


async def test_the_owner_reaches_the_agent_through_its_socket(world: World) -> None:
    async with serving(world) as agent, control.serving(agent, world.home.socket):
        assert world.home.socket.stat().st_mode & 0o777 == 0o600
        status = await control.ask(world.home.socket, "status")
        assert (status["node"], status["net"], status["mode"]) == (world.key.text, NET, "open")
        assert status["missing"] == {"container": "No podman here."}
        assert await control.ask(world.home.socket, "drain") == {}
        assert (await control.ask(world.home.socket, "status"))["mode"] == "draining"
        assert "finishes what runs" in (await control.ask(world.home.socket, "why-idle"))[0]
        await control.ask(world.home.socket, "leave")
        assert agent.stop.is_set()
    with pytest.raises(NotFound):
        await control.ask(world.home.socket, "status")


async def test_another_users_agent_is_said_to_be_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root is refused nothing: so it is a socket that is not opened here."""
    monkeypatch.setattr(
        asyncio, "open_unix_connection", AsyncMock(side_effect=PermissionError(13, "Permission denied"))
    )
    with pytest.raises(NotAllowed, match=rf"{tmp_path} is another user's"):
        await control.ask(tmp_path / "agent.sock", "status")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = NodeKey.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert NodeKey.load_or_create(path).node == key.node
    path.chmod(0o640)
    with pytest.raises(NotAllowed, match="can be read by others"):
        NodeKey.load_or_create(path)


def test_boot_numbers_only_grow(world: World) -> None:
    boots = [world.home.next_boot(), Home(world.home.path).next_boot()]
    world.home.forget()
    assert [*boots, Home(world.home.path).next_boot()] == [1, 2, 3]


def test_one_agent_a_home(world: World) -> None:
    with world.home.locked(), pytest.raises(Conflict), Home(world.home.path).locked():
        pass


def test_a_damaged_state_is_told(world: World) -> None:
    (world.home.path / "state.json").write_text("{")
    with pytest.raises(InvalidInput, match="damaged"):
        world.home.state()
