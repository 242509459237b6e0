"""The operator's pages in a real browser: his journey on a real network, and whether everybody can use each page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from fallow.adapters.archive import StoreArchive, folder_archive
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.settings import CORE
from fallow.domain import calls
from fallow.domain.metrics import TOLD, Told, counters, gauge, gauges, histogram
from fallow.domain.views.actions import ActionView, BanView
from fallow.domain.views.checks import EvidenceView
from fallow.domain.views.epochs import EpochView, PolicyView
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.ports.rpc import serve
from tests.browser import EACH_LOOK, PHONE, Chromium, barriers, picture, tab
from tests.epoch_world import HOLDING
from tests.golden_epoch import FIRST
from tests.golden_folder import write
from tests.integration.test_console import file_of
from tests.integration.test_console import net as net  # noqa: PLC0414 - a fixture
from tests.network import Net
from tests.unit.fake_network import BUYER_KEY, OPERATOR, OPERATOR_KEY, VIEWER_KEY, evidence_view, fake_network

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

HOSTILE = "<img src=x onerror=\"document.title='stolen'\">"
PAGES = {
    "health": "/operate",
    "refused": "/operate/refused",
    "rules": "/operate/rules",
    "what-if": "/operate/what-if",
    "doors": "/operate/doors",
}
LOG = [
    ActionView(
        id=f"{number:032x}", at=number, account=OPERATOR, key_id="operator", what=what, subject=subject, reason=reason,
        about=about,
    )
    for number, (what, subject, reason, about) in enumerate(
        [("ban", "ab" * 32, HOSTILE, ""), ("credit.grant", OPERATOR, "", "2500000"), ("new.kind", "", "", "x")]
    )
]  # fmt: skip
NUMBERS = [
    gauge("fallow_postgres_up", "Up.", 1),
    gauge("fallow_postgres_answer_seconds", "Answer.", 0.004),
    gauge("fallow_ingest_log_position", "Head.", 12),
    gauge("fallow_market_log_position", "Read.", 9),
    gauge("fallow_items_waiting", "Items.", 7),
    histogram("fallow_event_loop_late_seconds", "Late.", [0.005, 0.01], [98, 2, 0]),
    gauges("fallow_nodes", "Nodes.", "state", {"busy": 2, "idle": 3, "offline": 1}),
    counters("fallow_records_refused", "Refused.", "code", {"lease.not_open": 4}),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> StoreArchive:
    """Two closed epochs; since the second one a part of new nodes' pay is held."""
    folder = tmp_path_factory.mktemp("archive")
    write(folder, FIRST + 1, *write(folder, FIRST, b"", bytes(32)), HOLDING)
    return folder_archive(folder)


@pytest_asyncio.fixture(loop_scope="session")
async def url(archive: StoreArchive) -> AsyncIterator[str]:
    """Where the console of a network is whose services answer with something to see, and with hostile names."""
    roomy = Rate(10_000.0, 100_000)
    bad = msgspec.structs.replace(evidence_view(), code=HOSTILE)

    before = [
        msgspec.structs.replace(bad, lease=f"{number:032x}", code=code)
        for number, code in ((1, "result.wrong"), (2, "before.2"))
    ]

    async def evidence(asked: calls.base.Page) -> list[EvidenceView]:
        """One that fills a page by itself, and two behind it."""
        return {"": [bad], bad.lease: before}.get(asked.after, [])

    async with fake_network(Limits(address=roomy, sign_ins=roomy), archive=archive) as network:
        network.actions, network.bans = LOG, [BanView(subject="ab" * 32, reason=HOSTILE)]
        async with (
            serve(network.bus, calls.checks.EVIDENCE, calls.base.Page, evidence, queue="fake"),
            serving(network.app, "127.0.0.1", 0) as port,
        ):
            told = Told(process="core", roles=["market", "settle"], id="0" * 16, families=NUMBERS)
            await network.bus.publish(TOLD, msgspec.msgpack.encode(told))
            yield f"http://127.0.0.1:{port}"


