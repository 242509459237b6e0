"""A buyer's buckets and objects in a real browser: on a store in memory, and once on a whole network."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest
import pytest_asyncio
from coincurve import PrivateKey
from playwright.async_api import FilePayload, Page, Route, expect

from fallow.bootstrap.http_server import serving
from fallow.bootstrap.listening import free_port
from fallow.domain.calls.verticals import vertical_call
from fallow.domain.identity import address_text
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.ports.rpc import serve
from fallow.verticals.storage.client.store import Ended, Head, Marks
from fallow.verticals.storage.core.billing import BucketLine, Elsewhere, GetBill, StorageBill
from fallow.verticals.storage.gateway.app import s3_app
from fallow.verticals.storage.gateway.auth.links import REGION
from fallow.verticals.storage.gateway.users import Owner, User, owner_by_address
from tests.browser import EACH_LOOK, Chromium, picture, tab, unanswered
from tests.browser_wallet import BrowserWallet
from tests.instant_chain import KeySigner
from tests.integration.test_console import net as net  # noqa: PLC0414 - a fixture
from tests.integration.test_console_buyer import HOSTILE, PIXEL, enter, read, usable
from tests.memory_store import MemoryStore
from tests.network import BOUND, Net
from tests.unit.fake_network import BUYER, BUYER_KEY, FakeNetwork, fake_network, subscription_view

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

BUCKET = "photos"
FOLDER = "2026/"


class Users:
    """The buyer's key, as the registry knows it."""

    async def user(self, access_key: str) -> User | None:
        """See the port."""
        return User(access_key, f"secret of {access_key}", BUYER, BUYER) if access_key == "buyer" else None

    async def owner(self, account: str) -> Owner | None:
        """See the port."""
        return owner_by_address(account)


class Stored(NamedTuple):
    """A network's console, its S3 gateway, and what lies below that."""

    network: FakeNetwork
    store: MemoryStore
    url: str
    s3_url: str

    @property
    def others(self) -> tuple[str, ...]:
        """Where a page may ask besides."""
        return (self.s3_url, f"blob:{self.url}")


