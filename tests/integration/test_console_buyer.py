"""The console for whoever signs in, in a real browser: a buyer's journey on a real network, its looks and dangers."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio
from coincurve import PrivateKey
from playwright.async_api import Download, FilePayload, Page, Route, expect

from fallow import AsyncClient
from fallow.bootstrap.http_server import serving
from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.domain.identity import address_text
from fallow.domain.orders import Order
from fallow.domain.views.alerts import ChannelView
from fallow.domain.views.money import SpendingView, SpentView
from fallow.domain.wallets import address_of, checksum_address, sign_text
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.verticals.compute.core.outcome import Outcome, Output, encode_outcome
from tests.browser import EACH_LOOK, Chromium, barriers, picture, tab, unanswered
from tests.integration.test_console import net as net  # noqa: PLC0414 - a fixture
from tests.network import Net, until_async
from tests.unit.fake_network import (
    ALERTS_CODE,
    BUYER,
    BUYER_KEY,
    NET,
    FakeNetwork,
    fake_network,
    item_view,
    job_view,
    lease_view,
)
from tests.unit.test_http_server import own_tls

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

WALLET_SCRIPT = """
window.ethereum = {
  async request({ method, params }) {
    const answer = await window.askedOfWallet(method, params);
    if (answer === "") throw { code: 4001, message: "The request was declined." };
    return answer;
  },
};
"""
JOB = "5" * 32
HOSTILE = "<img src=x onerror=\"document.title='stolen'\">\u202e</td><script>document.title='stolen'</script>"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360f8cfc0f01f00050001ff"
    "a3c5b10000000049454e44ae426082".replace(" ", "")
)
FIRST_PIXEL = """image => {
  const drawn = new OffscreenCanvas(1, 1).getContext("2d");
  drawn.drawImage(image, 0, 0);
  return [...drawn.getImageData(0, 0, 1, 1).data];
}"""


class Signed(NamedTuple):
    """A network whose services answer what a test wants, and where its console is."""

    network: FakeNetwork
    url: str


@pytest_asyncio.fixture(loop_scope="session")
async def signed() -> AsyncIterator[Signed]:
    """A network over HTTP, with a job of the buyer's."""
    roomy = Rate(10_000.0, 100_000)
    async with (
        fake_network(Limits(address=roomy, sign_ins=roomy)) as network,
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        await filled(network)
        yield Signed(network, f"http://127.0.0.1:{port}")


async def stored(network: FakeNetwork, data: bytes) -> str:
    """Store a blob of the buyer's."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    name = hashlib.sha256(data).hexdigest()
    await network.blobs.put(BUYER[2:], name, chunks(), bytes_max=len(data))
    return name


async def filled(network: FakeNetwork) -> None:
    """A job that has ended with files of every kind, all of whose names are hostile."""

    async def left(name: str, data: bytes) -> Output:
        return Output(name=name, sha256=await stored(network, data), size=len(data))

    outcome = Outcome(
        exit_code=0,
        reason="",
        stdout=await left("stdout", HOSTILE.encode()),
        stderr=await left("stderr", b""),
        outputs=[
            await left(f"{HOSTILE}.csv", f"name,value\n{HOSTILE},1\n".encode() + 120 * (b"1," * 99 + b"1\n")),
            await left("page.html", HOSTILE.encode()),
            await left("pixel.png", PIXEL),
            await left("tile.ppm", b"P6\n2 1\n255\n\xff\xfe\xfd"),  # cut off: it says that there are two pixels
        ],
    )
    result = await stored(network, encode_outcome(outcome))
    order = Order(id=JOB, vertical="compute", work={}, label=HOSTILE[:80].replace("\u202e", ""))
    network.orders[JOB] = (BUYER, order)
    network.jobs[JOB] = msgspec.structs.replace(job_view(JOB, "done"), label=order.label, counts={"done": 1})
    network.items[JOB] = [item_view(0, "done", result)]


async def pixmap(network: FakeNetwork) -> str:
    """The result of an item that left an orange line, as programs write pictures that have no library to do it."""
    data = b"P6\n# a line\n3 1\n255\n" + 3 * b"\xff\x80\0"
    none = Output(name="none", sha256=await stored(network, b""), size=0)
    drawn = Output(name="drawn.ppm", sha256=await stored(network, data), size=len(data))
    return await stored(
        network, encode_outcome(Outcome(exit_code=0, reason="", stdout=none, stderr=none, outputs=[drawn]))
    )


async def read(download: Download) -> str:
    """What was downloaded."""
    path = await download.path()
    return await asyncio.to_thread(path.read_text, "utf-8")


async def sign_in(page: Page, key: str) -> None:
    """Sign in as a person does."""
    await page.get_by_role("link", name="Sign in").click()
    await enter(page, key)


async def enter(page: Page, key: str) -> None:
    """Show a key where it is asked for."""
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()


async def sign_out(page: Page) -> None:
    """Sign out as a person does."""
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("button", name="Sign out").click()


async def test_who_signs_in_sees_his_jobs_and_who_signs_out_does_not(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.goto("/jobs")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to lab-1")
        await page.get_by_label("API key").fill("fk_wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("auth.key")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        assert await page.evaluate("document.cookie") == ""
        kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage])")
        assert BUYER_KEY not in kept
        await sign_out(page)
        await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        await page.goto(f"/jobs/{JOB}")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to lab-1")


async def test_a_wallet_signs_its_holder_in(running: Chromium, signed: Signed) -> None:
    """The wallet is what a browser's extension puts into each page: it declines at first."""
    wallet, signed_texts, declines = PrivateKey(b"\x07" * 32), list[str](), [True]
    account = address_text(address_of(wallet))

    def asked(method: str, params: list[str]) -> list[str] | str:
        if method == "eth_requestAccounts":
            return [checksum_address(address_of(wallet))]
        if declines.pop():
            return ""
        text = bytes.fromhex(params[0][2:]).decode()
        assert (method, params[1]) == ("personal_sign", account)
        signed_texts.append(text)
        return "0x" + sign_text(wallet, text).hex()

    async with tab(running, signed.url) as page:
        await page.goto("/jobs")
        await expect(page.get_by_role("button", name="Sign in")).to_have_count(1)
        await page.expose_function("askedOfWallet", asked)
        await page.add_init_script(WALLET_SCRIPT)
        await page.goto("/jobs")
        button = page.get_by_role("button", name="Sign in with your wallet")
        await button.click()
        await expect(page.get_by_role("alert")).to_contain_text("wallet.declined")
        assert not await barriers(page)
        declines[:] = [False]
        await button.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        assert signed_texts[0].startswith(signed.url.removeprefix("http://") + " wants you to sign in")
        await sign_out(page)
        await expect(page.get_by_role("link", name="Sign in")).to_be_visible()


async def test_what_a_job_left_is_shown_and_never_run(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.goto("/")
        await sign_in(page, BUYER_KEY)
        await page.get_by_role("link", name="<img src=x").click()
        await expect(page.get_by_role("img", name="pixel.png")).to_be_visible()
        await expect(page.get_by_role("img", name="pixel.png")).to_have_js_property("naturalWidth", 1)
        shown = HOSTILE.replace("\u202e", "\\u202e")  # else it turns round what is written beside it
        await expect(page.get_by_role("region", name=f"{shown}.csv").get_by_role("cell").first).to_have_text(HOSTILE)
        await expect(page.locator("summary", has_text=f"{shown}.csv")).to_be_visible()
        huge = page.locator("details", has_text=f"{shown}.csv")
        await expect(huge.get_by_role("row")).to_have_count(2 + 50)
        await expect(huge.get_by_text("Only the beginning is shown")).to_be_visible()
        await expect(page.locator("pre").first).to_have_text(HOSTILE)
        await expect(page.locator("details", has_text="tile.ppm")).to_contain_text("It is no text, table or picture")
        assert await page.locator("main img").count() == 1
        assert await page.locator("main script").count() == 0
        assert "stolen" not in await page.title()
        async with page.expect_download() as download:
            await page.locator("details", has_text="page.html").get_by_role("link", name="Download").click()
        assert (await download.value).suggested_filename == "page.html"
        assert await read(await download.value) == HOSTILE


async def test_each_item_says_where_it_stands_and_why_and_pictures_of_all_are_seen_together(
    running: Chromium, signed: Signed
) -> None:
    network = signed.network
    ended = network.items[JOB][0]
    others: list[dict[str, Any]] = [
        {"state": "failed", "reason": "program.time", "attempts": 2},
        {"state": "failed", "reason": "result.inconclusive"},
    ]
    network.items[JOB] = [
        msgspec.structs.replace(ended, checked=True, attempts=3),
        *[msgspec.structs.replace(ended, index=at, result=None, **one) for at, one in enumerate(others, 1)],
    ]
    network.leases[JOB] = [lease_view(JOB, 0)]
    network.jobs[JOB] = msgspec.structs.replace(
        network.jobs[JOB], reason="buyer.budget", counts={"done": 1, "failed": 2}
    )
    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.goto(f"/jobs/{JOB}")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_text("It reached what you wanted to spend at most.")).to_be_visible()
        tiles = page.get_by_role("group", name="Items").get_by_role("button")
        await expect(tiles.nth(0)).to_have_accessible_name("Item 1: done, another owner gave the same")
        moved = "Item 2: failed, moved to another machine, attempt 2"
        await expect(tiles.nth(1)).to_have_accessible_name(moved)
        await expect(tiles.nth(2)).to_have_accessible_name("Item 3: refused: results differ")
        await expect(page.get_by_text("moved to another machine: 1")).to_be_visible()
        await tiles.nth(1).click()
        await expect(page.get_by_text("The program took longer than you allowed.")).to_be_visible()
        await page.get_by_role("button", name="pixel.png Item 1").click()
        await expect(page.get_by_role("heading", name="Item 1")).to_be_visible()
        here = page.get_by_role("region", name="The same elsewhere")
        await expect(here.get_by_role("row", name="AWS Fargate on demand")).to_be_visible()
        await expect(page.get_by_text("Here the job cost")).to_be_visible()
        assert not await barriers(page)
        await picture(page, "items")


async def test_pictures_are_seen_by_who_watches_their_job_end(running: Chromium, signed: Signed) -> None:
    """That it is over is heard of before what its items left."""
    network = signed.network
    (ended,), over = network.items[JOB], network.jobs[JOB]
    network.jobs[JOB] = job_view(JOB)
    network.items[JOB] = [item_view(at, "running") for at in (0, 1)]
    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.clock.install()
        await page.goto(f"/jobs/{JOB}")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("status").first).to_have_text("running")
        network.jobs[JOB] = over
        await page.clock.run_for(10_000)
        await expect(page.get_by_role("status").first).to_have_text("done")
        network.items[JOB] = [ended, item_view(1, "done", await pixmap(network))]
        await page.clock.run_for(10_000)
        await expect(page.get_by_role("button", name="pixel.png Item 1")).to_be_visible()
        drawn = page.get_by_role("button", name="drawn.ppm Item 2").get_by_role("img", include_hidden=True)
        await expect(drawn).to_have_js_property("naturalWidth", 3)
        assert await drawn.evaluate(FIRST_PIXEL) == [255, 128, 0, 255]


