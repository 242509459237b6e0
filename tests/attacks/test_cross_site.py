"""Pages of others, in the browser of somebody who has signed in: what they send changes nothing and tells them nothing.

The worst place for such a page is another port of the same host: browsers count it as the same site, and send it the
cookies that they keep from others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from litestar import Litestar, MediaType, get
from playwright.async_api import BrowserContext, Page, expect

from fallow.bootstrap.http_server import serving
from fallow.domain.orders import Order
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from tests.browser import BOUND_MS, Chromium
from tests.unit.fake_network import BUYER, BUYER_KEY, OTHER_KEY, FakeNetwork, fake_network, item_view, job_view

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

JOB = "5" * 32


class Victim(NamedTuple):
    """Somebody who has signed in, where, and another's page at a door beside it."""

    network: FakeNetwork
    url: str
    page: Page
    evil: str

    async def tell(self, script: str, *arguments: Any) -> Any:
        """Run a script on the page of the attacker."""
        return await self.page.evaluate(script, list(arguments))

    def unharmed(self) -> bool:
        """Whether nothing was changed: the job runs, and nobody else has signed in or out."""
        job, sessions = self.network.jobs[JOB], self.network.sessions
        return job.state == "running" and [one.key.account for one in sessions.values()] == [BUYER]


@get("/", media_type=MediaType.HTML)
async def evil_page() -> str:
    """What the attacker has the victim look at."""
    return "<!doctype html><title>kittens</title><iframe name=out></iframe>"


@asynccontextmanager
async def signed_in(context: BrowserContext, url: str) -> AsyncIterator[Page]:
    """Sign in as a person does."""
    context.set_default_timeout(BOUND_MS)
    page = await context.new_page()
    await page.goto(f"{url}/sign-in")
    await page.get_by_label("API key").fill(BUYER_KEY)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("h1")).to_have_text("Jobs", timeout=BOUND_MS)
    yield page


@pytest_asyncio.fixture(loop_scope="session", params=["127.0.0.1", "localhost"])
async def victim(request: pytest.FixtureRequest, running: Chromium) -> AsyncIterator[Victim]:
    """The attacker's page is on another port of the same host, or on another host."""
    roomy = Rate(10_000.0, 100_000)
    async with (
        fake_network(Limits(address=roomy, sign_ins=roomy)) as network,
        serving(network.app, "127.0.0.1", 0) as port,
        serving(Litestar([evil_page], openapi_config=None), "127.0.0.1", 0) as other,
        await running.new_context() as context,
    ):
        network.orders[JOB] = (BUYER, Order(id=JOB, vertical="compute", work={}))
        network.jobs[JOB], network.items[JOB] = job_view(JOB), [item_view(0)]
        async with signed_in(context, f"http://127.0.0.1:{port}") as page:
            evil = f"http://{request.param}:{other}"
            await page.goto(evil)
            yield Victim(network, f"http://127.0.0.1:{port}", page, evil)


FORM = """async ([action, name, value]) => {
    const form = Object.assign(document.createElement("form"), { action, method: "post", enctype: "text/plain", target: "out" });
    form.append(Object.assign(document.createElement("input"), { name, value }));
    document.body.append(form);
    const answered = new Promise((go) => document.querySelector("iframe").addEventListener("load", go, { once: true }));
    form.submit();
    await answered;
}"""  # noqa: E501 - a line of another language

FETCH = """async ([url, method, headers, mode, body]) => {
    try {
        const answer = await fetch(url, { method, headers, mode, body, credentials: "include" });
        return await answer.text();
    } catch { return "refused"; }
}"""


async def test_the_victim_is_signed_in_and_could_do_it_himself(victim: Victim) -> None:
    """Else the tests below would show nothing."""
    await victim.page.goto(f"{victim.url}/jobs/{JOB}")
    await victim.page.get_by_role("button", name="Cancel the job").click()
    await expect(victim.page.get_by_role("status").first).to_contain_text("cancelled", timeout=BOUND_MS)
    assert not victim.unharmed()


async def test_a_form_of_another_page_ends_no_job(victim: Victim) -> None:
    await victim.tell(FORM, f"{victim.url}/v1/jobs/{JOB}/cancel", "", "")
    assert victim.unharmed()


async def test_another_page_signs_nobody_in_as_the_attacker(victim: Victim) -> None:
    body = '{"key": "' + OTHER_KEY + '"}'
    for mode in ("cors", "no-cors"):
        told = await victim.tell(FETCH, f"{victim.url}/v1/session", "POST", {"Content-Type": "text/plain"}, mode, body)
        assert told in {"", "refused"}
    assert victim.unharmed()


async def test_a_script_of_another_page_changes_nothing(victim: Victim) -> None:
    paths = [("POST", f"/v1/jobs/{JOB}/cancel"), ("DELETE", "/v1/session"), ("POST", "/v1/account/api-keys")]
    for mode, headers, (method, path) in product(("cors", "no-cors"), ({}, {"Fallow-CSRF": "0" * 64}), paths):
        assert await victim.tell(FETCH, victim.url + path, method, headers, mode) in {"", "refused"}
        assert victim.unharmed(), f"{method} {path} {mode} {headers}"


async def test_a_script_of_another_page_reads_nothing(victim: Victim) -> None:
    for path in ("/v1/session", "/v1/account", f"/v1/jobs/{JOB}/events"):
        for mode in ("cors", "no-cors"):
            assert await victim.tell(FETCH, victim.url + path, "GET", {}, mode) in {"", "refused"}
    assert BUYER not in await victim.page.content()


async def test_another_page_can_neither_frame_the_console_nor_hold_on_to_its_window(victim: Victim) -> None:
    shown = """async ([url]) => {
        const frame = document.createElement("iframe");
        const loaded = new Promise((go) => frame.addEventListener("load", go, { once: true }));
        frame.src = url;
        document.body.append(frame);
        await loaded;
        try { return frame.contentDocument === null ? "closed" : "open"; } catch { return "closed"; }
    }"""
    assert await victim.tell(shown, f"{victim.url}/jobs/{JOB}") == "closed"
    frames = [frame for frame in victim.page.frames if frame.url.startswith(victim.url)]
    assert [await frame.locator("h1").count() for frame in frames] == [0] * len(frames)
    async with victim.page.expect_popup() as opening:
        await victim.page.evaluate("url => { window.held = window.open(url) }", f"{victim.url}/jobs/{JOB}")
    popup = await opening.value
    await popup.wait_for_load_state()
    await _until(victim.page, "() => window.held.closed")


async def _until(page: Page, condition: str) -> None:
    async with asyncio.timeout(BOUND_MS / 1000):
        await page.wait_for_function(condition)
