"""Who has room made on spot and does not use it is soon made none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.leases import PREEMPTED, Lease, LeaseState
from fallow.domain.resources import Resources
from fallow.services.market.evictions import EVICTIONS_MAX, FORGET_MS, USE_MS, Evictions
from tests.market_world import World
from tests.unit.test_spot import FULL, SPOT, accept, give_way, of, order, submit

ROOM = Resources(cpu_milli=2000, memory_mib=8000, disk_mib=8000)
EVICTORS, VICTIMS = b"e" * 20, b"v" * 20


@pytest.fixture
def world() -> World:
    """A node with two cores, on which one spot lease after the other runs."""
    world = World(nodes=2)
    for buyer in world.buyers:
        world.grant(buyer, 10_000_000)
    world.offer(world.nodes[0], ROOM, FULL, spot=SPOT)
    world.settle()
    submit(world, order(1, spot=True, cpu=2000, time_limit_s=36_000))
    return world


def evict(world: World, number: int, *, use_ms: int = 0) -> bool:
    """Order on demand where spot work runs, and cancel at once or after a while; returns whether it had to give way."""
    (running,) = of(world, order(1, spot=True))
    accept(world, running)
    submit(world, order(number, cpu=2000), buyer=1)
    lease = running
    told = world.brain.leases[running.id].stop_reason == PREEMPTED
    if told:
        give_way(world, world.nodes[0], running)
        (lease,) = of(world, order(number))
        accept(world, lease)
        world.wait(use_ms)
        world.settle()
    world.cancel(order(number).id, world.buyers[1])
    world.settle()
    if told:
        fields = {"ok": False, "result": None, "reason": "buyer.cancelled", "caused_by": "nobody"}
        world.final(world.nodes[0], lease.id, 0, use_ms, **fields)
        world.settle()
    return told


def test_who_cancels_at_once_has_only_so_many_spot_leases_ended(world: World) -> None:
    told = [evict(world, number) for number in range(2, EVICTIONS_MAX + 6)]
    assert sum(told) == EVICTIONS_MAX
    world.wait(FORGET_MS)
    world.settle()
    assert evict(world, 100)  # after an hour it may again


def test_who_uses_the_room_that_was_made_may_have_more_made(world: World) -> None:
    """Each uses nine seconds of it: seven of them make up for one."""
    told = [evict(world, number, use_ms=9_000) for number in range(2, EVICTIONS_MAX + 6)]
    assert sum(told) == len(told) > EVICTIONS_MAX


def lease(number: int, *, used_ms: int = 0, started_at: int | None = None) -> Lease:
    return Lease(
        id=number.to_bytes(16, "big"),
        job="",
        item=0,
        payer=EVICTORS,
        payee=VICTIMS,
        node=bytes(32),
        boot=1,
        resources=ROOM,
        price_microusd_per_hour=1,
        price_version=1,
        window_ms=1,
        time_limit_ms=1,
        proposed_at=0,
        answer_by=1,
        state=LeaseState.RUNNING,
        started_at=started_at,
        used_ms=used_ms,
    )


@given(st.lists(st.tuples(st.sampled_from(["end", "use", "run"]), st.integers(0, 5 * USE_MS))))
def test_it_never_ends_more_than_were_made_up_for(steps: list[tuple[str, int]]) -> None:
    """Within an hour: at most the bound, and one more for each minute of use on demand since."""
    evictions, ended, used_ms = Evictions(), 0, 0
    for number, (what, ms) in enumerate(steps):
        if what == "end":
            if evictions.may(EVICTORS, 0):
                evictions.note(EVICTORS, 1, 0)
                ended += 1
        elif what == "use":
            evictions.over(EVICTORS, lease(number, used_ms=ms))
            used_ms += ms
        else:
            one = lease(number, started_at=0, used_ms=ms)
            for _ in range(2):
                evictions.runs(EVICTORS, one, ms)
            evictions.over(EVICTORS, one)
            used_ms += ms
        assert evictions.may(VICTIMS, 0)
    assert ended <= EVICTIONS_MAX + used_ms // USE_MS


def test_a_first_minute_counts_before_the_lease_is_over() -> None:
    evictions = Evictions()
    evictions.note(EVICTORS, EVICTIONS_MAX, 0)
    assert not evictions.may(EVICTORS, 0)
    evictions.runs(EVICTORS, lease(1, started_at=0), USE_MS - 1)
    assert not evictions.may(EVICTORS, 0)
    evictions.runs(EVICTORS, lease(1, started_at=0), USE_MS)
    assert evictions.may(EVICTORS, USE_MS)
