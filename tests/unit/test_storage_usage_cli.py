"""What a buyer is shown of his buckets' use."""

from __future__ import annotations

from typing import Self

import msgspec
import pytest

from fallow.cli import profiles
from fallow.cli.storage_usage import usage
from fallow.cli.units import usd
from fallow.domain.errors import InvalidInput
from fallow.domain.prices import Offer, storage_cost_microusd
from fallow.sdk.bills import offers
from fallow.verticals.storage.core.billing import StorageBill, bill_of, line_of
from fallow.verticals.storage.core.calls.accounts import USAGE_BUCKETS_MAX, Usage, UsedBucket, UsedDay

TB = 10**12
MONTH = 730


def offer(**changes: object) -> Offer:
    whole: dict[str, object] = {"storage_gb_month_usd": "0.007", "egress_gb_usd": "0.007", **changes}
    return msgspec.convert({"name": "a", "kind": "market", "source": "", "as_of": "2026-01-01", **whole}, Offer)


def test_a_terabyte_a_month_costs_what_the_page_says() -> None:
    assert storage_cost_microusd(offer(), TB * MONTH, 0) == 7_000_000
    assert storage_cost_microusd(offer(), 0, TB) == 7_000_000
    assert storage_cost_microusd(offer(binary_gb=True), 1024 * 2**30 * MONTH, 0) == 7_168_000
    assert storage_cost_microusd(offer(), 1, 0) == 1, "what costs something is never shown as free"


def test_what_is_free_to_send_out_is_measured_by_what_is_stored() -> None:
    free = offer(egress_free_times_stored=3)
    assert storage_cost_microusd(free, TB * MONTH, 3 * TB) == 7_000_000
    assert storage_cost_microusd(free, TB * MONTH, 4 * TB) == 14_000_000


def test_who_sells_no_traffic_is_not_compared() -> None:
    with pytest.raises(InvalidInput):
        storage_cost_microusd(offer(egress_gb_usd=""), 1, 1)
    assert {"Storj", "AWS S3 Standard", "Backblaze B2"} <= {one.name for one in offers() if one.sells_storage}


def bill(count: int) -> StorageBill:
    used = UsedDay(
        day=0,
        stored_byte_hours=720 * TB,
        payload_byte_hours=360 * TB,
        requests={"put": 2},
        cost_microusd=1_666_666,
    )
    buckets = [line_of(UsedBucket(id=n, bucket=f"b{n}" * (n > 1)), used) for n in range(1, count + 1)]
    return bill_of(buckets, 1_666_667 * count, offers())


def test_what_the_same_payload_costs_elsewhere_is_by_the_hour_and_what_it_costs_here_is_what_was_paid() -> None:
    found = bill(3)
    storj = next(one for one in found.elsewhere if one.name == "Storj")
    assert storj.cost_microusd == -(-3 * 360 * 7_000_000 // MONTH)
    assert (found.cost_microusd, found.buckets[0].cost_microusd) == (5_000_001, 1_666_666)


class Client:
    """Answers with a bill, and pages of buckets."""

    def __init__(self, count: int) -> None:
        self.asked: list[Usage] = []
        self.bill = bill(count)
        day = UsedDay(day=20_000, stored_byte_hours=720 * TB)
        self.buckets = [UsedBucket(id=n, bucket=f"b{n}", days=[day]) for n in range(1, count + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask_vertical(self, vertical: str, call: str, body: bytes, *, again: bool) -> bytes:
        """See the SDK."""
        assert (vertical, again) == ("storage", True)
        if call == "bill":
            return msgspec.msgpack.encode(self.bill)
        assert call == "usage"
        self.asked.append(msgspec.msgpack.decode(body, type=Usage))
        page = [one for one in self.buckets if one.id > self.asked[-1].after][:USAGE_BUCKETS_MAX]
        return msgspec.msgpack.encode(page)


def test_a_bill_is_shown_with_what_others_ask_and_its_days_to_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(USAGE_BUCKETS_MAX + 2)
    monkeypatch.setattr(profiles, "connect", lambda: client)
    monkeypatch.setenv("COLUMNS", "250")
    usage(since="90d", json=True)
    assert [asked.after for asked in client.asked] == [0, USAGE_BUCKETS_MAX]
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (len(told["days"]), told["cost_microusd"]) == (USAGE_BUCKETS_MAX + 2, client.bill.cost_microusd)
    usage(since="99999d", json=True)
    assert msgspec.json.decode(capsys.readouterr().out)["from_day"] == "1970-01-01"
    usage(since="90d")
    shown = capsys.readouterr().out
    assert "(dropped, 1)" in shown
    assert "1,000.000 GB-months" in shown
    assert "1.666666 USD" in shown
    assert f"this cost {usd(1_666_667 * (USAGE_BUCKETS_MAX + 2))}" in shown
    assert "Storj" in shown
