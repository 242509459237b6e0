"""The console of who provides machines, in a real browser: what it shows of them, and a journey on a real network."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from fallow.agent.asking import in_force, load_asked
from fallow.agent.owner import Owner
from fallow.agent.policy_file import IdlePolicy, save_policy
from fallow.agent.rules import Rules
from fallow.bootstrap.http_server import serving
from fallow.domain.epochs.by_vertical import NETWORKS, VerticalSums
from fallow.domain.epochs.lines import Kept, Line, Money, write_lines
from fallow.domain.epochs.manifest import path_of
from fallow.domain.facts import LeaseSettled, Moved
from fallow.domain.identity import address
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.market import AmountView
from fallow.domain.views.money import EarnedView, EarningsView
from fallow.domain.views.nodes import DayView, OwnLeaseView, RefusalView
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.ports.tasks import background
from tests.browser import EACH_LOOK, Chromium, picture, tab, unanswered
from tests.closed_epochs import ClosedEpoch
from tests.epoch_files import Node
from tests.integration.test_console import net as net  # noqa: PLC0414 - a fixture
from tests.integration.test_console_buyer import HOSTILE, Signed, enter, usable
from tests.network import Net, fallow, until_async
from tests.unit.agent_fakes import FakeClock
from tests.unit.fake_network import (
    OTHER_KEY,
    PROVIDER,
    PROVIDER_KEY,
    FakeNetwork,
    fake_network,
    lender_view,
    node_view,
    own_node_view,
)
from tests.unit.owner_fakes import TERMS, FakeProbes, new_owner

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

EPOCH = 7
HOUR_MS = 3_600_000
BUSY, WRONG = "01" * 32, "02" * 32
FILE = IdlePolicy(console=True, cpu_percent=50, price_usd_per_core_hour=0.02, console_price_percent=50)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """Of the first machine; his file lets the console ask."""
    save_policy(tmp_path, FILE)
    return new_owner(tmp_path, FakeProbes(), FakeClock())


@pytest_asyncio.fixture(loop_scope="session")
async def signed(owner: Owner) -> AsyncIterator[Signed]:
    """A network over HTTP, with a provider who has machines in every state; the first one answers for itself."""
    roomy = Rate(10_000.0, 100_000)
    async with (
        fake_network(Limits(address=roomy, sign_ins=roomy)) as network,
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        filled(network)
        for node in (BUSY, WRONG):
            await network.enrol(node, PROVIDER)
        answers = Rules(owner, network.clock, node=BUSY, account=PROVIDER).run(network.bus)
        async with background(answers):
            yield Signed(network, f"http://127.0.0.1:{port}")


def filled(network: FakeNetwork) -> None:
    """Machines that work, wait, were wrong and are gone; what they earned; and an epoch with what was held."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    lease = OwnLeaseView(
        id="aa" * 16, vertical="compute", price_microusd_per_hour=40_000, started_at=now_ms - HOUR_MS,
        running_ms=HOUR_MS, spot=True, owed_microusd=0,
    )  # fmt: skip
    busy = node_view(BUSY, "barn", state="busy", attributes={"score.cpu": "412", "os": "linux"})
    wrong = node_view(WRONG, HOSTILE, wrong=2, missed=3, why="result.wrong")
    gone = node_view("03" * 32, "", state="offline", last_seen_at=now_ms - 9 * HOUR_MS)
    paused = node_view("04" * 32, "attic", state="paused")
    day = DayView(at=now_ms, slot_ms=300_000, slots="0" * 144 + "2" * 100 + "a" * 4 + "1" * 40)
    refusal = RefusalView(boot=1, seq=2, code="usage.late", at=now_ms)
    network.owned[PROVIDER] = [
        own_node_view(BUSY, "barn", offer=busy, leases=[lease], enrolled_at=now_ms - 90 * 24 * HOUR_MS, day=day),
        own_node_view(WRONG, HOSTILE, offer=wrong, suspended_until=now_ms + HOUR_MS, refused=[refusal]),
        own_node_view("03" * 32, "", offer=gone),
        own_node_view("04" * 32, "attic", offer=paused),
        own_node_view("05" * 32, "new"),
        own_node_view("06" * 32, "shut", banned_reason="sold what it had not"),
    ]
    network.lenders[PROVIDER] = [lender_view(BUSY, now_ms)]
    hour = now_ms - now_ms % HOUR_MS
    network.earned[PROVIDER] = EarningsView(
        hours=[
            EarnedView(at=hour - n * HOUR_MS, earned={"paid": 40_000 - n, "granted": 7}) for n in (0, 1, 2, 3, 4, 48)
        ],
        from_ms=now_ms - 48 * HOUR_MS,
        whole=True,
    )
    network.nodes = [
        msgspec.structs.replace(
            busy, terms=Terms(price_microusd_per_core_hour=20_000), total=Resources(cpu_milli=4000, memory_mib=1)
        )
    ]
    network.market = msgspec.structs.replace(
        network.market, offered=AmountView(cpu_milli=4000), sold=AmountView(cpu_milli=1000)
    )
    said = [Node(9).batch(*settlements())]
    closed = ClosedEpoch(epoch=EPOCH, said=said, more={"lines": write_lines([*lines()])})
    for name, content in closed.files.items():
        network.archive.put(path_of(EPOCH, name), content)