async def test_under_tls_the_cookie_is_bound_to_its_host_and_never_goes_without(
    running: Chromium, tmp_path: Path
) -> None:
    async with (
        fake_network() as network,
        serving(network.app, "127.0.0.1", 0, own_tls(tmp_path)) as port,
        tab(running, f"https://127.0.0.1:{port}", ignore_https_errors=True) as page,
    ):
        await page.goto("/jobs")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        (cookie,) = await page.context.cookies()
    flags = (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"], cookie["domain"])
    assert flags == (True, True, "Strict", "/", "127.0.0.1")
    assert cookie["name"] == f"__Host-fallow-{NET}"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/.//evil.example/",
        "javascript:alert(1)",
        "http://[",
    ],
)
async def test_signing_in_leads_to_no_other_host(running: Chromium, signed: Signed, to: str) -> None:
    async with tab(running, signed.url) as page:
        await page.goto(f"/sign-in?to={quote(to)}")
        await enter(page, BUYER_KEY)
        await expect(page.locator(".menu")).to_be_visible()
        await expect(page.get_by_label("API key")).to_have_count(0)
        assert page.url.startswith(signed.url)


async def test_whose_session_ends_is_asked_to_sign_in_again_and_goes_on_where_he_was(
    running: Chromium, signed: Signed
) -> None:
    async def ends(route: Route) -> None:
        """When it is asked for: before that the page, which asks for other things by itself, would find it out."""
        signed.network.sessions.clear()
        signed.network.clock.advance(3000)
        await route.continue_()

    async with tab(running, signed.url) as page:
        await page.goto("/account")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("heading", name="API keys")).to_be_visible()
        await page.route("**/v1/account/api-keys", ends)
        await page.get_by_role("button", name="Make a key").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to lab-1")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("heading", name="API keys")).to_be_visible()