async def sign_in(page: Page, key: str) -> None:
    """Sign in where a page asks for it."""
    await page.locator("#key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.locator(".menu")).to_be_visible()


async def test_health_says_what_does_not_run_and_what_waits(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate")
        await sign_in(page, OPERATOR_KEY)
        await expect(page.get_by_role("row", name="market").first).to_contain_text("runs")
        await expect(page.get_by_role("row", name="epochs Nobody runs it 0")).to_be_visible()
        await expect(page.get_by_role("row", name="PostgreSQL")).to_contain_text("answers in 4 ms")
        await expect(page.get_by_role("row", name="that the market has not read")).to_contain_text("3")
        await expect(page.get_by_role("row", name="wait for a machine")).to_contain_text("7")
        await expect(page.get_by_role("row", name="lease.not_open")).to_contain_text("4")
        await expect(page.get_by_role("row", name="core/0 market, settle")).to_contain_text("≤ 10 ms")
        over_time = page.get_by_role("img", name="Nodes by state")
        await expect(over_time.locator("rect:not(.hit)")).to_have_count(3)


async def test_whoever_does_not_operate_sees_nothing_of_it(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/log")
        await sign_in(page, BUYER_KEY)
        await expect(page.get_by_text("sign in with a key that may operate it")).to_be_visible()
        await expect(page.get_by_role("link", name="Operate")).to_have_count(0)
        for path in ("actions", "running", "evidence", "tokens", "nodes", "bans", "prices"):
            assert (await page.request.get(f"/v1/operator/{path}")).status == 403, path


async def test_a_viewer_sees_it_all_and_has_nothing_to_change_it_with(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/doors")
        await sign_in(page, VIEWER_KEY)
        await expect(page.get_by_role("row", name=HOSTILE)).to_be_visible()
        await expect(page.locator("main form, main button.primary")).to_have_count(0)
        await expect(page.get_by_role("button", name="Let in again")).to_have_count(0)
        await page.get_by_role("link", name="Log of actions").click()
        await expect(page.get_by_role("row", name="gave TEST credits")).to_be_visible()


async def test_names_that_nodes_and_people_gave_are_text(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/log")
        await sign_in(page, OPERATOR_KEY)
        await expect(page.get_by_role("cell", name=HOSTILE)).to_be_visible()
        await expect(page.get_by_role("row", name="gave TEST credits")).to_contain_text("2.50 USD")
        await expect(page.get_by_role("row", name="new.kind")).to_be_visible()
        for path in ("/operate/refused", "/operate/doors"):
            await page.goto(path)
            await expect(page.get_by_text(HOSTILE).first).to_be_visible()
        assert await page.locator("main img").count() == 0
        assert "stolen" not in await page.title()


async def test_the_log_and_refused_work_can_be_had_as_files(running: Chromium, url: str) -> None:
    async with tab(running, url, others=(f"blob:{url}",)) as page:
        await page.goto("/operate/log")
        await sign_in(page, OPERATOR_KEY)
        log = json.loads(await file_of(page, "JSON"))
        assert [(one["what"], one["reason"]) for one in log] == [(one.what, one.reason) for one in LOG]
        await page.goto("/operate/refused")
        votes = json.loads(await file_of(page, "JSON"))
        assert [one["vote_result"][:1] for one in votes] == ["f", "0", "0"]
        assert {one["code"] for one in votes} == {HOSTILE}


async def test_a_network_in_which_nothing_has_happened_says_what_to_do_next(running: Chromium) -> None:
    roomy = Rate(10_000.0, 100_000)
    async with (
        fake_network(Limits(address=roomy, sign_ins=roomy)) as network,
        serving(network.app, "127.0.0.1", 0) as port,
        tab(running, f"http://127.0.0.1:{port}") as page,
    ):
        await page.route("**/v1/operator/tokens", lambda route: route.fulfill(json=[]))
        await page.goto("/operate/rules")
        await sign_in(page, OPERATOR_KEY)
        for path, line in (("rules", "epoch close"), ("what-if", "epoch close"), ("doors", "token new")):
            await page.goto(f"/operate/{path}")
            await expect(page.locator(".empty").get_by_text(f"fallow {line}")).to_be_visible()
            assert not await barriers(page), path
        told = Told(
            process="core", roles=[], id="0" * 16, families=[gauges("fallow_nodes", "Nodes.", "state", {"idle": 0})]
        )
        await network.bus.publish(TOLD, msgspec.msgpack.encode(told))
        await page.goto("/operate")
        await expect(page.locator(".empty").get_by_text("fallow token new")).to_be_visible()
        await expect(page.get_by_role("img", name="Nodes by state")).to_have_count(0)


async def test_who_operates_and_buys_nothing_begins_with_his_own_page_and_asks_for_nothing_that_he_may_not(
    running: Chromium, url: str
) -> None:
    refused: list[str] = []
    async with tab(running, url) as page:
        page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)
        await page.goto("/sign-in")
        await sign_in(page, OPERATOR_KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Health")
        await page.goto("/account")
        await expect(page.get_by_role("heading", name="Money in and out")).to_be_visible()
        await expect(page.locator(".waiting")).to_have_count(0)
        for path in ("/jobs", "/jobs/new", "/bills", "/storage"):
            await page.goto(path)
            await expect(page.get_by_text("This page is for who buys.")).to_be_visible()
    assert refused == []


async def test_refused_work_goes_on_page_by_page(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/refused")
        await sign_in(page, OPERATOR_KEY)
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(1)
        for _ in range(2):
            await page.get_by_role("button", name="Show more").click()
            await expect(rows).to_have_count(3)
        await expect(page.get_by_role("button", name="Show more")).to_have_count(0)
        await expect(rows.nth(1)).to_contain_text("The result was not that of the others")
        await expect(rows.last).to_contain_text("before.2")


async def test_an_operator_lets_machines_in_shuts_one_out_and_finds_it_in_the_log(running: Chromium, net: Net) -> None:
    (agent, *_) = net.running.agents
    node = (await net.node(agent)).node
    key = await net.operator.create_key(scopes=("operate",), label="by hand")
    key_id = next(one.key_id for one in await net.operator.keys() if one.account == key.account)
    async with tab(running, net.url) as page:
        await page.goto("/operate/doors")
        await sign_in(page, key.secret)
        await page.get_by_label("Machines").fill("3")
        await page.get_by_role("button", name="Make a token").click()
        await expect(page.get_by_text("fallow agent join http")).to_be_visible()
        token = next(one for one in await net.operator.tokens() if one.uses_left == 3)
        await page.get_by_role("button", name=f"Revoke: {token.token_id}").click()
        await expect(page.get_by_text(token.token_id)).to_have_count(0)
        await picture(page, "network-doors")

        await page.get_by_label("Node or account").fill(node)
        await page.get_by_label("Reason").fill("it lied")
        await page.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_role("button", name="Yes, do it").click()
        row = page.get_by_role("row", name="it lied")
        await expect(row).to_be_visible()
        assert (await net.node(agent)).state == "banned"
        await row.get_by_role("button", name="Let in again").first.click()
        await page.get_by_label("Reason").fill("it was us")
        await page.get_by_role("button", name="Let in again", exact=True).last.click()
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_text("Nobody is banned.")).to_be_visible()

        await page.get_by_role("link", name="Log of actions").click()
        rows = page.get_by_role("row")
        for number, said in enumerate(("let in again", "banned", "revoked a join token", "made a join token"), 1):
            await expect(rows.nth(number)).to_contain_text(said)
            await expect(rows.nth(number)).to_contain_text(key_id)
        await expect(rows.nth(1)).to_contain_text("it was us")
        await picture(page, "network-log")

        await page.get_by_role("link", name="Health").click()
        for role in (*CORE, "gateway", "s3"):
            await expect(page.get_by_role("row", name=f"{role} runs 1")).to_be_visible()
        await picture(page, "network-health")

        await page.goto("/account")
        await page.get_by_label("Amount (USD)").fill("2.5")
        await page.get_by_role("button", name="Give").click()
        await expect(page.get_by_label("Amount (USD)")).to_have_value("")
        assert (await net.operator.balance_of(key.account)).spendable["granted"] == 2_500_000
    await net.on_market(*net.running.agents)


async def test_an_operator_sees_what_other_rules_would_have_come_to(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/rules")
        await sign_in(page, OPERATOR_KEY)
        changed = page.get_by_role("region", name="What changed").get_by_role("row", name="held.withheld_ppm")
        await expect(changed).to_contain_text("75%, 33.3333%")
        await expect(page.get_by_role("row", name="Fee, of what buyers pay 8%")).to_be_visible()
        await expect(page.get_by_role("row", name="a terabyte of pieces for 720 hours")).to_contain_text("1.67 USD")
        await page.get_by_role("link", name="What if").first.click()
        compute = page.get_by_role("button", name="Compute")
        await page.get_by_label("Held in each step").fill("half")
        await expect(page.get_by_text("No value for: Held in each step")).to_be_visible()
        await expect(compute).to_be_disabled()
        await page.get_by_label("Held in each step").fill("50")
        await expect(page.get_by_label("Weight of Compute", exact=True)).to_be_visible()
        await page.get_by_label("Incentive, at most of fees").fill("40")
        await page.route("**/v1/operator/what-if", lambda _: None)  # it would be computed before anybody says stop
        await compute.click()
        await page.get_by_role("button", name="Stop").click()
        await page.unroute("**/v1/operator/what-if")
        await compute.click()
        await expect(page.get_by_text("Computed 2 epochs.")).to_be_visible()
        plot = page.get_by_role("img", name="Incentive minted")
        for kind in ("outline", "incentive"):
            await expect(plot.locator(f"rect.{kind}")).to_have_count(1)
        await expect(page.get_by_role("row", name=str(FIRST)).last).to_contain_text("0.00004 → 0.000016")
        await expect(page.get_by_role("region", name="By account").get_by_role("row").nth(1)).to_contain_text("→")
        await expect(page.get_by_text("withheld_ppm = [500000]")).to_be_visible()
        await page.get_by_label("Other rules").fill("cap=5")
        await compute.click()
        await expect(page.get_by_role("alert").filter(has_text="epoch.rules")).to_be_visible()
        await expect(page.get_by_text("Computed 2 epochs.")).to_have_count(0)


async def test_who_sets_the_fee_is_told_first_what_an_owner_has_of_a_dollar(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/rules")
        await sign_in(page, VIEWER_KEY)
        await expect(page.get_by_role("row", name="Fee, of what buyers pay 8%")).to_be_visible()
        await expect(page.get_by_role("button", name="Set the fee")).to_have_count(0)
    async with tab(running, url) as page:
        await page.goto("/operate/rules")
        await sign_in(page, OPERATOR_KEY)
        await page.get_by_label("Fee (%)").fill("12")
        await page.get_by_role("button", name="Set the fee").click()
        meant = page.get_by_text(
            "an owner will have 0.88 USD; now he has 0.92 USD. Of the fee, 20% goes to the reserve."
        )
        await expect(meant).to_contain_text("it holds in a day")
        following = page.get_by_text("12%, of which 20% for the reserve.")
        await expect(following).to_have_count(0)
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(following).to_be_visible()
        assert await barriers(page) == []
        await picture(page, "network-fee")

        await page.get_by_label("Fee (%)").fill("8")
        await page.get_by_role("button", name="Set the fee").click()
        await expect(page.get_by_text("It holds at once")).to_be_visible()
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(following).to_have_count(0)
        await expect(page.get_by_role("row", name="Fee, of what buyers pay 8%")).to_be_visible()


async def test_who_sets_prices_by_the_meter_is_told_first_for_whom_and_from_when(running: Chromium, url: str) -> None:
    async with tab(running, url) as page:
        await page.goto("/operate/rules")
        await sign_in(page, OPERATOR_KEY)
        stored = page.get_by_label("USD for a terabyte of pieces for 720 hours")
        await expect(stored).to_have_value("1.666667")
        await expect(page.get_by_role("heading", name="Storage: prices by the meter", exact=True)).to_be_visible()
        await stored.fill("2.5")
        await page.get_by_role("button", name="Set the prices").click()
        await expect(page.get_by_text("will pay 2.50 USD; now they pay 1.67 USD")).to_contain_text(
            "have 2.30 USD of it"
        )
        await expect(page.get_by_text("a terabyte that nodes send: new subscriptions")).to_have_count(0)
        await expect(page.get_by_text("It holds at once, for subscriptions")).to_be_visible()
        assert await barriers(page) == []
        await page.get_by_role("button", name="Yes, do it").click()
        row = page.get_by_role("row", name="storage: a terabyte of pieces for 720 hours")
        await expect(row).to_contain_text("2.50 USD")
        await stored.fill("1.25")
        await page.get_by_role("button", name="Set the prices").click()
        await expect(page.get_by_text("so it holds in a day")).to_be_visible()
        await page.get_by_role("button", name="Yes, do it").click()
        following = page.get_by_text("a terabyte of pieces for 720 hours 1.25 USD")
        await expect(following).to_be_visible()
        await expect(row).to_contain_text("2.50 USD")
        await picture(page, "network-tariff")
        await page.goto("/networks/storage")
        await expect(page.get_by_text("1.25 USD from")).to_be_visible()


async def test_whoever_is_banned_is_found_behind_the_first_page_and_an_action_sent_again_is_the_same(
    running: Chromium, url: str
) -> None:
    bans = [BanView(subject=one * 32, reason=reason) for one, reason in (("01", "spam"), ("02", "it lied"))]
    ids: list[str] = []

    async def page_of(route: Route) -> None:
        after = route.request.url.partition("after=")[2]
        await route.fulfill(json=[msgspec.to_builtins(one) for one in bans if one.subject > after][:1])

    async def act(route: Route) -> None:
        ids.append((route.request.post_data_json or {})["id"])
        await (route.abort() if len(ids) == 1 else route.continue_())

    async with tab(running, url) as page:
        await page.route("**/v1/operator/bans?*", page_of)
        await page.route("**/v1/operator/actions", act)
        await page.goto("/operate/doors")
        await sign_in(page, OPERATOR_KEY)
        await expect(page.get_by_role("cell", name="it lied")).to_be_visible()
        for reason in ("first", "second"):
            await page.get_by_label("Node or account").fill("01" * 32)
            await page.get_by_label("Reason").fill(reason)
            await page.get_by_role("button", name="Ban", exact=True).click()
            if reason == "first":
                await page.get_by_role("button", name="Yes, do it").click()
                await expect(page.get_by_role("alert")).to_contain_text("offline")
            await page.get_by_role("button", name="Yes, do it").click()
            await expect(page.get_by_label("Reason")).to_have_value("")
        first, again, second = ids
        assert first == again != second


@pytest.mark.parametrize(
    ("changed", "since"), [((2, 1, 1), "9"), ((2, 2, 2), "7 or before"), ((2, 0, 1), "9 or before")]
)
async def test_since_when_a_rule_holds_is_said_only_where_it_is_known(
    running: Chromium, url: str, changed: tuple[int, ...], since: str
) -> None:
    """An epoch without a version is damaged. What a rule says is in units that people know, beside what is pinned."""
    rules = {
        "cap_ppm": "500000",
        "guard": {"age_max_ms": "600000"},
        "price": "250000",
        "token": "c0" * 20,
        "unsold": {"storage": "100000"},
    }
    epochs = [
        EpochView(
            epoch=9 - at, from_ms=0, until_ms=1, statement="aa", manifest="aa", previous="aa", root="", batches=0,
            records=0, files=[], damaged="" if version else "torn",
            policies=[PolicyView(name="rewards", version=version, digest=f"{version:064x}", parameters=rules)]
            if version else [],
        )
        for at, version in enumerate(changed)
    ]  # fmt: skip
    async with tab(running, url) as page:
        told = [msgspec.to_builtins(one) for one in epochs]
        await page.route("**/v1/epochs?*", lambda route: route.fulfill(json=told))
        await page.goto("/operate/rules")
        await sign_in(page, OPERATOR_KEY)
        row = page.get_by_role("region", name="Policies").get_by_role("row", name="rewards")
        await expect(row.get_by_role("link")).to_have_text(since)
        await expect(row.get_by_text("was version")).to_have_count(1 if changed[1] != 2 else 0)
        await expect(row.locator(".parameters div")).to_have_text(
            [
                "cap_ppm 50% (500000)",
                "guard.age_max_ms 10 minutes (600000)",
                "price 0.25 USD (250000)",
                f"token 0x{'c0' * 20}",
                "unsold.storage 10% (100000)",
            ]
        )
        what = page.get_by_role("region", name="What changed").get_by_role(
            "row", name="version 1 (00000000) 2 (00000000)"
        )
        await expect(what.get_by_role("link")).to_have_text([since] if changed[1] != 2 else [])


@EACH_LOOK
async def test_every_page_can_be_used_by_everybody(
    running: Chromium, url: str, look: str, options: dict[str, Any]
) -> None:
    async with tab(running, url, **options) as page:
        await page.goto("/operate")
        await sign_in(page, OPERATOR_KEY)
        for name, path in {**PAGES, "log": "/operate/log"}.items():
            await page.goto(path)
            await expect(page.locator("h1")).to_be_visible()
            await expect(page.locator(".waiting")).to_have_count(0)
            if name == "what-if":
                await page.locator("form button.primary").click()
                await expect(page.locator("ol")).to_be_visible()
            assert "\n".join(await barriers(page)) == "", name
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is wider than the screen"
            await picture(page, f"operator-{look}-{name}")


async def test_on_a_phone_all_pages_are_in_one_line_that_a_keyboard_scrolls(running: Chromium, url: str) -> None:
    async with tab(running, url, viewport=PHONE, has_touch=True) as page:
        await page.goto("/operate")
        await sign_in(page, OPERATOR_KEY)
        links = page.get_by_role("navigation", name="Explorer").get_by_role("link")
        await expect(links.last).to_have_attribute("aria-current", "page")
        await expect(links.last).to_be_in_viewport(ratio=0.95)  # it begins where the reader is
        await expect(links.first).not_to_be_in_viewport()
        assert await links.evaluate_all("all => new Set(all.map((one) => one.getBoundingClientRect().y)).size") == 1
        await links.first.focus()
        for link in await links.all():
            await expect(link).to_be_focused()
            await expect(link).to_be_in_viewport(ratio=0.95)
            await page.keyboard.press("Tab")