def settlements() -> list[LeaseSettled]:
    """Two of his machine's leases, and one of somebody else's."""
    mine = LeaseSettled(
        vertical="compute", lease=b"\x11" * 16, node=bytes.fromhex(BUSY), payee=address(PROVIDER), spot=False,
        resources=Resources(cpu_milli=1000, memory_mib=1), price_microusd_per_hour=1, checks=False, window=0,
        charged_ms=1, moved=[Moved(credit=2, income=3_000_000, fee=310_000, reserve=90_000)], final=True, ok=True,
    )  # fmt: skip
    taken_back = msgspec.structs.replace(
        mine, lease=b"\x22" * 16, moved=[], ok=False, reason="owner.paused", caused_by="owner"
    )
    return [mine, taken_back, msgspec.structs.replace(mine, lease=b"\x33" * 16, payee=bytes(20))]


def lines() -> list[Line]:
    """The provider's line, and one that is somebody else's."""
    kept = Kept("incentive", amount(10**17), amount(0), amount(2 * 10**17), amount(5 * 10**16), amount(0), "")
    own = Line(
        "compute", bytes.fromhex(BUSY), address(PROVIDER), 3600, 910_000, amount(3_100_000), amount(8 * 10**18),
        [Money(2, True, 3_000_000, 310_000, 90_000, 0, 0), Money(2, False, 80_000, 0, 0, 0, 20_000)],
        [("accepted", "", 12), ("rejected", "usage.late", 1)], [("owner.paused", "owner", 2)], [kept],
    )  # fmt: skip
    return [own, own._replace(node=bytes(32), account=bytes(20), usage=amount(999_000_000))]


def amount(value: int) -> bytes:
    """As lines have it."""
    return value.to_bytes(32)


