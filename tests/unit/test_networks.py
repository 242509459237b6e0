"""A network's kinds of infrastructure: their figures by epoch, and what everybody is told of them."""

from __future__ import annotations

import msgspec
import pytest

from fallow.adapters.archive import memory_archive
from fallow.domain import calls
from fallow.domain.epochs.by_vertical import NETWORKS, ByVertical, VerticalSums
from fallow.domain.epochs.lines import Line, Money, write_lines
from fallow.domain.epochs.manifest import path_of
from fallow.domain.facts import LeaseSettled, Moved
from fallow.domain.metrics import Told, gauge
from fallow.domain.network_facts import Earned, SubscriptionSettled, Tariffed
from fallow.domain.network_views import VerticalView
from fallow.domain.prices import nanousd
from fallow.domain.resources import Resources
from fallow.domain.subscriptions import Price
from fallow.domain.views.governance import GovernedView
from fallow.ports.archive import whole
from fallow.ports.rpc import Empty, serve
from fallow.services.epochs.adding_up import BACK_MAX, add_up
from fallow.verticals.storage.core.tariff import TARIFF
from fallow.verticals.storage.plugin import VERTICAL as STORAGE
from tests.closed_epochs import ClosedEpoch
from tests.epoch_files import NETWORK
from tests.unit.fake_network import fake_network
from tests.unit.http_world import browser

HOUR_MS = 3_600_000
PUBLIC = bytes(NETWORK.verify_key)


def line(vertical: str = "compute", node: int = 1, account: int = 1) -> Line:
    paid = [Money(2, bought, 80, 20, 5, 0, 0) for bought in (True, False)]  # as divided of what records say
    amount = (10**18).to_bytes(32)
    return Line(vertical, bytes([node]) * 32, bytes([account]) * 20, 7, 1, bytes(32), amount, paid, [], [])


def settled(number: int = 1, **fields: object) -> LeaseSettled:
    values: dict[str, object] = {
        "vertical": "compute",
        "lease": bytes([number]) * 16,
        "node": bytes(32),
        "payee": bytes(20),
        "resources": Resources(cpu_milli=2000, memory_mib=4096),
        "price_microusd_per_hour": 1,
        "spot": False,
        "checks": False,
        "window": 0,
        "charged_ms": HOUR_MS,
        "moved": [Moved(credit=1, income=70, fee=20, reserve=10, refunded=5)],
        "final": True,
        "ok": True,
        "reason": "work.done",
    }
    return LeaseSettled(**values | fields)  # type: ignore[arg-type]


def window(part: int = 0, **fields: object) -> SubscriptionSettled:
    used = Tariffed(meter="stored_byte_hours", before=(5).to_bytes(32), after=(10**30).to_bytes(32))
    earned = [Earned(payee=bytes([9]) * 20, used=[used], income={"2": 900})]
    values: dict[str, object] = {
        "vertical": "storage",
        "subscription": bytes(16),
        "window": 3,
        "part": part,
        "from_ms": 0,
        "until_ms": 1,
        "tariff": {"stored_byte_hours": Price(microusd=1)},
        "earned": earned,
    }
    return SubscriptionSettled(**values | fields)  # type: ignore[arg-type]


def test_lines_leases_and_windows_add_up_by_vertical() -> None:
    found = ByVertical()
    refused = Line("storage", PUBLIC, b"", 0, 1, bytes(32), bytes(32), [], [("rejected", "used.orders", 1)], [])
    found.add_lines([line(), line(node=2), line(node=2, account=2), line(""), line("storage"), refused])
    found.add_leases(
        [
            settled(),
            settled(2, ok=False, moved=[]),
            settled(3, checks=True),  # ordered by the network
            settled(4, final=False, charged_ms=9),  # goes on: what it cost counts, its time when it is over
            settled(6, checks=True, final=False),
            settled(5, resources=Resources(cpu_milli=1000, memory_mib=1, gpus=1)),  # by the card
        ]
    )
    found.add_subscriptions([window(fee={"2": 100}), window(fee={"2": 100}), window(1, earned=[])])
    compute, storage = found.sums()
    assert compute == VerticalSums(
        vertical="compute",
        nodes=2,
        accounts=2,
        units=21,
        test_microusd=300,
        fees_microusd=0,  # of TEST credits none is one
        incentive=str(3 * 10**18),
        leases=3,
        leases_done=2,
        charged_core_s=2 * 2 * 3600,
        leases_microusd=200,
        core_s=2 * 3600,
        gib_s=4 * 3600,
    )
    assert storage == VerticalSums(
        vertical="storage",
        nodes=1,
        accounts=2,
        units=7,
        incentive=str(10**18),
        usage_microusd=1000,
        fees_microusd=100,
        metered={"stored_byte_hours": str(10**30 - 5)},
    )


