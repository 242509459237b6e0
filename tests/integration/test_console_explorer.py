"""The explorer's map, its sector page and its files, in a real browser."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import Any

import pytest
from playwright.async_api import Page, expect

from fallow.domain.epochs.lines import Line, write_lines
from fallow.domain.epochs.manifest import path_of
from fallow.domain.field_map import Tally
from fallow.domain.places import read_cell
from fallow.domain.resources import Resources
from tests.browser import EACH_LOOK, Chromium, barriers, picture, tab
from tests.closed_epochs import ClosedEpoch
from tests.integration.test_console import OWED, Explored, file_of, filled
from tests.integration.test_console import explored as explored  # noqa: PLC0414 - a fixture
from tests.unit.fake_network import FakeNetwork, node_view

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

BERLIN, TOKYO, SYDNEY = "52.5,13.4", "35.7,139.7", "-33.9,151.2"
HOLDER = f"0x{OWED[2].account.hex()}"
FORMULA = '=HYPERLINK("https://evil.example")'


def placed(network: FakeNetwork) -> None:
    """Several owners in three cities, and two machines of one owner who is alone in his."""
    owners = bytes(range(60))  # three of them
    for at, (place, sold) in enumerate({BERLIN: 0, TOKYO: 6000, SYDNEY: 12_000}.items()):
        network.told[read_cell(place)] = Tally(
            owners=owners, nodes=3 + at, open=3, busy=at, cpu_milli=12_000, sold_milli=sold
        )
    network.told[read_cell("64.1,-21.9")] = Tally(owners=bytes(20), nodes=2, countries=Counter(IS=1))


@EACH_LOOK
async def test_map_sector_and_accounts_can_be_used_by_everybody(
    running: Chromium, explored: Explored, look: str, options: dict[str, Any]
) -> None:
    network, url = explored
    placed(network)
    filled(network)
    network.payees[HOLDER] = f"0x{'ab' * 20}"
    async with tab(running, url, **options) as page:
        for name, path in {
            "map": "/map",
            "sector": "/sector",
            "account": f"/accounts/{HOLDER}",
            "earnings": "/earnings",
            "networks": "/networks",
            "network": "/networks/storage",
        }.items():
            await page.goto(path)
            await expect(page.locator("h1")).to_be_visible()
            if name == "map":
                await drawn(page, 3)
            await expect(page.locator("[role=status]")).to_have_count(0)
            assert "\n".join(await barriers(page)) == "", name
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is wider than the screen"
            await picture(page, f"{look}-{name}")


async def drawn(page: Page, cells: int) -> None:
    """Wait until WebGL has drawn land and so many cells."""
    await expect(page.locator(f"[data-drawn=yes][data-cells='{cells}'] canvas")).to_be_visible()


async def test_who_has_no_mouse_goes_through_the_cells_by_keyboard(running: Chromium, explored: Explored) -> None:
    network, url = explored
    placed(network)
    async with tab(running, url) as page:
        await page.goto("/map")
        await drawn(page, 3)
        sydney = page.get_by_role("button", name="° S")
        await sydney.focus()
        await page.keyboard.press("Enter")
        await expect(sydney).to_have_attribute("aria-pressed", "true")
        await expect(page.get_by_role("row", name="° S").get_by_role("img")).to_have_accessible_name("12 of 12 sold")
        await expect(
            page.get_by_text("Iceland")
        ).to_be_visible()  # one of two told a country, and neither is on the map
        await expect(page.get_by_text("no country told")).to_be_visible()


async def test_nearer_the_map_asks_for_finer_cells(running: Chromium, explored: Explored) -> None:
    network, url = explored
    placed(network)
    async with tab(running, url) as page:
        await page.goto("/map")
        await drawn(page, 3)
        async with page.expect_request("**/v1/map?resolution=2"):
            await page.get_by_role("button", name="Nearer").click()
        await drawn(page, 3)
        async with page.expect_request("**/v1/map?around=82*"):
            for _ in range(6):
                await page.get_by_role("button", name="Nearer").click()
        await expect(page.get_by_role("heading", name="Cells near the middle of the map")).to_be_visible()
        await drawn(page, 0)  # none of the three is near it


async def test_without_webgl_the_table_says_the_same(running: Chromium, explored: Explored) -> None:
    network, url = explored
    placed(network)
    async with tab(running, url) as page:
        await page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        await page.goto("/map")
        await expect(page.get_by_text("This browser has no WebGL")).to_be_visible()
        await expect(page.get_by_role("button", name="° N")).to_have_count(2)
        assert await barriers(page) == []


async def test_the_sector_page_keeps_claims_of_others_apart_and_shows_who_disputes_them(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    filled(network)
    async with tab(running, url) as page:
        await page.goto("/sector")
        own = page.get_by_role("region", name="This network")
        await expect(own.get_by_text("Aethir")).to_have_count(0)
        await expect(own.get_by_text("19.75 USD")).to_be_visible()
        row = page.get_by_role("row").filter(has_text="annualised").filter(has_text="Q3")
        await expect(row.first).to_contain_text("32.17 USD")
        await expect(row.first).to_contain_text("disputed")
        await expect(page.get_by_text("25,000 to 40,000 USD per idle GPU")).to_be_visible()


async def test_the_sector_page_says_so_where_its_own_epochs_cannot_be_had(
    running: Chromium, explored: Explored
) -> None:
    async with tab(running, explored.url) as page:
        await page.route("**/v1/epochs?*", lambda route: route.abort())
        await page.goto("/sector")
        own = page.get_by_role("region", name="This network")
        await expect(own.get_by_role("alert")).to_contain_text("The network does not answer")


async def test_an_account_has_a_page_with_what_it_earned_and_is_owed(running: Chromium, explored: Explored) -> None:
    network, url = explored
    filled(network)
    network.payees[HOLDER] = HOLDER
    async with tab(running, url) as page:
        await page.goto("/epochs/7")
        await page.get_by_role("link", name=f"{HOLDER[:10]}…{HOLDER[-4:]}").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text(HOLDER[:10])
        await expect(page.get_by_text("itself", exact=True)).to_be_visible()
        await expect(page.get_by_role("region", name="What it earned")).to_contain_text("3.75 USD")
        await page.get_by_role("button", name="Verify", exact=True).click()
        await expect(page.get_by_text("It is owed 3.75 USD in all")).to_be_visible()
        (line,) = json.loads(await file_of(page, "JSON"))
        assert (line["epoch"], line["account"], line["usage_microusd"]) == (7, HOLDER, "3750000")
        await page.goto(f"/accounts/0x{'EE' * 20}")
        await expect(page.get_by_text("This network has no account of that name.")).to_be_visible()
        await expect(page.get_by_text("Nothing in the latest epochs.")).to_be_visible()


async def test_who_thinks_of_joining_sees_what_machines_like_his_earned(running: Chromium, explored: Explored) -> None:
    network, url = explored
    small, large = ([bytes([kind, number]) * 16 for number in range(4)] for kind in (2, 8))
    network.nodes = [
        node_view(node.hex(), total=Resources(cpu_milli=1000 * node[0], memory_mib=1024)) for node in (*small, *large)
    ]
    lines = [
        Line("compute", node, bytes(20), 1, 1, (1_000_000 * number).to_bytes(32), bytes(32), [], [], [])
        for number, node in enumerate((*small, *large))
        if number
    ]  # one of the small ones earned nothing, and has no line
    closed = ClosedEpoch(epoch=7, leaves=OWED, more={"lines": write_lines(lines)})
    for name, data in closed.files.items():
        network.archive.put(path_of(7, name), data)
    async with tab(running, url) as page:
        await page.goto("/")
        await page.get_by_role("link", name="What machines earn").click()
        await expect(page.get_by_role("row", name="fewer than 4 cores")).to_contain_text("40.00 USD1.00 USD2.00 USD")
        await expect(page.get_by_role("row", name="8 to 16 cores")).to_contain_text("44.00 USD5.00 USD6.00 USD")
        await expect(page.get_by_text("8 machines that are on the market, over 1 day")).to_be_visible()


async def test_every_table_can_be_had_as_a_file_whole(running: Chromium, explored: Explored) -> None:
    network, url = explored
    placed(network)
    filled(network)
    named = {7: FORMULA, 8: "JP;\uff1d1\t=1"}
    network.nodes = [node_view(f"{number:064x}", country=named.get(number, "JP")) for number in range(1, 1203)]
    async with tab(running, url) as page:
        await page.goto("/nodes")
        nodes = list(csv.DictReader(io.StringIO(await file_of(page, "CSV"))))
        assert [row["node"] for row in nodes] == [node.node for node in network.nodes]
        assert nodes[6]["country"] == f"'{FORMULA}"
        assert nodes[7]["country"] == "JP;'\uff1d1\t'=1"
        assert json.loads(await file_of(page, "JSON"))[6]["country"] == FORMULA
        await page.goto(f"/nodes/{7:064x}")
        (node,) = json.loads(await file_of(page, "JSON"))
        assert json.loads(node["attributes"]) == network.nodes[6].attributes
        await page.goto("/")
        totals = {row["name"]: row["value"] for row in json.loads(await file_of(page, "JSON"))}
        offered = network.market.offered
        assert (totals["offered_cpu_milli"], totals["offered_memory_mib"]) == (offered.cpu_milli, offered.memory_mib)
        await page.goto("/epochs")
        (epoch,) = json.loads(await file_of(page, "JSON"))
        assert (epoch["epoch"], epoch["signature_holds"]) == (7, True)
        assert int(epoch["usage_microusd"]) == 19_750_000
        await page.goto("/epochs/7")
        await page.get_by_role("region", name="Rewards").get_by_role("button", name="CSV").wait_for()
        lines = list(csv.DictReader(io.StringIO(await file_of(page, "CSV", -2))))
        assert sorted(int(line["usage_microusd"]) for line in lines) == [1_250_000 * n for n in range(1, 6)]
        await page.goto("/map")
        cells = list(csv.DictReader(io.StringIO(await file_of(page, "CSV"))))
        assert sorted(int(cell["nodes"]) for cell in cells) == [3, 4, 5]
        await page.goto("/sector")
        field = json.loads(await file_of(page, "JSON"))
        assert {row["disputes"] for row in field} >= {"", "aethir-revenue"}
        assert all(row["date"] and row["source"] for row in field)
