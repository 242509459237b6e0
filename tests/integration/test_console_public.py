"""What everybody sees of a network: what happens, its kinds of infrastructure, who governs it, how to find things."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from playwright.async_api import Route, expect

from fallow.domain import calls
from fallow.domain.epochs.by_vertical import NETWORKS, VerticalSums
from fallow.domain.epochs.manifest import path_of
from fallow.domain.happenings import Happening, Happenings
from fallow.domain.views.governance import ChangeView, GovernedView, HolderView
from fallow.domain.views.network import ContractsView
from fallow.ports.happenings import show
from fallow.ports.rpc import Empty, serve
from tests.browser import PHONE, Chromium, barriers, tab
from tests.integration.test_console import EPOCH, Explored, file_of, filled
from tests.integration.test_console import explored as explored  # noqa: PLC0414 - a fixture
from tests.unit.fake_network import FakeNetwork, node_view

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

HOUR_MS = 3_600_000
NODE = "5e" * 32
GUARDIAN = "0x" + "1a" * 20
NAMES = ("settlement", "token", "distributor", "validators", "vault", "timelock")
CONTRACTS = msgspec.convert({"block": 1, **dict.fromkeys(NAMES, "0x" + "c0" * 20)}, ContractsView)
GOVERNED = GovernedView(
    parameters={
        "token": {"totalSupply": str(10**21), "mintedTotal": str(10**21), "burnedTotal": "0", "mintedMax": str(10**24)},
        "vault": {"guardian": GUARDIAN, "appealDelay": "604800"},
    },
    pending=[
        ChangeView(id="0x" + "11" * 32, ready_at=1, contract="vault", call="setGuardian(address)", data="0x<script>")
    ],
    at=1_000,
    holders=[HolderView(account=GUARDIAN, amount=str(250 * 10**18))],
    holders_total=1,
)
DID = VerticalSums(
    vertical="compute", nodes=3, usage_microusd=12_000_000, leases=4, leases_done=3,
    leases_microusd=20_000, charged_core_s=40_000, core_s=36_000, gib_s=72_000, fees_microusd=1_000_000,
)  # fmt: skip


async def test_what_happens_is_on_the_overview_while_it_happens(running: Chromium, explored: Explored) -> None:
    network, url = explored
    await tell(network, Happening(at=1_000, kind="node.joined", node=NODE))
    async with tab(running, url) as page:
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
    running: Chromium,
    explored: Explored,
) -> None:
    network, url = explored
    filled(network)
    network.archive.put(path_of(EPOCH, NETWORKS), msgspec.json.encode([DID]))
    async with tab(running, url) as page:
        await page.goto("/")
        eco = page.get_by_role("region", name="What it takes in and mints")
        await expect(eco).to_contain_text("19.75 USD")
        await expect(eco.get_by_role("definition").filter(has_text="7,213.69 USD")).to_be_visible()
        headline = page.get_by_role("list", name="The network in figures")
        for text in ("Useful of sold 90%", "Usage 19.75 USD", "less"):
            await expect(headline.get_by_role("listitem").filter(has_text=text)).to_have_count(1)
        await expect(
            page.get_by_role("columnheader", name="Nodes with records")
        ).to_be_visible()  # and not those that are here
        row = page.get_by_role("row").filter(has_text="Compute")
        await expect(row).to_contain_text("12.00 USD")
        await expect(row).to_contain_text("Salad")
        await expect(row.get_by_role("img", name="sold: 25%")).to_be_visible()
        await expect(row.get_by_role("img", name="useful: 90%")).to_be_visible()
        await expect(row.get_by_role("img", name="Usage, by epoch")).to_be_visible()
        await expect(page.get_by_role("region", name="The field beside this network")).to_contain_text("USD")
        await row.get_by_role("link").click()
        now = page.get_by_label("What it holds now of the capacity of all")
        await expect(now).to_contain_text("3 of 12 sold")
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


async def test_sums_of_epochs_say_of_what_time_they_are_where_that_is_no_month_and_no_day(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    filled(network)
    async with tab(running, url) as page:
        one = await (await page.request.get(f"{url}/v1/epochs/{EPOCH}")).json()
        one["network"] |= {"price_microusd": 250_000, "supply": str(10**18)}
        for hours, count, day, month in ((1, 31, "latest day", "latest 1.3 days"), (48, 1, "latest 2 days", "30 days")):
            shown = [
                {
                    **one,
                    "epoch": number,
                    "from_ms": number * hours * HOUR_MS,
                    "until_ms": (number + 1) * hours * HOUR_MS,
                }
                for number in range(count, 0, -1)
            ]
            await page.route("**/v1/epochs?limit=31", partial(Route.fulfill, json=shown))
            await page.goto("/")
            eco = page.get_by_role("region", name="What it takes in and mints")
            await expect(eco.get_by_role("term").nth(0)).to_have_text(f"Usage, {day}")
            await expect(eco.get_by_role("term").nth(1)).to_have_text(f"Usage, {month}")
            await expect(eco.get_by_text("at 0.25 USD a token, as its rules fix it: no market's price")).to_be_visible()
            headline = page.get_by_role("list", name="The network in figures")
            await expect(headline.get_by_role("listitem").filter(has_text="Incentive")).to_contain_text(month)


@pytest.mark.parametrize("lie", ["", "nodes", "usage of all kinds"])
async def test_sums_that_nobody_signs_are_checked_in_the_browser_against_what_was_signed(
    running: Chromium, explored: Explored, lie: str
) -> None:
    network, url = explored
    filled(network)
    usage = 19_750_000 + (lie == "usage of all kinds")
    told = VerticalSums(vertical="compute", nodes=1 + (lie == "nodes"), units=50, incentive=str(5 * 10**18))
    sums = [msgspec.structs.replace(told, usage_microusd=usage - 1), VerticalSums(vertical="storage", usage_microusd=1)]
    network.archive.put(path_of(EPOCH, NETWORKS), msgspec.json.encode(sums))
    async with tab(running, url) as page:
        await page.goto("/networks/compute")
        await page.get_by_role("button", name="Check these sums here").click()
        found = page.get_by_role("listitem").filter(has_text="Epoch 7")
        if lie:
            await expect(found).to_contain_text(f"This is not what was signed: {lie}.")
        else:
            await expect(found).to_contain_text("are those of the signed lines")
        assert await barriers(page) == []


async def test_what_has_a_page_is_found_and_what_has_none_is_said(running: Chromium, explored: Explored) -> None:
    network, url = explored
    filled(network)
    network.nodes = [node_view(NODE), *network.nodes]
    network.nodes.sort(key=lambda one: one.node)
    network.payees[GUARDIAN] = GUARDIAN
    async with tab(running, url) as page:
        await page.goto("/")
        box = page.get_by_role("searchbox", name="Search the network")
        for typed, path in {
            NODE: f"/nodes/{NODE}",
            " 5E5E ": f"/nodes/{NODE}",
            "7": f"/epochs/{EPOCH}",
            GUARDIAN.upper().replace("0X", "0x"): f"/accounts/{GUARDIAN}",
            "storage": "/networks/storage",
        }.items():
            await box.fill(typed)
            await box.press("Enter")
            await expect(page).to_have_url(f"{url}{path}")
            await expect(box).to_have_value("")
        for typed in ("8", "ab" * 16, "0x" + "00" * 20, "<img src=x onerror=alert(1)>"):
            await box.fill(typed)
            await box.press("Enter")
            await expect(page.get_by_text("Nothing is found.")).to_be_visible()
            await box.fill("")
            await expect(page.get_by_text("Nothing is found.")).to_have_count(0)
        heading = page.get_by_role("heading", level=1)
        for path in ("/nowhere", "/epochs/7/lines", "/nodes/abc"):
            answer = await page.goto(path)  # as typed in full
            assert answer is not None
            assert answer.status == 404
            await expect(heading).to_have_text("There is no such page")
        await page.get_by_role("main").get_by_role("link", name="Overview").click()
        await expect(page).to_have_title("Fallow: idle infrastructure at work")
        for path, title in {
            "/sector/": "Sector",
            f"/epochs/{EPOCH}": "Epoch 7",
            f"/nodes/{NODE}": "Node 5e5e5e5e…5e5e",
        }.items():
            await page.goto(path)
            await expect(page).to_have_title(f"{title} · Fallow")
            await expect(heading).not_to_have_text("There is no such page")


async def test_who_governs_the_contracts_and_what_waits_is_for_everybody_to_see(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    filled(network)
    async with tab(running, url, viewport=PHONE, has_touch=True) as page:
        await page.goto("/governance")
        await expect(page.get_by_text("This network has no chain")).to_be_visible()
        assert await barriers(page) == []
        gateway = network.app.state.gateway
        gateway.network = msgspec.structs.replace(gateway.network, chain_id=31337, contracts=CONTRACTS)

        async def governed(_: Empty) -> GovernedView:
            return GOVERNED

        async with serve(network.bus, calls.tokens.GOVERNED, Empty, governed, queue="fake"):
            await page.reload()
            await expect(page.get_by_text("1,000 tokens").first).to_be_visible()
            await expect(page.get_by_role("row").filter(has_text="setGuardian(address)")).to_be_visible()
            await expect(page.get_by_role("row").filter(has_text="guardian").last).to_contain_text(GUARDIAN[:10])
            await expect(page.get_by_role("row").filter(has_text="25%")).to_contain_text("250")
            await expect(page.get_by_role("row").filter(has_text="mintedMax")).to_contain_text("1,000,000 tokens")
            await expect(page.get_by_role("row").filter(has_text="appealDelay")).to_contain_text("7 days")
            await expect(page.get_by_text("3 of 4 have to sign.")).to_have_count(1)
            await expect(page.get_by_text("The one account that holds some")).to_be_visible()
            assert await barriers(page) == []
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0
            rows = json.loads(await file_of(page, "JSON"))
            assert {row["kind"] for row in rows} == {"parameter", "pending", "holder"}
            units = {row["name"]: row["unit"] for row in rows}
            assert (units["appealDelay"], units["mintedMax"], units[GUARDIAN]) == ("s", "token_units", "token_units")
            (rule,) = json.loads(await file_of(page, "JSON", -1))
            assert (rule["policy"], rule["since_epoch"], rule["parameter"], rule["value"]) == (
                "rewards",
                EPOCH,
                "model",
                "work_only",
            )


async def tell(network: FakeNetwork, *happened: Happening, more: int = 0) -> None:
    """Say it as the network's services do."""
    await show(network.bus, Happenings(shown=list(happened), more=more))


def line(says: str) -> str:
    """How a line of the node reads."""
    return f"{NODE[:6]}…{NODE[-4:]} {says}"
