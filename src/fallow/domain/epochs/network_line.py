"""The network's own line of an epoch: what it earned, burned and minted, by the sums of its statement. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.chart import Credit
from fallow.domain.rewards.oracle import TOKEN_UNITS
from fallow.domain.rewards.schedules import coverage_ppm
from fallow.domain.views.epochs import NetworkLineView


def network_line(totals: Mapping[str, bytes]) -> NetworkLineView:
    """Read a statement's sums; of an epoch that no policy has closed all of them are 0."""

    def of(name: str) -> int:
        return int.from_bytes(totals.get(name, b""))

    def bought(credit: Credit) -> int:
        return sum(of(f"bought.{credit.value}.{part}") for part in ("income", "fee", "reserve"))

    revenue, minted, burned, price = of("revenue"), of("incentive"), of("burned"), of("price")
    return NetworkLineView(
        usage_microusd=of("usage"),
        bought_microusd=bought(Credit.PAID) + bought(Credit.BURNED),
        test_microusd=bought(Credit.GRANTED),
        revenue_microusd=revenue,
        minted=str(minted),
        burned=str(burned),
        net=str(minted - burned),
        supply=str(max(0, of("minted") - of("burned_ever") - of("forfeited.incentive"))),
        price_microusd=price,
        coverage_ppm=coverage_ppm(revenue, minted * price // TOKEN_UNITS),
        held_usage_microusd=of("held.usage"),
        forfeited_usage_microusd=of("forfeited.usage"),
        held=str(of("held.incentive")),
        vesting=str(of("vesting")),
        forfeited=str(of("forfeited.incentive")),
        delegated=str(of("delegated")),
        burned_credits_microusd=of("burned.credited"),
        unsound_microusd=of("burned.unsound"),
    )
