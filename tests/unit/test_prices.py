"""The price file, and what is made of it."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import InvalidInput
from fallow.domain.leases import WORK_DONE
from fallow.domain.orders import Order, Requirements
from fallow.domain.prices import Delivered, Offer, cost_microusd, delivered_by, nanousd, read_offers
from fallow.domain.views.jobs import ItemView, LeaseView
from fallow.sdk.bills import Work, make_bill, offers, receipt_of
from tests.unit import fake_network

HOUR_MS = 3_600_000
CORE_HOUR = Delivered(1000 * HOUR_MS, 1024 * HOUR_MS)


def offer(cores: str = "0.04", memory: str = "0.005") -> Offer:
    return Offer(
        name="x", kind="spot", source="https://x", as_of="2026-01-01", vcpu_hour_usd=cores, gib_hour_usd=memory
    )


def lease(item: int, node: str, used_ms: int, *, reason: str = WORK_DONE, saved_ms: int = 0) -> LeaseView:
    return LeaseView(
        id="0" * 32, job="0" * 32, item=item, node=node, state="ended", price_microusd_per_hour=1, proposed_at=0,
        started_at=0, ended_at=1, reason=reason, caused_by="nobody", used_ms=used_ms, owed_microusd=1,
        saved_ms=saved_ms,
    )  # fmt: skip


def item(index: int, node: str, state: str = "done", used_ms: int = HOUR_MS) -> ItemView:
    return msgspec.structs.replace(fake_network.item_view(index, state), node=node, used_ms=used_ms)


def order(**changes: Any) -> Order:
    needs = Requirements(cpu_milli=2000, memory_mib=512)
    return Order(id="0" * 32, vertical="compute", work={}, requirements=needs, **changes)


def test_every_figure_of_the_price_file_has_a_page_and_a_day() -> None:
    assert {each.kind for each in offers()} == {"on-demand", "spot", "market"}
    assert sum(each.sells_cores for each in offers()) >= 3
    assert len({each.name for each in offers()}) == len(offers())
    for each in offers():
        assert each.source.startswith("https://"), each
        assert date(2020, 1, 1) < date.fromisoformat(each.as_of) < date(2027, 1, 1), each
        assert each.sells_cores or each.gpu_hour_usd or each.storage_gb_month_usd, each


def test_a_core_hour_with_its_memory_costs_what_the_file_says() -> None:
    assert cost_microusd(offer(), CORE_HOUR) == 45_000
    assert cost_microusd(offer("0.012144", "0.0013335"), CORE_HOUR) == 13_478
    assert cost_microusd(offer(), Delivered()) == 0
    assert cost_microusd(offer("0.000000001", "0"), Delivered(1, 0)) == 1, "what costs something is never shown as free"


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_the_whole_costs_no_more_than_its_parts(a: int, b: int, c: int, d: int) -> None:
    first, second = Delivered(a, b), Delivered(c, d)
    parts = cost_microusd(offer(), first) + cost_microusd(offer(), second)
    assert parts - 1 <= cost_microusd(offer(), first.plus(second)) <= parts


@pytest.mark.parametrize("text", ["", ".5", "-1", "1e3", "1.2.3", "0.0000000001", "\u0661", "nan", " 1"])
def test_what_is_no_amount(text: str) -> None:
    if text == "\u0661":
        assert nanousd(text) == 10**9
        return
    with pytest.raises(InvalidInput):
        nanousd(text)


@pytest.mark.parametrize("field", ["source", "as_of", "kind", "name"])
def test_a_price_without_its_source_is_refused(field: str) -> None:
    whole = msgspec.to_builtins(offer())
    assert read_offers({"offer": [whole]}) == [offer()]
    with pytest.raises(InvalidInput):
        read_offers({"offer": [{name: value for name, value in whole.items() if name != field}]})


def test_delivered_is_what_can_be_used() -> None:
    items = [item(0, "a"), item(1, "b"), item(2, "c", "failed")]
    leases = [
        lease(0, "x", 500, reason="node.vanished"),
        lease(0, "a", 1000),
        lease(0, "replica", 1000),
        lease(1, "y", 900, reason="owner.reclaimed", saved_ms=700),
        lease(1, "b", 300),
        lease(2, "c", 5000, reason="program.failed"),
    ]
    assert delivered_by(order(), items, leases) == Delivered(2000 * 2000, 512 * 2000)
    checked = [item(0, "checker", used_ms=700)]
    leases = [lease(0, "bought", 700), lease(0, "checker", 900)]
    assert delivered_by(order(), checked, leases) == Delivered(2000 * 700, 512 * 700), "no more than was paid for"
    stopped = [item(0, "a")]
    running = [lease(0, "x", 500, reason="node.vanished"), lease(0, "a", 1000, reason="buyer.cancelled")]
    assert delivered_by(order(until_stopped=True), stopped, running) == Delivered(2000 * 1500, 512 * 1500)


def test_a_job_is_mutual_when_its_buyer_signed_for_all_that_came() -> None:
    items = [item(0, "a"), item(1, "b"), item(2, "c", "failed")]
    signed = [msgspec.structs.replace(lease(index, node, 1), receipt="mutual") for index, node in ((0, "a"), (1, "b"))]
    assert receipt_of(items, [*signed, lease(2, "c", 1)]) == "mutual"
    for leases in ([], signed[:1], [signed[0], lease(1, "b", 1)], [signed[0], signed[0]]):
        assert receipt_of(items, leases) == "operator-attested"
    assert receipt_of([], signed) == "operator-attested"


@pytest.mark.parametrize("model", ["rtx4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "rtx-4090"])
def test_graphics_processors_are_compared_where_they_are_sold(model: str) -> None:
    needs = Requirements(cpu_milli=4000, gpus=2, gpu_model=model)
    wanted = Order(id="0" * 32, vertical="compute", work={}, requirements=needs)
    delivered = delivered_by(wanted, [item(0, "a")], [lease(0, "a", HOUR_MS)])
    assert delivered == Delivered(gpu_ms=(("rtx4090", 2 * HOUR_MS),))
    vast = next(each for each in offers() if each.name == "Vast.ai")
    assert cost_microusd(vast, delivered) == 2 * 682_000
    sellers = {each.name for each in offers() if each.sells(delivered)}
    assert sellers == {"Vast.ai", "Vast.ai interruptible", "Render (compute network)"}
    assert not vast.sells(delivered.plus(CORE_HOUR)), "it does not sell cores alone"
    with pytest.raises(InvalidInput):
        cost_microusd(vast, CORE_HOUR)


def test_a_bill_adds_up_whatever_was_paid_for_nothing() -> None:
    jobs = [fake_network.job_view("1" * 32), fake_network.job_view("2" * 32, "failed")]
    jobs = [msgspec.structs.replace(job, owed_microusd=100, label=label) for job, label in zip(jobs, "ab", strict=True)]
    bill = make_bill(jobs, [Work(Delivered(1000 * HOUR_MS, 0)), Work(Delivered())], test=False)
    assert (bill.owed_microusd, bill.core_s, bill.microusd_per_core_hour) == (200, 3600.0, 200)
    assert [(each.name, each.owed_microusd) for each in bill.labels] == [("a", 100), ("b", 100)]
    nothing = make_bill(jobs, [Work(Delivered()), Work(Delivered())], test=False)
    assert (nothing.microusd_per_core_hour, nothing.elsewhere) == (None, [])