async def test_a_provider_sees_what_his_machines_do_and_why_they_do_not(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/sign-in")
        await enter(page, PROVIDER_KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Your machines")
        await expect(page.get_by_text("0.04 USD an hour now")).to_be_visible()
        await expect(page.get_by_text("Pay this month (Lent disk): 0.12 USD so far, 0.31 USD expected")).to_be_visible()
        await expect(page.get_by_role("link", name="Jobs")).to_have_count(0)
        machines = page.get_by_role("region", name="machines")
        for name, why in (
            ("attic", "Its owner's rules keep it closed"),
            ("new", "The market has no offer of it yet"),
            ("shut", "Banned by the operator: sold what it had not"),
            ("030303", "Not heard of since"),
        ):
            await expect(machines.get_by_role("row", name=re.compile(f"^{name}"))).to_contain_text(why)
        alerts = page.locator(".alerts")
        await expect(alerts).to_contain_text("It gave a wrong result (result.wrong) and gets no work until")
        await expect(alerts).to_contain_text("It missed 3 roll calls")
        await expect(alerts).to_contain_text("The network refused records of it: usage.late")
        await expect(alerts).to_contain_text(
            "its audit score is 0.9725, and below 0.96 all that it keeps counts as lost"
        )
        await expect(alerts).to_contain_text("for piece 707070707070: failed: storage.no_piece, after 81 ms.")
        day = "Last 24 hours: not seen 50%, idle 34.7%, offline 1.4%, busy 13.9%"
        await expect(machines.get_by_role("img", name=day)).to_have_count(1)
        await machines.get_by_role("button", name="barn").click()
        await expect(machines.get_by_role("img", name=day)).to_have_count(2)
        told = [text for text in await machines.locator("title").all_text_contents() if "offline" in text]
        assert [text.endswith(" · offline, idle") for text in told] == [True, True]
        works_on = page.get_by_role("region", name="Works on now")
        await expect(works_on.get_by_role("row", name="compute")).to_contain_text("spot")
        await expect(page.get_by_text("412", exact=True)).to_be_visible()
        await expect(
            page.get_by_text("0.12 USD so far, 0.31 USD expected if it goes on so", exact=True)
        ).to_be_visible()
        await expect(page.get_by_text("93%, below 60% nothing new comes")).to_be_visible()
        await expect(page.get_by_text("3 GB; 400 MB more for repairs", exact=True)).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
        assert "stolen" not in await page.title()


async def test_a_provider_asks_his_machine_for_rules_and_sees_what_it_took(
    running: Chromium, signed: Signed, owner: Owner, tmp_path: Path
) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        await page.get_by_role("button", name="barn").click()
        rules = page.get_by_role("region", name="Rules and price")
        await expect(rules).to_contain_text("At most 50% of the cores and 100% of the memory, never on battery")
        await expect(rules).to_contain_text("Of the 1 machines that are here a quarter ask 0.02 USD or less")
        assert await rules.get_by_label("Cores, at most").get_attribute("max") == "50"
        await rules.get_by_label("Cores, at most").fill("25")
        await rules.get_by_label("Only after you were away for").press("ArrowRight")
        await rules.get_by_label("Price for a core and hour").fill("0.015")
        await expect(rules).to_contain_text("Only after 1 idle minutes, at most 25% of the cores")
        await rules.get_by_label("Only in these local hours").fill("monday")
        await rules.get_by_role("button", name="Ask the machine").press("Enter")
        await expect(rules.get_by_role("alert")).to_contain_text("'monday' is no range of hours")
        await rules.get_by_label("Only in these local hours").fill("daily 01:00-06:00")
        await rules.get_by_role("button", name="Ask the machine").press("Enter")
        await expect(rules.get_by_role("status").last).to_contain_text("The machine has taken it: it is in force.")
        await expect(rules.get_by_role("list")).to_contain_text("key provider · in force")
        asked = load_asked(tmp_path)
        assert asked is not None
        holds = in_force(FILE, asked, TERMS).policy
        assert (holds.cpu_percent, holds.away_minutes, holds.hours) == (25, 1, ("daily 01:00-06:00",))
        assert holds.price_usd_per_core_hour == 0.015
        # What the machine is stricter in is held back there, and said here.
        save_policy(tmp_path, msgspec.structs.replace(FILE, cpu_percent=10))
        await owner.look()
        await page.reload()
        await page.get_by_role("button", name="barn").click()
        await expect(rules).to_contain_text("Its own file is stricter, and holds: cores.")
        # A machine that takes no rules from here says how to let it.
        save_policy(tmp_path, IdlePolicy())
        await owner.look()
        await page.reload()
        await page.get_by_role("button", name="barn").click()
        await expect(rules).to_contain_text("fallow agent policy set console=true")


async def test_what_was_earned_is_shown_apart_with_what_is_held_and_why(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        hours = page.get_by_role("region", name="Usage by the hour")
        await expect(hours).to_contain_text(re.compile(r"0\.19999 USD\s+in 48 hours"))
        epochs = page.get_by_role("region", name="By epoch, and why")
        row = epochs.get_by_role("row", name="compute")
        await expect(row).to_contain_text("3.10 USD")
        await expect(row).to_contain_text("8")
        await expect(row).to_contain_text("0.3 tokens")
        await row.get_by_role("button", name="Why").click()
        for sentence in ("3,600 units metered, with a score of 91%", "12 records accepted", "caused by the owner"):
            await expect(epochs).to_contain_text(sentence)
        raises = epochs.get_by_role("heading", name="What would raise it").locator("+ ul")
        await expect(raises).to_contain_text("Its score is 91%: results that others confirm, ten in a row")
        await expect(raises).to_contain_text("1 of its records were rejected and earn nothing")
        await expect(raises).to_contain_text("A part is held because the node is new")
        await expect(epochs).to_contain_text("fallow epoch explain 7")
        assert "999.00 USD" not in await page.content()


async def test_each_step_from_what_buyers_paid_to_what_is_owed_opens_the_records_behind_it(
    running: Chromium, signed: Signed
) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        epochs = page.get_by_role("region", name="By epoch, and why")
        await epochs.get_by_role("row", name="compute").get_by_role("button", name="Why").click()
        await expect(epochs.locator("summary")).to_have_text(
            [
                re.compile(step)
                for step in (
                    r"Buyers paid\s+3\.40 USD", r"Network's fee\s+. 0\.31 USD", r"Reserve\s+. 0\.09 USD",
                    r"Checks of the network\s+\+ 0\.08 USD", r"Made good\s+\+ 0\.02 USD",
                    r"Owed by this epoch\s+= 3\.10 USD",
                    r"Earned\s+8 tokens", r"Held\s+. 0\.1 tokens", r"Vests later\s+. 0\.2 tokens",
                    r"Vested now\s+\+ 0\.05 tokens", r"Owed by this epoch\s+= 7\.75 tokens",
                )
            ]
        )  # fmt: skip
        await epochs.locator("summary").filter(has_text="Buyers paid").click()
        records = epochs.get_by_role("region", name="Records behind it")
        await expect(records.get_by_role("row")).to_have_count(3)
        await expect(records.get_by_role("row", name="11111111")).to_contain_text("ended with its result")
        await expect(records.get_by_role("row", name="22222222")).to_contain_text("owner.paused caused by the owner")
        await picture(page, "why")
        await page.route("**/files/records/lease.settled", lambda route: route.fulfill(body=b"something else"))
        await epochs.locator("summary").filter(has_text="Network's fee").click()
        await expect(epochs.get_by_role("alert")).to_contain_text("is not the one that was signed for")


async def test_what_came_in_today_and_in_a_month_is_at_the_head(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        today = page.get_by_role("region", name="today")
        await expect(today).to_contain_text("0.239942 USD in 30 days")
        await expect(today).to_contain_text("This network mints no token")
        assert await today.get_by_role("img", name="Usage by the day").locator("rect.usage").count() in {2, 3}
        await expect(today.get_by_text("as of")).to_have_count(2)


async def test_nothing_was_earned_only_where_all_epochs_were_read(running: Chromium, signed: Signed) -> None:
    async def torn(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json=[{**view, "damaged": "torn"} for view in await answer.json()])

    async with tab(running, signed.url) as page:
        await page.route("**/v1/epochs?*", torn)
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        epochs = page.get_by_role("region", name="By epoch, and why")
        await expect(epochs).to_contain_text("Epoch 7: what it earned there was not read. torn")
        await expect(epochs).not_to_contain_text("Nothing in the latest epochs.")


async def test_the_calculator_begins_with_what_is_asked_and_sold_here(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        await expect(page.get_by_label("Price for a core and hour")).to_have_value("0.02")
        await expect(page.get_by_label("Network's fee")).to_have_value("8")
        await expect(page.get_by_label("Sold (% of the time)")).to_have_value("25")
        sums = page.get_by_role("region", name="Is it worth the power?").locator("dd")
        await expect(sums).to_have_text(["13.43 USD", "-1.83 USD", "11.61 USD", "0.002718 USD"])
        await page.get_by_label("Network's fee").fill("0")
        await expect(sums.first).to_have_text("14.60 USD")
        await page.get_by_label("Cores").fill("")
        await expect(sums).to_have_text(["—"] * 4)


async def test_the_calculator_goes_by_what_the_month_sold_or_says_that_nothing_was(
    running: Chromium, signed: Signed
) -> None:
    network = signed.network
    network.market = msgspec.structs.replace(network.market, sold=AmountView())
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        sold = page.get_by_label("Sold (% of the time)")
        await expect(page.get_by_text("Nothing was sold here lately: 20% is an example")).to_be_visible()
        await expect(sold).to_have_value("20")
        a_tenth_of_a_day = VerticalSums(vertical="compute", nodes=1, charged_core_s=4 * 8_640)
        network.archive.put(path_of(EPOCH, NETWORKS), msgspec.json.encode([a_tenth_of_a_day]))
        network.clock.advance(60_000)
        await page.reload()
        await expect(page.get_by_text("Closed epochs (30 days) sold 10% of the core hours")).to_be_visible()
        await expect(sold).to_have_value("10")


async def test_half_of_the_machines_ask_the_price_that_the_calculator_says(running: Chromium, signed: Signed) -> None:
    (cheap,) = signed.network.nodes
    dear = Terms(price_microusd_per_core_hour=90_000)
    signed.network.nodes.append(msgspec.structs.replace(cheap, node="ff" * 32, terms=dear))
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, PROVIDER_KEY)
        await expect(page.get_by_text("Half of the 2 machines that are here ask 0.02 USD or less")).to_be_visible()


async def test_who_only_buys_is_told_how_a_machine_becomes_his(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/provider")
        await enter(page, OTHER_KEY)
        await expect(page.get_by_role("heading", name="No machine of this account is enrolled.")).to_be_visible()
        await expect(page.get_by_text("scope.missing")).to_have_count(0)
        await expect(page.get_by_role("navigation").get_by_role("link", name="Provide")).to_have_count(0)


@EACH_LOOK
async def test_the_page_can_be_used_by_everybody(
    running: Chromium, signed: Signed, look: str, options: dict[str, Any]
) -> None:
    async with tab(running, signed.url, **options) as page:
        await page.goto("/provider")
        await page.locator("#key").fill(PROVIDER_KEY)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="barn").press("Enter")
        await expect(page.get_by_role("slider").first).to_be_visible()
        await usable(page, f"{look}-provider")


async def test_on_a_real_network_a_provider_sees_his_machine_at_work_and_what_it_earned(
    running: Chromium, net: Net
) -> None:
    async with net.agent("granary") as agent:
        said = await fallow("agent", "key", "--home", agent.home, "--json")
        key = json.loads(said.out)["key"]
        async with tab(running, net.url) as page:
            await page.goto("/sign-in")
            await enter(page, key)
            row = page.get_by_role("region", name="machines").get_by_role("row", name="granary")
            await expect(row).to_contain_text("idle")
            await page.get_by_role("button", name="granary").click()
            rules = page.get_by_role("region", name="Rules and price")
            await expect(rules).to_contain_text("fallow agent policy set console=true")
            async with unanswered(page, "**/rules"):  # it is asked again with each look at all machines, too
                assert (await fallow("agent", "policy", "set", "console=true", "--home", agent.home)).code == 0
                while "may ask for stricter rules" not in (await fallow("agent", "status", "--home", agent.home)).out:
                    pass  # it looks at its policy once a second
                await rules.get_by_role("button", name="Ask again").last.click()
            await rules.get_by_label("Memory, at most").fill("90")
            await rules.get_by_role("button", name="Ask the machine").click()
            await expect(rules.get_by_role("list")).to_contain_text("in force")
            status = json.loads((await fallow("agent", "status", "--home", agent.home, "--json")).out)
            assert status["owner"]["asked"]["rules"]["memory_percent"] == 90
            assert "At most 90 % of the memory." in status["owner"]["policy"]
            await net.finished((await net.submit([2], on=[agent])).id)
            await page.reload()
            hours = page.get_by_role("region", name="Usage by the hour")
            await expect(hours.get_by_text("TEST")).to_be_visible()
            await picture(page, "network-provider")
            mine = await net.client(key)

            async def shown() -> bool:
                """The network may just check the machine with work of its own, which is paid, too."""
                await page.reload()
                earned = (await mine.balance()).earned["granted"]
                return earned > 0 and f"{earned / 1e6:.6f}".rstrip("0") in await hours.locator(".sum").inner_text()

            await until_async(shown, "what was earned is shown")
