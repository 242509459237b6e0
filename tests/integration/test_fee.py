"""An operator sets the fee and tariffs while the network runs: by command, for all processes, and over a restart."""

from __future__ import annotations

from fallow.domain.billing import FeePolicy, cumulative_charge
from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.domain.chart import Kind
from fallow.domain.subscriptions import Price
from fallow.domain.words import NOTICE_MS
from fallow.verticals.storage.core.tariff import STORED, TARIFF, TERABYTE
from tests.network import Agent, Net, fallow, network, until_async
from tests.programs import SECOND

LOWER = FeePolicy(50_000, 500_000)


async def test_a_job_after_a_lower_fee_is_charged_by_it_and_a_higher_one_is_told_a_day_before() -> None:
    async with network() as net, net.agent("one") as agent:
        before = await net.operator.prices()
        assert (before.fee_ppm, before.reserve_ppm, before.next_fee) == (100_000, 200_000, None)
        await run_at(net, agent, FeePolicy())

        profile = {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.running.welcome["operator_key"]}
        if net.running.ca:
            profile["FALLOW_CA"] = str(net.running.ca)
        buyer = profile | {"FALLOW_API_KEY": net.running.welcome["buyer_key"]}
        said = await fallow("price", "fee", "--fee", "5", "--reserve", "50", **profile)
        assert said.code == 0, said.err
        assert "the network keeps 5 % of what buyers pay: of a dollar an owner has 0.95 USD" in said.out
        await shown(net, 50_000)
        await until_async(lambda: charged_at(net, agent, LOWER), "the market has read it, too")

        net.running.kill("core")
        await run_at(net, agent, LOWER)  # a new market reads it from the database

        later = (await net.operator.set_fee(80_000, 500_000)).next_fee
        assert later is not None
        (line, *_) = await net.operator.actions()
        assert line.what == "fee.set"
        assert later.from_ms == line.at + NOTICE_MS
        assert (await net.buyer.network()).next_fee == later
        await run_at(net, agent, LOWER)

        before_it = await net.buyer.subscribe(wanted(1))
        said = await fallow("price", "tariff", "storage", "stored_byte_hours=2.5", **profile)
        assert said.code == 0, said.err
        assert "2.50 USD" in said.out
        opened = await fallow("subscription", "open", "storage", "--limit", "0.01", **buyer)
        assert opened.code == 0, opened.err
        assert "As long as it goes on it pays 2.50 USD for a terabyte of pieces for 720 hours." in opened.out
        assert (await net.buyer.subscribe(wanted(1))).tariff == before_it.tariff == TARIFF, "the same order opens once"
        (line, *_) = await net.operator.actions()
        assert line.what == "tariff.set"
        (lower,) = (await net.operator.set_tariff("storage", TARIFF)).next_tariffs
        assert lower.from_ms >= line.at + NOTICE_MS
        assert (await net.buyer.subscribe(wanted(2))).tariff[STORED] == Price(microusd=2_500_000, per=720 * TERABYTE)


def wanted(number: int) -> OpenSubscription:
    return OpenSubscription(id=f"{number:032x}", vertical="storage", limit_microusd=1000)


async def shown(net: Net, fee_ppm: int) -> None:
    """Wait until whoever asks is told so. Each process reads it for itself, some seconds later."""

    async def told() -> bool:
        return (await net.buyer.network()).fee_ppm == fee_ppm

    await until_async(told, "everybody is shown the fee")


async def run_at(net: Net, agent: Agent, policy: FeePolicy) -> None:
    """Run a job, and see that it is charged by a policy."""
    assert await charged_at(net, agent, policy)


async def charged_at(net: Net, agent: Agent, policy: FeePolicy) -> bool:
    """Run a job; whether it is charged by a policy: all that its buyer paid, and each part to the micro-dollar."""
    order = await net.submit([SECOND // 4], on=[agent])
    await net.finished(order.id)
    (lease,) = await net.buyer.leases(order.id)
    rows = await net.fetch(
        "SELECT code, sum(amount)::text AS amount FROM ledger.transfer WHERE ref = $1 GROUP BY code",
        bytes.fromhex(lease.id),
    )
    moved = {Kind(row["code"]): int(row["amount"]) for row in rows}
    parts = [moved[kind] for kind in (Kind.INCOME, Kind.FEE, Kind.RESERVE)]
    assert sum(parts) == lease.owed_microusd > 1000
    alone = cumulative_charge(lease.price_microusd_per_hour * lease.used_ms, policy)
    # the meter of this price has counted before
    return all(abs(part - expected) <= 1 for part, expected in zip(parts, alone, strict=True))