async def test_who_would_have_to_wait_long_is_told_so(running: Chromium, signed: Signed) -> None:
    async def busy(route: Route) -> None:
        view = {"code": "rate.requests", "message": "There were too many requests.", "hint": "Try again in 600 s."}
        await route.fulfill(status=429, headers={"Retry-After": "600"}, json=view)

    async with tab(running, signed.url) as page:
        await page.goto("/account")
        await enter(page, BUYER_KEY)
        await page.route(re.compile("/v1/account/api-keys$"), busy)
        await page.get_by_role("button", name="Make a key").click()
        told = page.get_by_role("alert").filter(has_text="Try again in 600 s.")
        await expect(told).to_be_visible()


async def test_a_part_of_the_network_that_does_not_answer_is_said_so_with_what_to_do(
    running: Chromium, signed: Signed
) -> None:
    """Also where nothing else is on the page, which then has that as its heading."""

    async def silent(route: Route) -> None:
        view = {"code": "bus.timeout", "message": "No answer on market.job in time.", "hint": ""}
        await route.fulfill(status=503, json=view)

    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.goto("/jobs")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        for path, silent_part in ((f"/jobs/{JOB}", f"**/v1/jobs/{JOB}"), ("/account", "**/v1/session")):
            await page.route(silent_part, silent)
            await page.goto(path)
            await expect(page.get_by_text("Ask again in a moment.")).to_be_visible()
            await expect(page.get_by_role("heading", level=1)).to_have_text("This could not be shown")
            assert not await barriers(page), path
            async with unanswered(page, silent_part):
                await page.get_by_role("button", name="Ask again").click()
            await expect(page.get_by_text("Ask again in a moment.")).to_have_count(0)


