"""Operators set tariffs: for new subscriptions, and what leaves owners less a day later; everybody is told before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fallow.domain import calls
from fallow.domain.errors import FallowError
from fallow.domain.subscriptions import Price
from fallow.domain.tariffs import Tariffs, TariffWord
from fallow.domain.words import AHEAD_MAX_MS, NOTICE_MS
from fallow.ports.rpc import call
from fallow.services.registry.tariffs import TariffSetting
from fallow.verticals.storage.core.tariff import EGRESS, STORED, TARIFF, TERABYTE, UNITS
from tests.unit.fake_network import BUYER_KEY, OPERATOR, OPERATOR_KEY, VIEWER_KEY, fake_network
from tests.unit.http_world import browser, key, refused
from tests.unit.test_actions import Operated

BY = calls.base.Person(account=OPERATOR, key_id="op2")
HOUR_MS = 3_600_000


def tariff(stored: int, egress: int = 2_500_000) -> dict[str, Price]:
    return {
        STORED: Price(microusd=stored, per=UNITS[STORED].per),
        EGRESS: Price(microusd=egress, per=UNITS[EGRESS].per),
    }


DEAR = tariff(1_750_000)


class Setting(Operated):
    """A registry that is asked for tariffs."""

    def __init__(self) -> None:
        super().__init__()
        self.tariffs = Tariffs({"storage": TARIFF})
        self.setting = TariffSetting(
            tariffs=self.tariffs, bus=self.hub.connect(), clock=self.clock, database=self.database, store=self.store
        )
        self.count = 0

    async def say(
        self,
        said: dict[str, Price],
        vertical: str = "storage",
        *,
        after_ms: int | None = None,
        number: int | None = None,
    ) -> TariffWord:
        """Return the word as it is kept."""
        self.count += 1
        request = calls.tariffs.SayTariff(
            id=f"{self.count if number is None else number:032x}",
            vertical=vertical,
            tariff=said,
            from_ms=None if after_ms is None else self.clock.now_ms() + after_ms,
            by=BY,
        )
        self.tariffs.words = (await call(self.bus, calls.tariffs.SET_TARIFF, request, calls.tariffs.TariffWords)).words
        return self.tariffs.words[-1]

    async def refusal(
        self,
        said: dict[str, Price],
        vertical: str = "storage",
        *,
        after_ms: int | None = None,
        number: int | None = None,
    ) -> str:
        """Return the code of what is refused, which is then written nowhere."""
        before = await self.log(), list(self.tariffs.words)
        with pytest.raises(FallowError) as caught:
            await self.say(said, vertical, after_ms=after_ms, number=number)
        told = await call(self.bus, calls.tariffs.TARIFFS, {}, calls.tariffs.TariffWords)
        assert (await self.log(), told.words) == before
        return caught.value.code


@pytest.fixture
async def world() -> AsyncIterator[Setting]:
    world = Setting()
    async with world.actions.running(), world.setting.running():
        yield world


async def test_what_asks_more_holds_at_once_and_what_asks_less_of_anything_in_a_day(world: Setting) -> None:
    now = world.clock.now_ms()
    assert world.tariffs.at("storage", now) == TARIFF
    assert await world.say(DEAR) == TariffWord(now, "storage", DEAR)
    assert world.tariffs.at("storage", now) == DEAR
    mixed = tariff(2_000_000, 2_499_999)
    assert await world.say(mixed) == TariffWord(now + NOTICE_MS, "storage", mixed), "reads would bring owners less"
    assert world.tariffs.at("storage", now + NOTICE_MS - 1) == DEAR
    assert world.tariffs.following("storage", now) == TariffWord(now + NOTICE_MS, "storage", mixed)
    same = {meter: Price(microusd=one.microusd * 2, per=one.per * 2) for meter, one in DEAR.items()}
    assert (await world.say(same)).from_ms == now, "the same price, said of twice as much"


async def test_a_fall_is_refused_before_its_day_and_so_is_what_takes_back_a_rise_that_was_promised(
    world: Setting,
) -> None:
    now = world.clock.now_ms()
    assert await world.refusal(tariff(1), after_ms=NOTICE_MS - 1) == "tariff.too_soon"
    await world.say(DEAR, after_ms=HOUR_MS)
    assert await world.refusal(dict(TARIFF), after_ms=HOUR_MS) == "tariff.too_soon", "owners were told that it rises"
    assert await world.say(dict(TARIFF)) == TariffWord(now + NOTICE_MS, "storage", TARIFF)
    assert (await world.say(DEAR)).from_ms == now
    assert world.tariffs.following("storage", now) is None, "the last word is in the place of those before it"


async def test_each_word_is_in_the_log_once_and_bad_ones_are_in_none(world: Setting) -> None:
    now = world.clock.now_ms()
    first = await world.say(DEAR, number=70)
    assert await world.say(DEAR, number=70) == first
    assert await world.refusal(tariff(9_000_000), number=70) == "tariff.id_taken"
    assert await world.refusal(DEAR, "links", number=70) == "tariff.no_service"
    assert await world.refusal({STORED: Price(microusd=9)}) == "tariff.meters"
    assert await world.refusal({**DEAR, "more": Price(microusd=9)}) == "tariff.meters"
    assert await world.refusal(DEAR, after_ms=-1) == "moment.past"
    assert await world.refusal(DEAR, after_ms=AHEAD_MAX_MS + 1) == "moment.too_far"
    (line,) = await world.log()
    about = f"storage egress_bytes=2500000/{TERABYTE} stored_byte_hours=1750000/{720 * TERABYTE} from_ms={now}"
    assert (line.what, line.about) == ("tariff.set", about)
    assert (line.account, line.key_id, line.at) == (OPERATOR, "op2", now)
    async with world.database.transaction() as tx:
        (row,) = await world.store.tariffs(tx)
    assert (row.at, row.key_id, row.word) == (now, "op2", first)


def wish(number: int, stored: int, egress: int = 2_500_000, **more: object) -> dict[str, Any]:
    said = {meter: {"microusd": one.microusd, "per": one.per} for meter, one in tariff(stored, egress).items()}
    return {"id": f"{number:032x}", "vertical": "storage", "tariff": said, **more}


async def test_an_operator_sets_it_over_http_and_everybody_is_told() -> None:
    async with fake_network() as network, browser(network) as http:
        now = network.clock.now_ms()
        for secret in (BUYER_KEY, VIEWER_KEY):
            answer = await http.post("/v1/operator/tariff", json=wish(1, 1_750_000), headers=key(secret))
            assert answer.status_code == 403
        answer = await http.post("/v1/operator/tariff", json=wish(1, 1_750_000), headers=key(OPERATOR_KEY))
        assert answer.status_code == 201
        answer = await http.post("/v1/operator/tariff", json=wish(2, 1_700_000), headers=key(OPERATOR_KEY))
        view = answer.json()
        stored = {"vertical": "storage", "meter": STORED, "microusd": 1_750_000, "per": 720 * TERABYTE}
        assert view["meters"][1] == stored | {"unit_per": 720 * TERABYTE, "unit": dict(UNITS[STORED].said)}
        (later,) = view["next_tariffs"]
        assert (later["from_ms"], later["meters"][1]["microusd"]) == (now + NOTICE_MS, 1_700_000)
        viewed = (await http.get("/v1/operator/prices", headers=key(VIEWER_KEY))).json()
        told = (await http.get("/v1/network")).json()
        assert viewed["meters"] == told["meters"] == view["meters"]
        assert viewed["next_tariffs"] == told["next_tariffs"] == view["next_tariffs"]
        soon = wish(3, 1, from_ms=now)
        refused(await http.post("/v1/operator/tariff", json=soon, headers=key(OPERATOR_KEY)), 400, "tariff.too_soon")
        other = wish(4, 1) | {"vertical": "compute"}
        refused(await http.post("/v1/operator/tariff", json=other, headers=key(OPERATOR_KEY)), 404, "tariff.no_service")


async def test_what_the_same_costs_elsewhere_is_shown_beside_the_tariff_in_force() -> None:
    async with fake_network() as network, browser(network) as http:
        before = await storage(http)
        assert before["next_tariff"] is None
        answer = await http.post("/v1/operator/tariff", json=wish(1, 3_333_334, 4_444_446), headers=key(OPERATOR_KEY))
        assert answer.status_code == 201
        network.clock.advance(60_000)
        after = await storage(http)
        assert [one["microusd"] for one in after["tariff"]] == [4_444_446, 3_333_334]
        old, new = (one["rivals"][0]["here_microusd"] for one in (before, after))
        assert abs(new - 2 * old) < 10
        await http.post("/v1/operator/tariff", json=wish(2, 1), headers=key(OPERATOR_KEY))
        network.clock.advance(60_000)
        assert (await storage(http))["next_tariff"]["meters"][1]["microusd"] == 1


async def storage(http: httpx2.AsyncClient) -> dict[str, Any]:
    return next(one for one in (await http.get("/v1/networks")).json() if one["name"] == "storage")


async def test_a_subscription_opens_at_the_tariff_of_that_moment_though_the_gateway_has_not_read_it_yet() -> None:
    async with fake_network() as network, browser(network) as http:
        order = {"id": "5" * 32, "vertical": "storage", "limit_microusd": 10}

        async def asked() -> dict[str, Price]:
            answer = await http.post("/v1/subscriptions", json=order, headers=key(BUYER_KEY))
            assert answer.status_code == 201
            return network.subscribed[-1].tariff

        assert await asked() == TARIFF
        await network.tariffs.say(
            calls.tariffs.SayTariff(id="1" * 32, vertical="storage", tariff=DEAR, by=BY)
        )  # by another gateway
        assert network.app.state.gateway.tariffs.words == []
        assert await asked() == DEAR
        refused(
            await http.post("/v1/subscriptions", json=order | {"vertical": "compute"}, headers=key(BUYER_KEY)),
            404,
            "subscription.no_service",
        )
