"""A gateway that orders more than it may is found by the archive, and without stake nothing goes through one."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.domain.epochs.offences import OVERSTATED, of_gateways
from fallow.domain.errors import Unavailable
from fallow.domain.gateway_facts import GatewayOverstated, GatewayVouched
from fallow.domain.identity import address_text
from fallow.domain.records import Body
from fallow.domain.rewards.oracle import TOKEN_UNITS
from fallow.domain.wallets import address_of
from fallow.ports.vertical.control import Hosted
from fallow.verticals.storage.core.calls.segments import MorePlaces
from fallow.verticals.storage.core.hosted import GatewayView, GetGateways
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.plugin import VERTICAL
from tests.epoch_files import NET, NETWORK_KEY
from tests.epoch_world import filed
from tests.gateway_stake import GATEWAY, KEY, OWNER, vouched
from tests.places_world import BUYER, World, machines, places_world

PAYLOAD, LEAST, DAY_MS, MINUTE_MS = 1_000_000, 5 * TOKEN_UNITS, 86_400_000, 60_000


class Stake:
    """What the chain says of everybody's stake."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.away = False

    async def of(self, owner: bytes) -> int:
        """At stake with an operator."""
        if self.away:
            raise Unavailable("chain.away", "The chain does not answer.")
        return self.units if owner == address_of(OWNER) else 0


async def with_stake(world: World, stake: Stake, word: GatewayVouched | None) -> None:
    """Start the network anew with a gateway that needs stake; the world's client is that gateway."""
    world.client = GATEWAY
    world.hosted = Hosted(KEY, stake.of, word, LEAST)
    world.places = world.process()
    await world.places.hosted.look()
    await world.tell()


async def decided(world: World, kind: type[Body]) -> list[Body]:
    async with world.database.transaction() as tx:
        return [one.body for _, one in await PostgresDecisionStore().pending(tx, kind.kind, 0, 100)]


async def later(world: World, ms: int) -> None:
    """So long later all look again."""
    world.clock.advance(ms)
    await world.places.hosted.look()
    await world.tell()


async def staked(world: World) -> dict[str, float]:
    """Tokens that everybody is told of, by whose they are."""
    (family,) = await world.places.hosted.measure()
    assert family.name in VERTICAL.shown
    return {sample.labels["owner"]: sample.value for sample in family.samples}


async def refused(world: World) -> str:
    with pytest.raises(Unavailable) as caught:
        await world.begin(PAYLOAD)
    assert caught.value.code == "storage.gateway_stake"
    return caught.value.message


async def test_nothing_goes_through_a_gateway_without_stake_and_all_that_needs_no_gateway_does(
    postgres_dsn: str,
) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(8))
        now, stake = world.clock.now_ms(), Stake(LEAST - 1)
        await with_stake(world, stake, None)
        assert "nobody stands for it" in await refused(world)
        world.client = SigningKey(b"o" * 32)
        await world.store(PAYLOAD)
        await world.keep()
        assert await world.read(0, 1), "a buyer's own machine signs for itself"

        await with_stake(world, stake, vouched(now, now + DAY_MS))
        assert f"{address_text(address_of(OWNER))} has fewer" in await refused(world)
        with pytest.raises(Unavailable, match=r"storage\.gateway_stake"):
            await world.read(0, 1)
        stake.units = LEAST
        await world.places.hosted.look()
        assert await world.read(0, 1)
        assert await world.places.hosted.get(GetGateways(account="")) == [
            GatewayView(
                key=KEY,
                owner=address_text(address_of(OWNER)),
                until_ms=now + DAY_MS,
                staked_units=str(LEAST),
                least_units=str(LEAST),
            )
        ]
        assert await staked(world) == {address_text(address_of(OWNER)): 5.0}
        plan = await world.begin(PAYLOAD, b"u" * 16)
        stake.away = True
        await later(world, 59 * MINUTE_MS)
        assert await world.read(0, 1), "stake takes days to leave"
        await later(world, MINUTE_MS)
        assert "the chain does not answer" in await refused(world)
        with pytest.raises(Unavailable, match=r"storage\.gateway_stake"):
            await world.places.more(MorePlaces(account=address_text(BUYER), segment=plan.segment, numbers=[0]))
        assert await world.places.hosted.measure() == [], "nothing is made up"
        (view,) = await world.places.hosted.get(GetGateways(account=""))
        assert view.staked_units == ""
        stake.away = False
        await later(world, DAY_MS)
        assert "nobody stands for it" in await refused(world), "his word has run out"
        assert await staked(world) == {"nobody": 0.0}


async def test_a_gateway_that_orders_beyond_a_limit_is_slashed_by_what_the_node_hands_in(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(8))
        now = world.clock.now_ms()
        word = vouched(now, now + DAY_MS)
        await with_stake(world, Stake(LEAST), word)
        await world.places.hosted.announce()
        assert await decided(world, GatewayVouched) == [word]
        await world.store(PAYLOAD)
        await world.keep()
        (segment,) = await world.read(0, PAYLOAD)
        place = segment.places[0]
        allowed = OrderLimit.open(place.limit, NETWORK_KEY).bytes_max
        await world.say(world.machines[place.node], world.served((place.limit, allowed)))
        await world.read_log()
        assert await decided(world, GatewayOverstated) == [], "an honest one is never accused"
        await world.say(world.machines[place.node], world.served((place.limit, allowed + 1)))
        await world.read_log()
        await world.say(world.machines[place.node], *[world.served((place.limit, allowed + more)) for more in (1, 2)])
        await world.read_log()
        (shown,) = await decided(world, GatewayOverstated)
        (day,) = await world.usage()
        assert day.egress_bytes == allowed, "nobody pays for it"
        (offence,) = of_gateways([filed(NETWORK_KEY, shown)], NET, NETWORK_KEY, {VERTICAL.name: VERTICAL.limit_made})
        assert (offence.operator, offence.reason) == (address_of(OWNER), OVERSTATED)