async def test_who_loses_the_network_is_told_what_is_old_and_what_may_not_have_been_done(
    running: Chromium, signed: Signed
) -> None:
    ended = msgspec.structs.replace(signed.network.jobs[JOB], ended_at=signed.network.clock.ms)
    signed.network.jobs[JOB] = ended  # told of among the account's alerts, and nothing that costs him
    async with tab(running, signed.url) as page:
        await page.clock.install()
        await page.goto("/account")
        await enter(page, BUYER_KEY)
        await expect(page.locator(".alerts")).to_contain_text("It is done.")
        await expect(page.locator(".alerts.loss")).to_have_count(0)  # good news has not the colour of bad
        await page.route("**/v1/account/api-keys", lambda route: route.abort())
        await page.get_by_role("button", name="Make a key").click()
        await expect(page.get_by_text("Nobody has said whether it was done.")).to_be_visible()
        await page.goto("/jobs")
        await expect(page.get_by_role("table")).to_be_visible()
        await expect(page.get_by_text("A day costs you")).to_be_visible()
        await expect(page.locator(".alerts")).to_have_count(0)
        await page.route("**/v1/account", lambda route: route.abort())
        await page.route("**/v1/jobs?*", lambda route: route.abort())
        await page.clock.run_for(10_000)
        await expect(page.get_by_text("not reached since")).to_have_count(2)
        assert not await barriers(page)


async def test_an_address_is_told_of_alerts_when_it_has_agreed(running: Chromium, signed: Signed) -> None:
    ended = msgspec.structs.replace(signed.network.jobs[JOB], ended_at=signed.network.clock.ms, state="failed")
    signed.network.jobs[JOB] = ended
    async with tab(running, signed.url) as page:
        await page.goto("/account")
        await enter(page, BUYER_KEY)
        alerts = page.locator(".alerts")
        await expect(alerts).to_contain_text("It ended without being done.")
        assert await alerts.locator("img, script").count() == 0
        await page.get_by_label("E-mail").first.fill("ann@example.org")
        await page.get_by_role("button", name="Tell me there: E-mail").click()
        await expect(page.get_by_text("Waits for ann@example.org to agree")).to_be_visible()
        await page.get_by_label("Code from the e-mail").fill("00000000")
        await page.get_by_role("button", name="Confirm").click()
        await expect(page.get_by_role("alert").filter(has_text="alerts.code")).to_be_visible()
        await page.get_by_label("Code from the e-mail").fill(ALERTS_CODE)
        await page.get_by_role("button", name="Confirm").click()
        await expect(page.get_by_text("Told at ann@example.org")).to_be_visible()
        await page.get_by_role("button", name="Tell me there no more: E-mail").click()
        await expect(page.get_by_role("button", name="Tell me there: E-mail")).to_be_visible()


