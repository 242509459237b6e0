"""Who says that more was moved than was: a gateway alone, one in league with a node, and what it can cost a buyer."""

from __future__ import annotations

import pytest

from fallow.domain.errors import InsufficientFunds
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.core.tariff import EGRESS, TARIFF
from tests.epoch_files import NETWORK_KEY
from tests.places_world import Machine, World, places_world

PAYLOAD = 64 << 20
HOUR_MICROUSD = 1000
REMEMBERED_MS = 10_001
"""So long later, what an account has left is asked anew."""


def machines(count: int) -> list[Machine]:
    return [Machine(number) for number in range(1, count + 1)]


async def order_all(world: World) -> int:
    """Have limits signed for an object, and hand in orders over all that they allow; not a byte is moved."""
    (segment,) = await world.read(0, PAYLOAD)
    ordered = 0
    for place in segment.places:
        allowed = OrderLimit.open(place.limit, NETWORK_KEY).bytes_max
        await world.say(world.machines[place.node], world.served((place.limit, allowed)))
        ordered += allowed
    await world.read_log()
    await world.places.meter()
    return ordered


async def charged(world: World) -> int:
    (subscription,) = await world.owed()
    return subscription.settled_microusd + subscription.owed_microusd


async def test_a_gateway_in_league_with_nodes_costs_a_buyer_no_more_than_his_hour_and_it_is_on_his_bill(
    postgres_dsn: str,
) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe(limit_microusd=HOUR_MICROUSD)
        await world.enrol(*machines(8))
        await world.store(PAYLOAD)
        await world.keep()
        ordered = 0
        while await charged(world) < HOUR_MICROUSD:
            ordered += await order_all(world)
            world.clock.advance(REMEMBERED_MS)
            await world.tell()
        with pytest.raises(InsufficientFunds) as refused:
            await order_all(world)
        assert refused.value.code == "storage.suspended"
        assert ordered * TARIFF[EGRESS].microusd // TARIFF[EGRESS].per >= HOUR_MICROUSD, "it was stopped by the limit"
        assert await charged(world) == HOUR_MICROUSD
        (day,) = await world.usage()
        assert day.egress_bytes == ordered, "all that it ordered is shown to the buyer, by bucket and day"


async def test_a_gateway_orders_no_more_than_was_asked_for(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(8))
        await world.store(PAYLOAD)
        await world.keep()
        (segment,) = await world.read(0, 1000)
        place = segment.places[0]
        allowed = OrderLimit.open(place.limit, NETWORK_KEY).bytes_max
        assert allowed <= 64 << 10, "of the stripe that holds them"
        await world.say(world.machines[place.node], world.served((place.limit, allowed + 1)))
        await world.say(world.machines[place.node], world.served((place.limit, allowed)))
        await world.say(world.machines[place.node], world.served((place.limit, allowed)))
        await world.read_log()
        (day,) = await world.usage()
        assert day.egress_bytes == allowed
