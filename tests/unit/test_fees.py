"""Operators set the fee: what takes more from owners holds a day later, and everybody is told before."""

# ruff: noqa: D102 - made-up calls

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import pytest

from fallow.agent.owner import Owner
from fallow.agent.policy_file import IdlePolicy, save_policy
from fallow.agent.traffic import Traffic
from fallow.bootstrap.agent import FEE_S, _follow_fee
from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.fees import FEE_MAX_PPM, Fees, FeeWord
from fallow.domain.words import AHEAD_MAX_MS, NOTICE_MS
from fallow.ports.rpc import call
from fallow.ports.tasks import background
from fallow.ports.words import FOLLOW_S, following
from fallow.services.registry.fees import FeeSetting, begun
from tests.network import until
from tests.unit.agent_fakes import FakeClock, Inline, settle
from tests.unit.fake_network import BUYER_KEY, OPERATOR, OPERATOR_KEY, VIEWER_KEY, fake_network
from tests.unit.http_world import browser, key, refused
from tests.unit.owner_fakes import AGREED, MACHINE, TERMS, FakeProbes
from tests.unit.test_actions import Operated

SETTINGS = FeePolicy(100_000, 200_000, 300_000)
BY = calls.base.Person(account=OPERATOR, key_id="op2")
HOUR_MS = 3_600_000


class Setting(Operated):
    """A registry that is asked for fees."""

    def __init__(self) -> None:
        super().__init__()
        self.fees = Fees(SETTINGS)
        self.setting = FeeSetting(
            fees=self.fees, bus=self.hub.connect(), clock=self.clock, database=self.database, store=self.store
        )
        self.count = 0

    async def say(
        self, fee_ppm: int, reserve_ppm: int = 200_000, *, after_ms: int | None = None, number: int | None = None
    ) -> FeeWord:
        """Return the word as it is kept."""
        self.count += 1
        said = calls.fees.SayFee(
            id=f"{self.count if number is None else number:032x}",
            fee_ppm=fee_ppm,
            reserve_ppm=reserve_ppm,
            from_ms=None if after_ms is None else self.clock.now_ms() + after_ms,
            by=BY,
        )
        self.fees.words = (await call(self.bus, calls.fees.SET_FEE, said, calls.fees.FeeWords)).words
        return self.fees.words[-1]

    async def refusal(self, fee_ppm: int, *, after_ms: int | None = None, number: int | None = None) -> str:
        before = await self.log(), list(self.fees.words)
        with pytest.raises(FallowError) as caught:
            await self.say(fee_ppm, after_ms=after_ms, number=number)
        told = await call(self.bus, calls.fees.FEES, {}, calls.fees.FeeWords)
        assert (await self.log(), told.words) == before
        return caught.value.code


@pytest.fixture
async def world() -> AsyncIterator[Setting]:
    world = Setting()
    async with world.actions.running(), world.setting.running():
        yield world