async def test_what_is_changed_while_its_price_is_asked_for_has_no_price(running: Chromium, signed: Signed) -> None:
    asked, changed = asyncio.Event(), asyncio.Event()

    async def slow(route: Route) -> None:
        asked.set()
        await changed.wait()
        await route.continue_()

    async with tab(running, signed.url) as page:
        await page.goto("/jobs/new")
        await enter(page, BUYER_KEY)
        await page.route("**/v1/quotes", slow)
        async with page.expect_response("**/v1/quotes"):
            await page.get_by_role("button", name="Ask for a price").click()
            await asked.wait()
            await page.get_by_label("Cores").fill("64")
            changed.set()
        await expect(page.get_by_role("button", name="Ask for a price")).to_be_enabled()
        await expect(page.get_by_role("button", name="Run it")).to_have_count(0)
        await page.get_by_role("button", name="Ask for a price").click()
        await expect(page.get_by_text("no limit was set")).to_be_visible()  # prices are what the cheapest takes now
        await expect(page.get_by_role("button", name="Run it")).to_be_visible()


async def test_a_program_is_run_once_for_each_of_several_files(running: Chromium, signed: Signed) -> None:
    files = [FilePayload(name=f"{n}.txt", mimeType="text/plain", buffer=str(n).encode()) for n in range(3)]
    program = FilePayload(name="p.wasm", mimeType="application/wasm", buffer=b"program")
    async with tab(running, signed.url) as page:
        await page.goto("/jobs/new")
        await enter(page, BUYER_KEY)
        await page.get_by_label("WebAssembly").check()
        await page.get_by_label("Program (.wasm)").set_input_files([program])
        await page.get_by_label("Input files").set_input_files(files)
        await page.get_by_label("Run once for each of the 3 files").check()
        await page.get_by_label("Arguments").fill("--deep\na b")
        await page.get_by_label("Least trust level").select_option("proven")
        await page.get_by_label("Results of each").fill("2")
        await page.get_by_label("Spend at most").fill("1.5")
        await page.get_by_role("button", name="Ask for a price").click()
        await expect(page.get_by_text("1 of 2 can take it now")).to_be_visible()
        await expect(page.get_by_text("from 0.06 USD if all 3 runs take all their time")).to_be_visible()
        await expect(page.get_by_text("1.50 USD", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Run it").click()
        await expect(page.get_by_role("button", name="Item 3")).to_be_visible()
        await picture(page, "map")
        (order,) = (order for _, order in signed.network.orders.values() if order.id != JOB)
    assert order.items == [hashlib.sha256(str(n).encode()).hexdigest() for n in range(3)]
    assert order.work["program"] == hashlib.sha256(b"program").hexdigest()
    assert (order.work["args"], order.replicas, order.budget_microusd) == (["--deep", "a b"], 2, 1_500_000)
    assert order.requirements.trust_min == "proven"


async def test_a_script_that_needs_packages_is_sent_to_the_command_that_bundles_them(
    running: Chromium, signed: Signed
) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/jobs/new")
        await enter(page, BUYER_KEY)
        needy = '# /// script\n# dependencies = [\n#   "numpy",\n# ]\n# ///\nimport numpy\n'
        await page.get_by_label("Script", exact=True).fill(needy)
        await expect(page.get_by_text("fallow run script.py")).to_be_visible()
        await expect(page.get_by_role("button", name="Ask for a price")).to_be_disabled()
        await page.get_by_label("Script", exact=True).fill("print(1)")
        await expect(page.get_by_role("button", name="Ask for a price")).to_be_enabled()


async def test_graphics_processors_are_asked_for_in_a_container_alone(running: Chromium, signed: Signed) -> None:
    async with tab(running, signed.url) as page:
        await page.goto("/jobs/new")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_label("Graphics processors")).to_have_count(0)
        await page.get_by_label("Container").check()
        await page.get_by_label("Image").fill("docker.io/library/alpine:3.20")
        await page.get_by_label("Graphics processors").fill("2")
        await page.get_by_label("Their model").fill("RTX 4090")
        await page.get_by_label("Memory of each (GiB)").fill("24")
        await page.get_by_role("button", name="Ask for a price").click()
        await page.get_by_role("button", name="Run it").click()
        await expect(page.get_by_text("Set aside", exact=True)).to_be_visible()
        (order,) = (order for _, order in signed.network.orders.values() if order.id != JOB)
    needs = order.requirements
    assert (needs.gpus, needs.gpu_model, needs.vram_mib) == (2, "RTX 4090", 24 * 1024)


async def test_what_was_spent_by_day_is_what_the_ledger_has_of_jobs_and_of_the_meter(
    running: Chromium, signed: Signed
) -> None:
    hour = int(datetime.now(UTC).timestamp()) // 3600 * 3_600_000
    before = hour // (24 * 3_600_000) * 24 * 3_600_000 - 29 * 24 * 3_600_000 - 3_600_000
    """The hour that ends with the midnight before the first of 30 days, which is told with them."""
    days_ago = [hour - n * 24 * 3_600_000 for n in range(2)]
    hours = [SpentView(at=at, spent={"paid": 2_000_000, "granted": 5}) for at in (*days_ago, before)]
    signed.network.spent[BUYER] = SpendingView(hours=hours, from_ms=0, whole=True)
    async with tab(running, signed.url) as page:
        await page.goto("/bills")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_text("4.00 USD spent in the last 30 days")).to_be_visible()
        days = page.get_by_role("region", name="By day").get_by_role("row")
        today = datetime.fromtimestamp(hour / 1000, UTC)
        await expect(days.nth(1)).to_have_text(f"{today.day} {today:%b} {today.year}2.00 USD")
        await expect(days).to_have_count(3)
        chart = page.get_by_role("img", name="By day")
        await expect(chart.locator("rect.usage")).to_have_count(2)
        await expect(chart.locator("rect.hit")).to_have_count(30)
        await expect(page.get_by_role("region", name="By the meter").get_by_role("row", name="storage")).to_be_visible()
        await picture(page, "spent")
        await page.get_by_role("link", name="Jobs", exact=True).click()
        await expect(page.get_by_text("A day costs you 0.571429 USD")).to_be_visible()
        signed.network.spent[BUYER] = SpendingView(hours=[], from_ms=0, whole=True)
        signed.network.jobs.clear()
        signed.network.orders.clear()
        await page.goto("/bills")
        await expect(page.get_by_text("fallow run script.py")).to_be_visible()