def test_each_epoch_is_added_up_once_and_those_before_it_too() -> None:
    archive = memory_archive()
    for epoch in range(2, 2 + BACK_MAX + 2):
        closed = ClosedEpoch(epoch=epoch, more={"lines": write_lines([line(node=epoch)])})
        for name, data in closed.files.items():
            archive.put(path_of(epoch, name), data)
    last = 2 + BACK_MAX + 1
    add_up(archive, last, PUBLIC)
    there = [one.name for one in archive.names("epochs/") if one.name.endswith(f"/{NETWORKS}")]
    assert sorted(there) == sorted(path_of(epoch, NETWORKS) for epoch in range(last - BACK_MAX + 1, last + 1))
    (sums,) = msgspec.json.decode(whole(archive, path_of(last, NETWORKS), 1 << 20), type=list[VerticalSums])
    assert (sums.vertical, sums.nodes, sums.units) == ("compute", 1, 7)
    archive.put(path_of(last, NETWORKS), b"[]")
    add_up(archive, last, PUBLIC)
    assert whole(archive, path_of(last, NETWORKS), 1 << 20) == b"[]"


def test_an_epoch_that_is_damaged_keeps_no_other_from_being_added_up() -> None:
    archive = memory_archive()
    for epoch in (2, 3, 4):
        for name, data in ClosedEpoch(epoch=epoch, more={"lines": write_lines([line(node=epoch)])}).files.items():
            archive.put(path_of(epoch, name), data)
    archive.put(path_of(2, "lines"), b"not what the statement says")
    archive.put(path_of(3, "manifest"), b"nor this")
    add_up(archive, 4, PUBLIC)
    there = [one.name for one in archive.names("epochs/") if one.name.endswith(f"/{NETWORKS}")]
    assert there == [path_of(4, NETWORKS)]


async def test_everybody_is_told_what_each_kind_did_and_what_it_costs_elsewhere() -> None:
    async with fake_network() as network, browser(network) as http:
        for epoch in (5, 6, 7):
            closed = ClosedEpoch(epoch=epoch, more={"lines": write_lines([line(node=epoch)])})
            for name, data in closed.files.items():
                network.archive.put(path_of(epoch, name), data)
        sums = VerticalSums(vertical="compute", nodes=3, leases_microusd=20_000, core_s=36_000, gib_s=72_000)
        network.archive.put(path_of(7, NETWORKS), msgspec.json.encode([sums]))
        failed = VerticalSums(vertical="compute", leases=1, leases_microusd=7_000)
        network.archive.put(path_of(6, NETWORKS), msgspec.json.encode([failed]))
        network.archive.put(path_of(5, NETWORKS), b"[{}")  # damaged
        shown = gauge("fallow_storage_objects", "Objects.", 5)
        hidden = gauge("fallow_storage_repairs_waiting", "Not for everybody.", 1)
        network.app.state.gateway.processes.hear(
            Told(process="core", roles=["core"], id="ab" * 8, families=[shown, hidden])
        )
        answer = (await http.get("/v1/networks")).content
    compute, storage = msgspec.json.decode(answer, type=list[VerticalView])
    assert [(one.epoch, one.sums) for one in compute.epochs] == [(7, sums), (6, failed), (5, None)]
    assert compute.basket == "delivered"
    fargate = next(one for one in compute.rivals if one.name == "AWS Fargate")
    assert (fargate.here_microusd, fargate.there_microusd) == (27_000, 10 * 40_480 + 20 * 4_445)
    assert storage.epochs[0].sums == VerticalSums(vertical="storage", fees_microusd=0)
    assert [(one.name, one.value) for one in storage.numbers] == [("fallow_storage_objects", 5)]
    storj = next(one for one in storage.rivals if one.name == "Storj")
    assert (storage.basket, storj.there_microusd) == ("stored", 14_000_000)
    assert all(one.as_of and one.source for one in (*compute.rivals, *storage.rivals))


def test_a_price_of_storage_is_that_of_its_tariff_for_objects_in_80_pieces_of_which_29_are_needed() -> None:
    offer = STORAGE.offered(TARIFF)
    assert offer is not None
    assert nanousd(offer.storage_gb_month_usd) == pytest.approx(1_500_000 / 0.9 * 730 / 720 * 80 / 29, abs=1)
    assert nanousd(offer.egress_gb_usd) == pytest.approx(2_000_000 / 0.9, abs=1)


async def test_who_governs_is_asked_once_for_all_who_look() -> None:
    shown = GovernedView(parameters={}, pending=[], at=1, holders=[], holders_total=0)
    asked: list[Empty] = []

    async def governed(empty: Empty) -> GovernedView:
        asked.append(empty)
        return shown

    async with fake_network() as network, browser(network) as http:
        gateway = network.app.state.gateway
        gateway.network = msgspec.structs.replace(gateway.network, chain_id=31337)
        async with serve(network.bus, calls.tokens.GOVERNED, Empty, governed, queue="fake"):
            answers = [await http.get("/v1/governance") for _ in range(3)]
    assert {one.content for one in answers} == {msgspec.json.encode(shown)}
    assert len(asked) == 1


async def test_a_network_without_a_chain_says_so_where_others_show_who_governs() -> None:
    async with fake_network() as network, browser(network) as http:
        answer = await http.get("/v1/governance")
        assert (answer.status_code, answer.json()["code"]) == (404, "chain.none")