@pytest_asyncio.fixture(loop_scope="session")
async def stored() -> AsyncIterator[Stored]:
    """A console and an S3 gateway on one host, with a bucket of the buyer's."""
    roomy = Rate(10_000.0, 100_000)
    s3_port = free_port("127.0.0.1")
    s3_url = f"http://127.0.0.1:{s3_port}"
    async with (
        fake_network(Limits(address=roomy, sign_ins=roomy), {"s3": s3_url}) as network,
        serve(network.bus, vertical_call("storage", GetBill.name), GetBill, bill, queue="fake"),
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        store = MemoryStore(network.clock)
        app = s3_app(store, Users(), network.clock, random_bytes=os.urandom, region=REGION, console_port=port)
        await store.make_bucket(BUYER, BUCKET, settings={}, countries=())
        async with serving(app, "127.0.0.1", s3_port):
            yield Stored(network, store, f"http://127.0.0.1:{port}", s3_url)


async def bill(asked: GetBill) -> StorageBill:
    """What the bucket cost, and what it would elsewhere."""
    assert (asked.account, asked.to_day - asked.from_day + 1) == (BUYER, 30)  # both are counted
    line = BucketLine(
        bucket=BUCKET, id=1, objects=3, bytes=5_000_000_000, stored_byte_hours=1, payload_byte_hours=1,
        egress_bytes=2_000_000, requests={"put": 3}, cost_microusd=20_000,
    )  # fmt: skip
    cloud = Elsewhere(
        name="A cloud",
        kind="on-demand",
        cost_microusd=100_000,
        as_of="2026-09-01",
        source="https://cloud.example/",
        note="",
    )
    return StorageBill(buckets=[line], cost_microusd=20_000, elsewhere=[cloud])


async def put(stored: Stored, key: str, data: bytes) -> None:
    """Store an object."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    ended = Ended(hashlib.md5(data, usedforsecurity=False).hexdigest(), {})
    await stored.store.put(BUYER, BUCKET, key, chunks(), lambda: ended, head=Head(), marks=Marks())


async def keys(stored: Stored) -> list[str]:
    """The names of all objects."""
    return [entry.key for entry in (await stored.store.names(BUYER, BUCKET)).entries]


async def enter_storage(page: Page, path: str = "/storage") -> None:
    """Open a page of storage as somebody who has to sign in."""
    await page.goto(path)
    await enter(page, BUYER_KEY)


async def test_buckets_are_made_shown_with_their_costs_and_dropped(running: Chromium, stored: Stored) -> None:
    async with tab(running, stored.url, others=stored.others) as page:
        await enter_storage(page)
        await expect(page.get_by_role("row", name=BUCKET)).to_contain_text("5 GB")
        await expect(page.get_by_role("row", name=BUCKET)).to_contain_text("0.02 USD")
        await expect(page.get_by_role("row", name="A cloud")).to_contain_text("80% less")
        await page.get_by_label("Name").fill("letters")
        await page.get_by_role("button", name="Make a bucket").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("letters")
        await expect(page.get_by_text("The bucket is empty.")).to_be_visible()
        await page.get_by_role("link", name="Buckets").click()
        await page.get_by_role("button", name="Drop letters").click()
        await page.get_by_role("button", name="Drop it for ever").click()
        await expect(page.get_by_role("link", name="letters")).to_have_count(0)
        assert [one.name for one in await stored.store.buckets(BUYER)] == [BUCKET]


async def test_a_bucket_that_holds_something_is_not_dropped(running: Chromium, stored: Stored) -> None:
    await put(stored, "kept", b"x")
    async with tab(running, stored.url, others=stored.others) as page:
        await enter_storage(page)
        await page.get_by_role("button", name=f"Drop {BUCKET}").click()
        await page.get_by_role("button", name="Drop it for ever").click()
        await expect(page.get_by_text("s3.BucketNotEmpty")).to_be_visible()
        await expect(page.get_by_role("link", name=BUCKET)).to_be_visible()
    assert await keys(stored) == ["kept"]


async def test_files_are_stored_looked_at_saved_shared_and_deleted(running: Chromium, stored: Stored) -> None:
    async with tab(running, stored.url, others=stored.others) as page:
        await enter_storage(page, f"/storage/{BUCKET}?in={FOLDER}")
        files = [
            FilePayload(name="pixel.png", mimeType="image/png", buffer=PIXEL),
            FilePayload(name="å note+1 & 2.txt", mimeType="text/plain", buffer=b"dug"),
            FilePayload(name="empty", mimeType="", buffer=b""),
        ]
        await page.get_by_label("Choose files").set_input_files(files)
        await expect(page.get_by_label("Files on their way").get_by_text("stored")).to_have_count(3)
        assert await keys(stored) == [f"{FOLDER}{name}" for name in ("empty", "pixel.png", "å note+1 & 2.txt")]

        await page.get_by_role("button", name="pixel.png", exact=True).click()
        await expect(page.get_by_role("img", name="pixel.png")).to_be_visible()
        await page.get_by_role("button", name="å note+1 & 2.txt", exact=True).click()
        await expect(page.locator("pre")).to_have_text("dug")
        await picture(page, "storage-object")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").click()
        saved = await download.value
        assert (saved.suggested_filename, await read(saved)) == ("å note+1 & 2.txt", "dug")

        await page.get_by_label("Link for").select_option("an hour")
        await page.get_by_role("button", name="Make a link").click()
        link = await page.get_by_role("status").locator("code").inner_text()
        async with httpx2.AsyncClient(timeout=BOUND) as somebody:
            answer = await somebody.get(link)
            assert (answer.text, answer.headers["content-disposition"][:10]) == ("dug", "attachment")
            stored.network.clock.advance(3_601_000)
            assert (await somebody.get(link)).status_code == 403

        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Delete it for ever").click()
        await expect(page.get_by_role("button", name="å note+1 & 2.txt", exact=True)).to_have_count(0)
        assert await keys(stored) == [f"{FOLDER}empty", f"{FOLDER}pixel.png"]

        await page.get_by_role("navigation", name="Folders").get_by_role("link", name=BUCKET).click()
        await page.get_by_role("link", name=FOLDER).click()
        await expect(page.get_by_role("button", name="pixel.png", exact=True)).to_be_visible()


async def test_large_files_go_in_parts_and_files_can_be_dropped(
    running: Chromium, stored: Stored, tmp_path: Path
) -> None:
    path, large = tmp_path / "large", os.urandom((32 << 20) + 5)
    path.write_bytes(large)  # a browser reads it there; to hand it a payload takes many times as long
    ended = 0

    async def loses_its_answer(route: Route) -> None:
        nonlocal ended
        if route.request.method == "POST":
            ended += 1
            if ended == 1:
                await route.fetch()  # it is done, and nobody hears of it
                await route.abort("connectionreset")
                return
        await route.continue_()

    async with tab(running, stored.url, others=stored.others) as page:
        await page.route(re.compile(r"/large\?uploadId="), loses_its_answer)
        await enter_storage(page, f"/storage/{BUCKET}")
        await page.get_by_label("Choose files").set_input_files(path)
        dropped = await page.evaluate_handle(
            "() => { const it = new DataTransfer(); it.items.add(new File(['dug'], 'dropped.txt')); return it; }"
        )
        await page.get_by_role("group", name="Upload files").dispatch_event("drop", {"dataTransfer": dropped})
        await expect(page.get_by_label("Files on their way").get_by_text("stored")).to_have_count(2)
    assert ended == 2
    entry = await stored.store.entry(BUYER, BUCKET, "large")
    assert [size for _, size in entry.parts] == [16 << 20, 16 << 20, 5]
    whole = b"".join([chunk async for chunk in stored.store.read(BUYER, BUCKET, entry, 0, entry.size)])
    assert hashlib.sha256(whole).digest() == hashlib.sha256(large).digest()
    assert await keys(stored) == ["dropped.txt", "large"]


async def test_an_upload_outlives_a_broken_line_to_whoever_signs_for_it(running: Chromium, stored: Stored) -> None:
    broken = 0

    async def breaks(route: Route) -> None:
        nonlocal broken
        put = '"PUT"' in (route.request.post_data or "")
        broken += put
        await (route.abort("connectionreset") if put and broken == 1 else route.continue_())

    async with tab(running, stored.url, others=stored.others) as page:
        await page.route("**/v1/account/links", breaks)
        await enter_storage(page, f"/storage/{BUCKET}")
        note = FilePayload(name="note", mimeType="", buffer=b"dug")
        await page.get_by_label("Choose files").set_input_files([note])
        await expect(page.get_by_label("Files on their way").get_by_text("stored")).to_have_count(1)
    assert broken == 2
    assert await keys(stored) == ["note"]


async def test_an_object_is_read_once_however_often_its_bucket_is_listed(running: Chromium, stored: Stored) -> None:
    await put(stored, "note.txt", b"dug")
    reads: list[str] = []
    async with tab(running, stored.url, others=stored.others) as page:
        page.on("request", lambda asked: reads.append(asked.url) if f"/{BUCKET}/note.txt?" in asked.url else None)
        await enter_storage(page, f"/storage/{BUCKET}")
        await page.get_by_role("button", name="note.txt", exact=True).click()
        await expect(page.locator("pre")).to_have_text("dug")
        for name in ("one", "two"):
            other = FilePayload(name=name, mimeType="", buffer=b"x")
            await page.get_by_label("Choose files").set_input_files([other])
            await expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
        assert len(reads) == 1


async def test_who_ended_a_subscription_can_subscribe_again(running: Chromium, stored: Stored) -> None:
    ids: list[str] = []
    open_: list[Any] = []

    async def subscriptions(route: Route) -> None:
        method, wanted = route.request.method, (route.request.post_data_json or {}).get("id")
        if wanted and wanted not in ids:  # the same again changes nothing
            ids.append(wanted)
            open_.append(msgspec.to_builtins(subscription_view(BUYER, ids[-1])))
        elif method == "DELETE":
            open_.clear()
        await route.fulfill(json=open_ if method == "GET" else {})

    async with tab(running, stored.url, others=stored.others) as page:
        await page.route("**/v1/subscriptions**", subscriptions)
        await enter_storage(page)
        for _ in range(2):
            await page.get_by_role("button", name="Subscribe").click()
            await expect(page.get_by_text("active")).to_be_visible()
            await page.get_by_role("button", name="End the subscription").click()
            await page.get_by_role("button", name="End it now").click()
    assert len(ids) == 2


async def test_an_upload_that_is_stopped_or_keeps_breaking_leaves_nothing(
    running: Chromium, stored: Stored, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(17 << 20))
    async with tab(running, stored.url, others=stored.others) as page:
        asked = asyncio.Event()
        broken = 0

        async def never(route: Route) -> None:
            nonlocal broken
            if "partNumber=2" in route.request.url:
                asked.set()
                return  # stays on its way
            if "/breaks?" in route.request.url and route.request.method == "PUT":
                broken += 1
                await (route.abort("connectionreset") if broken == 1 else route.continue_())
                return
            await route.continue_()

        await page.route(f"{stored.s3_url}/**", never)
        await enter_storage(page, f"/storage/{BUCKET}")
        await page.get_by_label("Choose files").set_input_files(path)
        await asked.wait()
        await page.get_by_role("button", name="Stop large").click()
        await expect(page.get_by_label("Files on their way")).to_contain_text("stopped")
        await page.get_by_label("Choose files").set_input_files(
            [FilePayload(name="breaks", mimeType="", buffer=b"once")]
        )
        await expect(page.get_by_label("Files on their way").get_by_text("stored")).to_have_count(1)
        assert broken == 2
        await expect(page.get_by_role("button", name="breaks", exact=True)).to_be_visible()
    assert await keys(stored) == ["breaks"]
    assert await stored.store.uploads(BUYER, BUCKET) == []


NAMES = [
    HOSTILE,
    "\u202egnp.exe",
    "a" * 1000,
    "a/../b",
    "%2e%2e/%00",
    "//",
    "sp ace+plus&amp;?#x",
    "日本語/ファイル.txt",
    "back\\slash",
    "new\nline",
]


async def test_names_are_words_whatever_stands_in_them(running: Chromium, stored: Stored) -> None:
    for name in NAMES:
        await put(stored, name, name.encode())
    async with tab(running, stored.url, others=stored.others) as page:
        await enter_storage(page, f"/storage/{BUCKET}")
        await expect(page.get_by_role("button", name="\\u202egnp.exe")).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
        assert "stolen" not in await page.title()
        await page.get_by_role("button", name="sp ace+plus&amp;?#x").click()
        await expect(page.locator("pre")).to_have_text("sp ace+plus&amp;?#x")
        await page.get_by_role("button", name="back\\slash").click()
        await expect(page.locator("pre")).to_have_text("back\\slash")
        await page.get_by_role("link", name="a/", exact=True).click()
        await page.get_by_role("link", name="../", exact=True).click()
        await page.get_by_role("button", name="b", exact=True).click()
        await expect(page.get_by_text("A browser cannot ask for a name")).to_be_visible()
        await page.goto(f"/storage/{BUCKET}?in=%E6%97%A5%E6%9C%AC%E8%AA%9E/")
        await page.get_by_role("button", name="ファイル.txt").click()
        await expect(page.locator("pre")).to_have_text("日本語/ファイル.txt")
        await page.goto(f"/storage/{BUCKET}?in=%252e%252e/")
        await page.get_by_role("button", name="%00").click()
        await expect(page.locator("pre")).to_have_text("%2e%2e/%00")
        await page.goto(f"/storage/{BUCKET}?in=nothing/")
        await expect(page.get_by_text("There is nothing here.")).to_be_visible()


async def test_a_page_that_was_stored_is_saved_and_never_shown_as_one(running: Chromium, stored: Stored) -> None:
    await put(stored, "page.html", f"<html><body>{HOSTILE}</body></html>".encode())
    async with tab(running, stored.url, others=stored.others) as page:
        await enter_storage(page, f"/storage/{BUCKET}")
        await page.get_by_role("button", name="page.html", exact=True).click()
        await expect(page.locator("pre")).to_contain_text("<script>")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").click()
        assert (await download.value).suggested_filename == "page.html"
        assert page.url.startswith(stored.url)
        assert "stolen" not in await page.title()


async def test_who_does_not_reach_the_gateway_is_told_what_to_do(running: Chromium, stored: Stored) -> None:
    async with tab(running, stored.url, others=stored.others) as page:
        await page.route(f"{stored.s3_url}/**", lambda route: route.abort())
        await enter_storage(page)
        await expect(
            page.get_by_role("heading", name="This browser does not reach the storage gateway")
        ).to_be_visible()
        await expect(page.get_by_role("link", name="Open its address")).to_have_attribute("href", stored.s3_url)
        await picture(page, "storage-away")
        async with unanswered(page, f"{stored.s3_url}/**"):
            await page.get_by_role("button", name="Ask again").click()
        await expect(page.get_by_role("link", name=BUCKET)).to_be_visible()


@EACH_LOOK
async def test_storage_can_be_used_by_everybody(
    running: Chromium, stored: Stored, look: str, options: dict[str, Any]
) -> None:
    await put(stored, f"{FOLDER}{HOSTILE.replace('/', '')}", b"x")
    await put(stored, f"{FOLDER}pixel.png", PIXEL)
    await put(stored, f"{FOLDER}{'long' * 200}", b"x")
    async with tab(running, stored.url, others=stored.others, **options) as page:
        await page.goto("/sign-in")
        await page.locator("#key").fill(BUYER_KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator(".menu")).to_be_visible()
        await page.goto("/storage")
        await usable(page, f"{look}-storage")
        await page.goto(f"/storage/{BUCKET}?in={FOLDER}")
        await page.get_by_role("button", name="pixel.png").press("Enter")
        await expect(page.get_by_role("img", name="pixel.png")).to_be_visible()
        await usable(page, f"{look}-bucket")


async def test_on_a_whole_network_who_signed_in_with_a_wallet_subscribes_and_stores(
    running: Chromium, net: Net
) -> None:
    s3_url = (await net.buyer.network()).gateways["s3"]
    wallet = KeySigner(PrivateKey())
    async with (
        tab(running, net.url, others=(s3_url, f"blob:{net.url}")) as page,
    ):
        await BrowserWallet(wallet).put_into(page)
        await page.goto("/storage")
        await page.get_by_role("button", name="Sign in with your wallet").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Storage")
        await net.operator.grant(address_text(wallet.address), 5_000_000)
        await page.get_by_role("button", name="Subscribe").click()
        await expect(page.get_by_text("active")).to_be_visible()
        await page.get_by_label("Name").fill("barn-photos")
        await page.get_by_role("button", name="Make a bucket").click()
        await expect(page.get_by_text("The bucket is empty.")).to_be_visible()
        await page.get_by_label("Choose files").set_input_files(
            [FilePayload(name="note.txt", mimeType="text/plain", buffer=b"small enough to need no machine")]
        )
        await page.get_by_role("button", name="note.txt", exact=True).click()
        await expect(page.locator("pre")).to_have_text("small enough to need no machine")
        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Delete it for ever").click()
        await expect(page.get_by_text("The bucket is empty.")).to_be_visible()
        await page.get_by_role("link", name="Buckets").click()
        await page.get_by_role("button", name="Drop barn-photos").click()
        await page.get_by_role("button", name="Drop it for ever").click()
        await expect(page.get_by_text("You have no bucket yet.")).to_be_visible()
        await page.get_by_role("button", name="End the subscription").click()
        await page.get_by_role("button", name="End it now").click()
        await expect(page.get_by_role("button", name="Subscribe")).to_be_visible()