async def test_the_accounts_budget_is_set_where_the_bills_are_by_whose_key_may(
    running: Chromium, signed: Signed
) -> None:
    keys = signed.network.keys
    async with tab(running, signed.url) as page:
        await page.goto("/bills")
        await enter(page, BUYER_KEY)
        budget = page.get_by_role("region", name="Budget of a month")
        await expect(budget).to_contain_text("No budget is set. Spent in 1970-01 (UTC): 0.00 USD; reserved: 0.00 USD.")
        await expect(budget).to_contain_text("fallow account budget 50")
        await expect(budget.get_by_role("button")).to_have_count(0)
        keys[BUYER_KEY] = msgspec.structs.replace(keys[BUYER_KEY], scopes=["buy", "withdraw"])
        await sign_out(page)
        await page.goto("/bills")
        await enter(page, BUYER_KEY)
        await budget.get_by_label("At most in a calendar month (USD)").fill("50.25")
        await budget.get_by_role("button", name="Set the budget").click()
        await expect(budget).to_contain_text(
            "Of 50.25 USD for 1970-01 (UTC), 0.00 USD are spent and 0.00 USD reserved."
        )
        assert await barriers(page) == []
        await budget.get_by_role("button", name="No budget").click()
        await expect(budget).to_contain_text("No budget is set.")


async def test_an_error_is_told_in_japanese_and_what_the_network_says_in_english_is_marked_as_such(
    running: Chromium,
    signed: Signed,
) -> None:
    """Also what has no Japanese sentence: then the network's own stands there, unfolded."""

    async def new(route: Route) -> None:
        await route.fulfill(status=409, json={"code": "new.code", "message": "It has 7 of them.", "hint": "Take one."})

    async with tab(running, signed.url, locale="ja-JP") as page:
        await page.goto("/jobs/new")
        await page.route(
            "**/v1/session", lambda route: new(route) if route.request.method == "POST" else route.continue_()
        )
        await page.locator("#key").fill("fk_wrong")
        await page.keyboard.press("Enter")
        trouble = page.locator(".trouble")
        await expect(trouble.locator("p[lang=en]")).to_have_text(["It has 7 of them.", "Take one."])
        await expect(trouble.locator("details")).to_have_count(0)
        await page.unroute_all()
        await page.keyboard.press("Enter")
        await expect(trouble).to_contain_text("この API キーは使えません。")
        await expect(trouble).to_contain_text("コード: auth.key")
        own = trouble.locator("p[lang=en]").first
        await expect(own).to_be_hidden()
        assert await barriers(page) == []
        await trouble.locator("summary").press("Enter")
        await expect(own).to_be_visible()
        assert await barriers(page) == []
        await page.locator("#key").fill(BUYER_KEY)
        await page.keyboard.press("Enter")
        await page.locator("button.primary").click()
        await expect(page.get_by_text("平文で計算されるもの")).to_be_visible()
        await expect(page.get_by_text("can read the data")).to_have_count(0)


