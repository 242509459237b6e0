"""What everybody sees of a network: what happens, its kinds of infrastructure, who governs it, how to find things."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from playwright.async_api import expect

from fallow.bootstrap.http_server import serving
from fallow.domain.epochs.by_vertical import NETWORKS, VerticalSums
from fallow.domain.epochs.manifest import path_of
from fallow.domain.happenings import Happening, Happenings
from fallow.http.limits import Limits
from fallow.ports.happenings import show
from fallow.ports.rates import Rate
from tests.browser import barriers, browser, tab
from tests.integration.test_console import EPOCH, Explored, filled
from tests.integration.test_console import _tools as _tools  # noqa: PLC0414 - the fixture that installs axe-core
from tests.integration.test_console_explorer import file_of
from tests.unit.fake_network import FakeNetwork, fake_network

pytestmark = pytest.mark.xdist_group("console")

NODE = "5e" * 32
DID = VerticalSums(
    vertical="compute", nodes=3, usage_microusd=12_000_000, leases=4, leases_done=3,
    leases_microusd=20_000, charged_core_s=40_000, core_s=36_000, gib_s=72_000,
)  # fmt: skip


@pytest.fixture
async def explored() -> AsyncIterator[Explored]:
    """A network whose services answer what a test wants, over HTTP."""
    async with (
        fake_network(Limits(address=Rate(10_000.0, 100_000))) as network,
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        yield Explored(network, f"http://127.0.0.1:{port}")


async def test_what_happens_is_on_the_overview_while_it_happens(explored: Explored) -> None:
    network, url = explored
    await tell(network, Happening(at=1_000, kind="node.joined", node=NODE))
    async with browser() as running, tab(running, url) as page:
        await page.goto("/")
        live = page.get_by_role("region", name="Live")
        await expect(live.get_by_text("as it happens")).to_be_visible()
        await expect(live.get_by_role("listitem")).to_contain_text([line("joined")])
        network.clock.advance(1_000)
        failed = Happening(at=2_000, kind="lease.ended", node=NODE, vertical="<b>x</b>", ok=False)
        await tell(network, failed, Happening(at=3_000, kind="epoch.closed", epoch=7), more=3)
        await expect(live.get_by_role("listitem")).to_contain_text(
            ["Epoch 7", line("ended a lease without a result <b>x</b>"), line("joined")]
        )
        await expect(live.get_by_text("3 more happened meanwhile.")).to_be_visible()
        await live.get_by_role("button", name="Pause").click()
        await expect(live.get_by_text("paused")).to_be_visible()
        assert await barriers(page) == []
        await live.get_by_role("button", name="Go on").click()
        await expect(live.get_by_text("as it happens")).to_be_visible()


async def test_each_kind_of_infrastructure_has_a_page_with_what_it_did_and_what_it_costs_elsewhere(
    explored: Explored,
) -> None:
    network, url = explored
    filled(network)
    network.archive.put(path_of(EPOCH, NETWORKS), msgspec.json.encode([DID]))
    async with browser() as running, tab(running, url) as page:
        await page.goto("/")
        eco = page.get_by_role("region", name="What it takes in and mints")
        await expect(eco).to_contain_text("19.75 USD")
        await expect(eco.get_by_role("definition").filter(has_text="7,213.69 USD")).to_be_visible()
        row = page.get_by_role("row").filter(has_text="Compute")
        await expect(row).to_contain_text("12.00 USD")
        await expect(row).to_contain_text("Salad")
        await row.get_by_role("link").click()
        await expect(page.get_by_role("heading", name="Compute")).to_be_visible()
        await expect(page.get_by_text("0.002 USD")).to_be_visible()  # paid for a useful core-hour
        cheaper = page.get_by_role("row").filter(has_text="AWS Fargate").filter(has_text="on demand")
        await expect(cheaper).to_contain_text("0.4937 USD95.9% less2026-04-01")
        (epoch,) = json.loads(await file_of(page, "JSON", -1))
        assert (epoch["epoch"], epoch["nodes"], epoch["useful_core_s"]) == (EPOCH, 3, 36_000)
        await page.goto("/networks/storage")
        await expect(page.get_by_role("row").filter(has_text="Storj")).to_contain_text("2026-07-01")
        await page.goto("/networks/nothing")
        await expect(page.get_by_text("This network runs no such kind of infrastructure.")).to_be_visible()


async def tell(network: FakeNetwork, *happened: Happening, more: int = 0) -> None:
    """Say it as the network's services do."""
    await show(network.bus, Happenings(shown=list(happened), more=more))


def line(says: str) -> str:
    """How a line of the node reads."""
    return f"{NODE[:6]}…{NODE[-4:]} {says}"