async def test_the_first_start_says_what_the_network_begins_with_and_a_later_one_changes_nothing(
    world: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    assert await begun(world.database, world.store, SETTINGS) == [(0, 100_000, 200_000)]
    higher = SETTINGS._replace(fee_ppm=400_000)
    words = await begun(world.database, world.store, SETTINGS)
    assert caplog.text == ""
    assert await begun(world.database, world.store, higher) == words
    assert "fallow price fee" in caplog.text
    assert [Fees(higher, words).at(at).fee_ppm for at in (0, world.clock.now_ms())] == [100_000, 100_000]
    world.fees.words = words
    assert await world.refusal(100_001, after_ms=0) == "fee.too_soon"
    now = world.clock.now_ms()
    assert await world.say(80_000) == (now, 80_000, 200_000)
    assert len(await begun(world.database, world.store, higher)) == 2


async def test_what_takes_less_holds_at_once_and_what_takes_more_in_a_day(world: Setting) -> None:
    now = world.clock.now_ms()
    assert await world.say(80_000) == (now, 80_000, 200_000)
    assert world.fees.at(now) == (80_000, 200_000, 300_000)
    assert world.fees.at(now - 1) == SETTINGS
    assert await world.say(80_000, 900_000) == (now, 80_000, 900_000), "more for the reserve takes nothing"
    assert await world.say(80_001) == (now + NOTICE_MS, 80_001, 200_000)
    assert world.fees.at(now + NOTICE_MS - 1).fee_ppm == 80_000
    assert world.fees.following(now) == (now + NOTICE_MS, 80_001, 200_000)
    assert world.fees.following(now + NOTICE_MS) is None


async def test_a_rise_is_refused_before_its_day_and_so_is_what_takes_back_a_promise(world: Setting) -> None:
    now = world.clock.now_ms()
    assert await world.refusal(100_001, after_ms=NOTICE_MS - 1) == "fee.too_soon"
    await world.say(50_000, after_ms=HOUR_MS)
    assert await world.refusal(100_000, after_ms=0) == "fee.too_soon", "owners were told that it falls in an hour"
    assert await world.say(100_000) == (now + NOTICE_MS, 100_000, 200_000)
    await world.say(50_000, after_ms=0)
    assert world.fees.following(now) is None, "the last word is in the place of those before it"


async def test_what_was_said_of_a_rise_can_be_taken_back_at_once(world: Setting) -> None:
    now = world.clock.now_ms()
    await world.say(200_000)
    assert world.fees.following(now) is not None
    await world.say(100_000)
    assert world.fees.following(now) is None
    assert world.fees.at(now + 2 * NOTICE_MS).fee_ppm == 100_000


async def test_each_word_is_in_the_log_once_and_bad_ones_are_in_none(world: Setting) -> None:
    now = world.clock.now_ms()
    first = await world.say(80_000, number=7)
    assert await world.say(80_000, number=7) == first
    assert await world.refusal(70_000, number=7) == "fee.id_taken"
    assert await world.refusal(70_000, after_ms=-1) == "moment.past"
    assert await world.refusal(70_000, after_ms=AHEAD_MAX_MS + 1) == "moment.too_far"
    assert await world.refusal(FEE_MAX_PPM + 1) == "rpc.malformed"
    (line,) = await world.log()
    assert (line.what, line.about) == ("fee.set", f"fee_ppm=80000 reserve_ppm=200000 from_ms={now}")
    assert (line.account, line.key_id, line.at) == (OPERATOR, "op2", now)
    async with world.database.transaction() as tx:
        (row,) = await world.store.fees(tx)
    assert (row.at, row.key_id, row.word) == (now, "op2", first)


async def test_whoever_follows_learns_it_within_seconds_and_keeps_it_while_nobody_answers() -> None:
    clock, fees = FakeClock(), Fees(SETTINGS)
    words: list[FeeWord] = []
    trouble: list[Unavailable] = []

    async def read() -> list[FeeWord]:
        if trouble:
            raise trouble[0]
        return list(words)

    async with following("fees", fees, read, clock):
        await settle()
        assert fees.at(clock.now_ms()) == SETTINGS
        words.append(FeeWord(clock.now_ms(), 80_000, 0))
        await clock.advance(FOLLOW_S)
        assert fees.at(clock.now_ms()).fee_ppm == 80_000
        trouble.append(Unavailable("database.away", "It is away."))
        words.clear()
        await clock.advance(5 * FOLLOW_S)
        assert fees.at(clock.now_ms()).fee_ppm == 80_000
        trouble.clear()
        words.append(FeeWord(clock.now_ms(), 70_000, 0))
        await clock.advance(FOLLOW_S)
        assert fees.at(clock.now_ms()).fee_ppm == 70_000


async def test_an_operator_sets_it_over_http_and_everybody_is_told() -> None:
    async with fake_network() as network, browser(network) as http:
        now = network.clock.now_ms()

        async def told() -> tuple[int, object]:
            view = (await http.get("/v1/network")).json()
            return view["fee_ppm"], view["next_fee"]

        assert await told() == (80_000, None)
        wish = {"id": "1" * 32, "fee_ppm": 120_000, "reserve_ppm": 200_000}
        for secret in (BUYER_KEY, VIEWER_KEY):
            assert (await http.post("/v1/operator/fee", json=wish, headers=key(secret))).status_code == 403
        later = {"from_ms": now + NOTICE_MS, "fee_ppm": 120_000, "reserve_ppm": 200_000}
        answer = await http.post("/v1/operator/fee", json=wish, headers=key(OPERATOR_KEY))
        assert (answer.status_code, answer.json()["next_fee"]) == (201, later)
        assert await told() == (80_000, later)
        assert (await http.get("/v1/operator/prices", headers=key(VIEWER_KEY))).json()["next_fee"] == later
        for wrong in ({"fee_ppm": 500_001}, {"reserve_ppm": 1_000_001}, {"fee_ppm": -1}):
            bad = await http.post("/v1/operator/fee", json=wish | {"id": "2" * 32} | wrong, headers=key(OPERATOR_KEY))
            assert bad.status_code == 400
        soon = wish | {"id": "2" * 32, "from_ms": now}
        refused(await http.post("/v1/operator/fee", json=soon, headers=key(OPERATOR_KEY)), 400, "fee.too_soon")
        network.clock.advance(NOTICE_MS)
        assert await told() == (120_000, None)


async def test_a_running_agent_asks_for_what_its_work_costs_after_the_fee_of_the_moment(tmp_path: Path) -> None:
    async with fake_network() as network, browser(network) as http:
        clock, fees = FakeClock(), Fees(FeePolicy(100_000))
        save_policy(tmp_path, IdlePolicy(wear_usd_per_hour=0.018))
        traffic = Traffic(tmp_path / "traffic.json", clock)
        owner = Owner(
            tmp_path, FakeProbes(), clock, traffic,
            machine=MACHINE, agreed=AGREED, terms=TERMS, fees=fees, zone=UTC, executor=Inline(),
        )  # fmt: skip
        assert owner.shape.floor == 10_000, "0.018 USD an hour on two cores, of which the network keeps 10 %"
        now = network.clock.ms = clock.now_ms()
        wish = {"id": "1" * 32, "fee_ppm": 250_000, "reserve_ppm": 200_000}
        await http.post("/v1/operator/fee", json=wish, headers=key(OPERATOR_KEY))
        async with background(_follow_fee(http, "http://127.0.0.1", fees, clock)):
            await until(lambda: bool(fees.words), "it was told")
            assert owner.shape.floor == 9_783, "8 % now"
            clock.ms = now + NOTICE_MS
            assert owner.shape.floor == 12_000, "25 % from the moment on that was named"
            network.clock.ms = clock.ms
            await clock.advance(FEE_S)
            await until(lambda: not fees.words, "it was told anew")
            assert owner.shape.floor == 12_000