async def test_no_cell_of_a_table_is_a_formula_in_a_spreadsheet(running: Chromium, signed: Signed) -> None:
    job = signed.network.jobs[JOB]
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    signed.network.jobs[JOB] = msgspec.structs.replace(job, label='=HYPERLINK("x","y")', created_at=now_ms)
    async with tab(running, signed.url, others=(f"blob:{signed.url}",)) as page:
        await page.goto("/bills")
        await enter(page, BUYER_KEY)
        await expect(page.get_by_text("Jobs that were ordered on these days, with all that they cost")).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Jobs as CSV").click()
        (_, row) = csv.reader((await read(await download.value)).splitlines())
    assert (row[1], row[2]) == (JOB, '\'=HYPERLINK("x","y")')


async def test_a_buyer_runs_a_job_from_the_browser_and_sees_what_came_of_it(running: Chromium, net: Net) -> None:
    script = "import time\nprint('dug', flush=True)\nopen('/out/t.csv', 'w').write('a,b\\n1,2\\n')\n"
    async with tab(running, net.url, others=(f"blob:{net.url}",)) as page:
        await page.goto("/")
        await sign_in(page, net.first.key)
        await page.get_by_role("link", name="Run a job").click()
        await page.get_by_label("Script", exact=True).fill(script)
        await page.get_by_label("Cores").fill("0.2")
        await page.get_by_label("Label").fill("dig")
        await page.get_by_label("Memory (MiB)").fill("1000000")
        await page.get_by_role("button", name="Ask for a price").click()
        await expect(page.get_by_role("heading", name="No machine can take this now")).to_be_visible()
        await expect(page.get_by_role("row", name="memory")).to_be_visible()
        await picture(page, "network-why-not")

        await page.get_by_label("Memory (MiB)").fill("128")
        await expect(page.get_by_role("heading", name="No machine can take this now")).to_have_count(0)
        await page.get_by_role("button", name="Ask for a price").click()
        await expect(page.get_by_text(re.compile(r"of \d+ can take it now"))).to_be_visible()
        await picture(page, "network-quote")
        await page.get_by_role("button", name="Run it").click()

        await expect(page.get_by_role("heading", level=1)).to_have_text("dig")
        await expect(page.get_by_text("dug", exact=True)).to_be_visible()
        await expect(page.get_by_role("status").first).to_have_text("done")  # below it a result may be on its way
        await expect(page.get_by_role("region", name="t.csv").get_by_role("cell").first).to_have_text("1")
        await picture(page, "network-job")
        job = page.url.rpartition("/")[2]
        assert (await net.buyer.job(job)).state == "done"

        await page.get_by_role("button", name="Account").click()
        await page.get_by_role("link", name="Bills").click()
        await expect(page.get_by_role("cell", name="dig")).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Jobs as CSV").click()
        assert job in await read(await download.value)
        await sign_out(page)
        await expect(page.get_by_role("link", name="Jobs")).to_have_count(0)
        await page.goto(f"/jobs/{job}")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Sign in to")


async def test_what_a_running_job_writes_is_seen_while_it_runs_and_it_can_be_ended(running: Chromium, net: Net) -> None:
    async with tab(running, net.url) as page:
        await page.goto("/sign-in")
        await enter(page, net.first.key)
        await page.get_by_role("link", name="Run a job").click()
        script = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(1)\n"
        await page.get_by_label("Script", exact=True).fill(script)
        await page.get_by_label("Cores").fill("0.2")
        await page.get_by_label("Memory (MiB)").fill("128")
        await page.get_by_role("button", name="Ask for a price").click()
        await page.get_by_role("button", name="Run it").click()
        await expect(page.locator("pre")).to_have_text("begun\n")
        await expect(page).to_have_title(re.compile("^Job [0-9a-f]{8}"))
        await picture(page, "network-running")
        await page.get_by_role("button", name="Cancel the job").click()
        await expect(page.get_by_role("status").first).to_contain_text("cancelled")


async def test_what_a_running_item_writes_is_asked_for_again_when_the_line_breaks(
    running: Chromium, signed: Signed
) -> None:
    asked: list[str] = []

    async def breaking(route: Route) -> None:
        asked.append(route.request.url.rpartition("?")[2])
        if len(asked) == 1:
            await route.fulfill(body="one ")
        elif len(asked) == 2:
            await route.abort("connectionreset")
        else:
            await route.fulfill(body="two")

    network = signed.network
    network.jobs[JOB] = job_view(JOB)
    network.items[JOB] = [item_view(0, "running")]
    async with tab(running, signed.url) as page:
        await page.route("**/logs?**", breaking)
        await page.goto(f"/jobs/{JOB}")
        await enter(page, BUYER_KEY)
        await expect(page.locator("pre")).to_have_text("one ")
        await page.get_by_label("Stream").select_option("stderr")
        await expect(page.locator("pre")).to_have_text("two")
    assert asked == [f"source={source}&follow=true&offset=0" for source in ("stdout", "stderr", "stderr")]


async def test_keys_are_shown_once_and_end_when_they_are_revoked(running: Chromium, net: Net) -> None:
    async with tab(running, net.url) as page:
        await page.goto("/account")
        await enter(page, net.first.key)
        await expect(page.get_by_text("this network's operator has set no mail server")).to_be_visible()
        await page.get_by_label("Webhook").first.fill("https://127.0.0.1:1/")
        await page.get_by_role("button", name="Tell me there: Webhook").click()
        await expect(page.get_by_text("fw_")).to_be_visible()
        await page.get_by_role("button", name="I have kept it").click()
        await page.get_by_label("Label").fill("laptop")
        await page.get_by_role("button", name="Make a key").click()
        secret = await page.get_by_text("fk_").inner_text()
        client = await net.client(secret)
        assert (await client.balance()).account == net.first.account
        await page.get_by_role("button", name="I have kept it").click()
        await expect(page.get_by_text(secret)).to_have_count(0)
        await page.reload()
        await expect(page.get_by_role("cell", name="laptop")).to_be_visible()
        assert secret not in await page.content()
        await until_async(lambda: _failed_at(client), "the webhook is asked for a challenge, and refused")
        await page.reload()
        await expect(page.get_by_text("The webhook was not reached: ConnectError.")).to_be_visible()
        row = page.get_by_role("row", name="laptop")
        await row.get_by_role("button", name="Revoke").click()
        await row.get_by_role("button", name="Revoke for ever").click()
        await expect(row).to_contain_text("revoked")
        with pytest.raises(NotAllowed):
            await (await net.client(secret)).balance()


async def _failed_at(client: AsyncClient) -> object:
    return (await client.alert_channels()).channels[0].failed_at


@EACH_LOOK
async def test_every_page_can_be_used_by_everybody(
    running: Chromium, signed: Signed, look: str, options: dict[str, Any]
) -> None:
    pages = {"jobs": "/jobs", "job": f"/jobs/{JOB}", "new": "/jobs/new", "account": "/account", "bills": "/bills"}
    ended = msgspec.structs.replace(signed.network.jobs[JOB], ended_at=signed.network.clock.ms)
    signed.network.jobs[JOB] = ended  # an alert with a hostile name, and an address that has failed
    signed.network.channels[BUYER, "email"] = ChannelView(
        kind="email",
        address="ann@example.org",
        language="en",
        confirmed=False,
        failed_at=1,
        failure_code="alerts.mail",
        failure="it did",
    )
    signed.network.keys[BUYER_KEY] = msgspec.structs.replace(signed.network.keys[BUYER_KEY], scopes=["buy", "withdraw"])
    bound = calls.money.MonthlyBudget(budget_microusd=50_000_000)
    await signed.network.budgets.set(calls.money.SetBudget(account=BUYER, budget=bound))
    async with tab(running, signed.url, others=(f"blob:{signed.url}",), **options) as page:
        await page.goto("/sign-in")
        await usable(page, f"{look}-sign-in")
        await page.locator("#key").fill(BUYER_KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator(".menu")).to_be_visible()
        for name, path in pages.items():
            await page.goto(path)
            await usable(page, f"{look}-{name}")
            if (look, name) == ("dark-ja", "account"):
                await expect(page.get_by_text("メールサーバーがメールを受け付けませんでした")).to_be_visible()
        await page.locator(".menu button").first.press("Enter")
        await expect(page.locator("#account-menu")).to_be_visible()
        await usable(page, f"{look}-menu")
        await page.keyboard.press("Escape")
        await expect(page.locator("#account-menu")).to_be_hidden()


async def usable(page: Page, name: str) -> None:
    """Wait for a page, and hold it against what everybody can use."""
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.locator(".waiting")).to_have_count(0)
    assert "\n".join(await barriers(page)) == "", name
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is wider than the screen"
    await picture(page, name)
