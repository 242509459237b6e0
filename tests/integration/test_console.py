"""The console in a real browser: the explorer's journey on a real network, its looks and its states."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from fallow.bootstrap.http_server import serving
from fallow.domain.chains import chain_id_of
from fallow.domain.encoding import encode
from fallow.domain.epochs.leaves import tree_over
from fallow.domain.epochs.lines import Kept, Line, write_lines
from fallow.domain.epochs.manifest import path_of
from fallow.domain.resources import Resources
from fallow.domain.rewards.tree import Leaf
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from tests.browser import BOUND_MS, EACH_LOOK, Chromium, barriers, picture, tab, unanswered
from tests.closed_epochs import ADDRESSES, SETTLEMENT, VALIDATORS, ClosedEpoch
from tests.epoch_files import Node
from tests.instant_chain import CHAIN_ID
from tests.network import Net, Running, connected, until_async
from tests.programs import SECOND
from tests.settled_world import settled_world
from tests.unit.fake_network import NET, FakeNetwork, fake_network, node_view

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

EPOCH = 7
RPC = "https://rpc.example"
FALSE_PROOF = {"asset": f"0x{SETTLEMENT.hex()}", "cumulative": "5", "proof": [f"0x{'ab' * 32}"]}
OWED = [Leaf(bytes([n]) * 20, SETTLEMENT, n * 1_250_000) for n in range(1, 6)]
HOSTILE = "<img src=x onerror=\"document.title='stolen'\">\u202e</td><script>document.title='stolen'</script>"


class Explored(NamedTuple):
    """A network, and where its console is."""

    network: FakeNetwork
    url: str


@pytest_asyncio.fixture(loop_scope="session")
async def net(shared_network: Running) -> AsyncIterator[Net]:
    """As other tests have it, on the loop that the browser is on."""
    async with connected(shared_network) as net:
        await net.on_market(*shared_network.agents)
        yield net


async def first_owing(net: Net) -> int:
    """End epochs until somebody is owed something by one: what a job came to is on record a moment after its end."""
    found: list[int] = []

    async def is_closed() -> bool:
        views = await net.operator.epochs(limit=5)
        found.extend(view.epoch for view in views if view.root)
        if not found:
            await net.operator.end_epoch(after=views[0].epoch if views else None)
        return bool(found)

    await until_async(is_closed, "an epoch owes somebody something", every=1.0)
    return found[0]


async def test_a_stranger_sees_the_network_and_checks_what_was_paid(running: Chromium, net: Net) -> None:
    order = await net.submit([SECOND // 20])
    await net.finished(order.id)
    epoch = await first_owing(net)
    async with tab(running, net.url) as page:
        await page.goto("/")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("machines stand ready or work")
        await expect(page.get_by_text("as of ").first).to_be_visible()
        await picture(page, "network-overview")

        await page.get_by_role("navigation").get_by_role("link", name="Nodes").click()
        barn = (await net.operator.nodes())[0].node
        await page.get_by_role("link", name=f"{barn[:8]}…{barn[-4:]}").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Node {barn[:8]}…{barn[-4:]}")
        await expect(page.get_by_text("linux", exact=True)).to_be_visible()
        await picture(page, "network-node")

        await page.get_by_role("link", name="Epochs", exact=True).click()
        await page.get_by_role("link", name=str(epoch), exact=True).click()
        await page.get_by_role("button", name="Verify 0x").first.click()
        await expect(page.get_by_text("It holds.")).to_be_visible()
        await expect(page.get_by_text("Self-attested: the operator's own key")).to_be_visible()
        await expect(page.get_by_text(f"fallow epoch audit {epoch} --from {net.url}")).to_be_visible()
        await picture(page, "network-epoch")


@pytest_asyncio.fixture(loop_scope="session")
async def explored() -> AsyncIterator[Explored]:
    """A network whose services answer what a test wants, over HTTP."""
    async with (
        fake_network(Limits(address=Rate(10_000.0, 100_000))) as network,
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        yield Explored(network, f"http://127.0.0.1:{port}")


def filled(network: FakeNetwork, *, votes: int = 3, validators: Sequence[bytes] = ADDRESSES) -> None:
    """Machines, one of them with a hostile name, and an epoch that validators signed."""
    small = Resources(cpu_milli=50, memory_mib=32)
    network.nodes = [
        node_view("01" * 32, "barn", state="busy", leases=1, total=small, free=small),
        node_view("02" * 32, HOSTILE, attributes={"os": HOSTILE, HOSTILE[:40]: "x"}, country="ZZ"),
        node_view(Node(1).id.hex(), "", state="offline", terms=None),
    ]
    lines = [Line("compute", Node(1).id, leaf.account, 10, 500_000, *_amounts(leaf), [], [], []) for leaf in OWED]
    data = write_lines(lines)
    closed = ClosedEpoch(
        epoch=EPOCH, leaves=OWED, validators=validators, more={"lines": data},
        totals={"bought.2.income": (18_750_000).to_bytes(32), "bought.2.fee": (1_000_000).to_bytes(32)},
        policies=[{"name": "rewards", "version": 1, "digest": bytes(32), "parameters": {"model": "work_only"}}],
    )  # fmt: skip
    closed.vote(VALIDATORS[:votes])
    for name, content in closed.files.items():
        network.archive.put(path_of(EPOCH, name), content)


def _amounts(leaf: Leaf) -> tuple[bytes, bytes]:
    return leaf.cumulative.to_bytes(32), (10**18).to_bytes(32)


async def check(page: Page, account: bytes) -> None:
    """Type an account and have it verified."""
    await page.get_by_label("Account (0x").fill(f"0x{account.hex()}")
    await page.get_by_role("button", name="Verify", exact=True).click()


@EACH_LOOK
async def test_every_page_can_be_used_by_everybody(
    running: Chromium, explored: Explored, look: str, options: dict[str, Any]
) -> None:
    pages = {
        "overview": "/",
        "nodes": "/nodes",
        "node": f"/nodes/{'02' * 32}",
        "epochs": "/epochs",
        "epoch": "/epochs/7",
    }
    network, url = explored
    async with tab(running, url, **options) as page:
        filled(network)
        for name, path in pages.items():
            await page.goto(path)
            await expect(page.locator("h1")).to_be_visible()
            await expect(page.locator("[role=status]")).to_have_count(0)
            assert "\n".join(await barriers(page)) == "", name
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is wider than the screen"
            await picture(page, f"{look}-{name}")


async def test_an_epoch_says_what_became_of_its_records_and_what_each_line_is_owed(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    filled(network)
    usage, incentive, none = (2_000_000).to_bytes(32), (10**18).to_bytes(32), bytes(32)
    one = Line("compute", Node(1).id, OWED[0].account, 10, 500_000, usage, incentive, [], [("accepted", "", 7)], [])
    half = Kept("usage", (500_000).to_bytes(32), none, none, none, none, "")
    lines = [
        one._replace(kept=[half]),
        one._replace(node=b"\x02" * 32, verdicts=[("rejected", "usage.late", 3), ("inconclusive", "roll.away", 1)]),
        one._replace(node=b"\x03" * 32, usage=bytes(32), incentive=bytes(32)),
        one._replace(node=b"\x04" * 32, usage=bytes(32), incentive=bytes(32), score=0),
        Line("", Node(5).id, b"", 0, 0, none, none, [], [("accepted", "", 4)], []),  # of the network itself
    ]
    before = {
        "name": "rewards",
        "version": 1,
        "digest": bytes(32),
        "parameters": {"model": "work_only", "fee_ppm": 100_000},
    }
    after = before | {"version": 2, "parameters": {"model": "work_only", "fee_ppm": 80_000}}
    for epoch, rules in ((EPOCH, before), (EPOCH + 1, after)):
        closed = ClosedEpoch(epoch=epoch, leaves=OWED, more={"lines": write_lines(lines)}, policies=[rules])
        for name, data in closed.files.items():
            network.archive.put(path_of(epoch, name), data)
    async with tab(running, url) as page:
        await page.goto(f"/epochs/{EPOCH + 1}")
        rewards = page.get_by_role("region", name="Rewards")
        row = rewards.get_by_role("row", name="0.50 USD")
        await expect(row).to_contain_text("1.50 USD")
        await expect(rewards.locator("tbody tr")).to_have_count(5)
        await expect(rewards.get_by_role("button", name="Verify")).to_have_count(4)
        await expect(rewards.get_by_role("columnheader", name="Incentive (tokens)")).to_be_visible()
        nothing = rewards.get_by_role("row", name="03030303")  # was measured, and is not unknown
        await expect(nothing.get_by_role("cell")).to_have_text(
            [*[re.compile(".")] * 3, "0.00 USD", "0", "0", "0", re.compile("Why")]
        )
        await expect(rewards.get_by_role("row", name="none")).to_have_count(1)  # of the network itself
        high = await nothing.bounding_box()
        assert high is not None
        assert high["height"] <= 40  # its buttons stand beside its words, not below
        await row.get_by_role("button", name="Why").click()
        await expect(rewards).to_contain_text("7 records accepted")
        await page.set_viewport_size({"width": 390, "height": 844})
        box = await rewards.locator("summary").first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390  # what a line opens is on the screen
        await page.set_viewport_size({"width": 1280, "height": 800})
        funnel = page.get_by_role("region", name="From records to pay")
        await expect(funnel.get_by_role("listitem")).to_have_text(
            [
                re.compile(stage)
                for stage in (
                    r"Records\s+4\s+29 of them are judged",
                    r"Accepted\s+25\s+. 3 rejected: usage.late\s*. 1 inconclusive",
                    r"Lines\s+4", r"Metered\s+4", r"Paid\s+2\s+. 1 were suspended\s*. 1 were not bought",
                )
            ]
        )  # fmt: skip
        await page.get_by_text("2 changed since epoch 7").click()
        await expect(page.get_by_text("10% → 8%")).to_be_visible()
        await expect(page.get_by_text("as of")).to_be_visible()
        (first, *_) = json.loads(await file_of(page, "JSON", -2))
        assert (first["usage_held_microusd"], first["usage_owed_microusd"]) == ("500000", "1500000")
        files = json.loads(await file_of(page, "JSON", -1))
        assert {"lines", "leaves", "batches"} <= {one["name"] for one in files}
        await page.goto("/")
        undated = page.locator("main section:has(> .head h2)").filter(has_not_text="as of").locator("h2")
        await expect(undated).to_have_text(["Live", "The field beside this network"])  # both have a date in each line


async def file_of(page: Page, kind: str, at: int = 0) -> str:
    """Take one of the page's tables as a file, the first if nothing else is said."""
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name=kind, exact=True).nth(at).click()
    download = await waiting.value
    path = await download.path()
    return await asyncio.to_thread(path.read_text, "utf-8")


async def test_the_overview_tells_which_jobs_ended_and_how_many_nodes_each_day_had(
    running: Chromium, explored: Explored
) -> None:
    _, url = explored
    async with tab(running, url) as page:
        await page.goto("/")
        ended = page.get_by_role("region", name="Jobs that ended")
        await expect(ended.get_by_role("row", name="done 20 600 4,096")).to_be_visible()
        await expect(ended.get_by_text("as of ")).to_be_visible()
        await expect(page.get_by_text("609 ended in 30 days")).to_be_visible()
        days = page.get_by_role("region", name="Nodes by day")
        await expect(days.locator("title")).to_have_text(["1 Jan 1970 · 2", "3 Jan 1970 · 3"])
        for part, kind, told in (
            (ended, "CSV", "cancelled,1,2,12,1000000"),
            (ended, "JSON", '"jobs_in_720_hours": 7'),
            (days, "CSV", "172800000,3"),
        ):
            async with page.expect_download() as waiting:
                await part.get_by_role("button", name=kind, exact=True).click()
            path = await (await waiting.value).path()
            assert told in await asyncio.to_thread(path.read_text, "utf-8")


async def test_names_of_others_are_text_and_nothing_else(running: Chromium, explored: Explored) -> None:
    network, url = explored
    async with tab(running, url) as page:
        filled(network)
        await page.goto("/nodes")
        await expect(page.get_by_role("link", name="02020202…0202")).to_be_visible()
        await expect(page.get_by_role("row", name="01010101")).to_contain_text("/ 0.05")
        assert HOSTILE not in await page.content()  # a machine's name is its owner's, and told to no stranger
        await page.get_by_role("link", name="02020202…0202").click()
        await expect(page.get_by_text(HOSTILE).first).to_be_visible()
        await expect(page.get_by_text(HOSTILE[:40], exact=True)).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
        assert "stolen" not in await page.title()


async def test_a_claim_is_verified_under_the_validators_that_signed(running: Chromium, explored: Explored) -> None:
    network, url = explored
    async with tab(running, url) as page:
        filled(network)
        await page.goto(f"/epochs/{EPOCH}")
        await check(page, OWED[2].account)
        await expect(page.get_by_text("It is owed 3.75 USD in all")).to_be_visible()
        await expect(page.get_by_text("3 of 4 validators signed this root")).to_be_visible()
        await expect(page.get_by_text("A quorum of the validators")).to_be_visible()
        await picture(page, "verified")
        await page.get_by_role("region", name="Signatures of validators").get_by_role("button", name="JSON").wait_for()
        votes = json.loads(await file_of(page, "JSON"))
        assert [row["signed"] for row in votes].count(True) == votes[0]["quorum"] == 3
        await check(page, b"\xee" * 20)
        await expect(page.get_by_text("It does not hold.")).to_be_visible()
        await page.get_by_label("Account (0x").fill("0x12")
        await page.get_by_role("button", name="Verify", exact=True).click()
        await expect(page.get_by_text("An account is 0x and 40 hexadecimal digits.")).to_be_visible()


async def test_of_very_many_leaves_one_is_proven_by_its_way_to_the_root(running: Chromium, explored: Explored) -> None:
    network, url = explored
    many = [Leaf(n.to_bytes(20), SETTLEMENT, n) for n in range(1, 90_001)]
    closed = ClosedEpoch(epoch=EPOCH, leaves=many)
    for name, data in (closed.files | {"tree": tree_over(many)}).items():
        network.archive.put(path_of(EPOCH, name), data)
    async with tab(running, url) as page:
        await page.goto(f"/epochs/{EPOCH}")
        await check(page, many[49_999].account)
        await expect(page.get_by_text("It is owed 0.05 USD in all")).to_be_visible()
        await expect(page.get_by_text(re.compile("1[67] hashes lead from this account's leaf"))).to_be_visible()
        await check(page, b"\xee" * 20)
        await expect(page.get_by_text("only the file of all leaves shows")).to_be_visible()
        await expect(page.get_by_text("owed nothing")).to_have_count(0)
        await page.route("**/proofs/*", lambda route: route.fulfill(json=[FALSE_PROOF]))
        await check(page, b"\xee" * 20)
        await expect(page.get_by_text("The way that the gateway gave")).to_be_visible()
        await expect(page.get_by_text("It does not hold.")).to_be_visible()
        await expect(page.get_by_text("owed nothing")).to_have_count(0)


async def test_an_account_in_capitals_that_are_its_checksum_is_the_same_account(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    account = bytes.fromhex("ab" * 20)
    many = sorted([Leaf(account, SETTLEMENT, 50_000), *(Leaf(n.to_bytes(20), SETTLEMENT, n) for n in range(1, 90_001))])
    for name, data in (ClosedEpoch(epoch=EPOCH, leaves=many).files | {"tree": tree_over(many)}).items():
        network.archive.put(path_of(EPOCH, name), data)
    async with tab(running, url) as page:
        await page.goto(f"/epochs/{EPOCH}")
        await page.get_by_label("Account (0x").fill("0x" + "aB" * 20)
        await page.get_by_role("button", name="Verify", exact=True).click()
        await expect(page.get_by_text("It is owed 0.05 USD in all")).to_be_visible()


async def test_of_an_epoch_that_owes_nobody_anything_the_page_says_so(running: Chromium, explored: Explored) -> None:
    """Such an epoch names no leaves at all."""
    network, url = explored
    for name, data in ClosedEpoch(epoch=EPOCH, leaves=[], files=[]).files.items():
        network.archive.put(path_of(EPOCH, name), data)
    async with tab(running, url) as page:
        await page.goto(f"/epochs/{EPOCH}")
        await check(page, b"\xee" * 20)
        await expect(page.get_by_text("by this epoch it is owed nothing")).to_be_visible()


async def test_what_a_node_earned_is_nothing_only_where_its_lines_were_read(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    line = Line("compute", Node(1).id, OWED[0].account, 10, 500_000, *_amounts(OWED[0]), [], [], [])
    others = [line._replace(node=n.to_bytes(32)) for n in range(40_000)]
    network.nodes = [node_view("02" * 32, ""), node_view(Node(1).id.hex(), "")]
    for epoch, lines in ((EPOCH, others), (EPOCH + 1, [line])):
        closed = ClosedEpoch(epoch=epoch, leaves=OWED, more={"lines": write_lines(lines)})
        for name, data in closed.files.items():
            network.archive.put(path_of(epoch, name), data)
    async with tab(running, url) as page:
        await page.goto(f"/nodes/{Node(1).id.hex()}")
        await expect(page.get_by_text("Epoch 7: what it earned there was not read.")).to_be_visible()
        await expect(page.get_by_role("link", name=str(EPOCH + 1), exact=True)).to_be_visible()
        await page.goto(f"/nodes/{'02' * 32}")
        await expect(page.get_by_text("Epoch 7: what it earned there was not read.")).to_be_visible()
        await expect(page.get_by_text("Nothing in the latest epochs.")).to_have_count(0)


async def test_a_first_page_of_machines_that_was_cut_short_is_not_taken_for_all_of_them(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    whole = [node_view(f"{n:02x}" * 32, "") for n in range(1, 8)]

    async def cut(route: Route) -> None:
        """Answer with at most three, as a gateway does whose machines have much to say."""
        answer = await route.fetch()
        await route.fulfill(response=answer, json=(await answer.json())[:3])

    network.nodes = whole
    async with tab(running, url) as page:
        await page.route("**/v1/nodes?*", cut)
        await page.goto("/nodes")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(3)
        for count in (6, 7):
            await page.get_by_role("button", name="Show more").click()
            await expect(rows).to_have_count(count)
        await page.get_by_role("button", name="Show more").click()
        await expect(page.get_by_role("button", name="Show more")).to_have_count(0)
        network.nodes = whole[:3]
        network.clock.ms += 10_000
        await page.reload()
        await expect(rows).to_have_count(3)
        await expect(page.get_by_role("button", name="Show more")).to_have_count(0)


async def test_what_comes_later_than_the_next_time_to_ask_is_shown_all_the_same(
    running: Chromium, explored: Explored
) -> None:
    filled(explored.network)
    waiting: list[Route] = []
    async with tab(running, explored.url) as page:
        await page.clock.install()
        asked = asyncio.Event()

        async def late(route: Route) -> None:
            waiting.append(route)
            asked.set()

        await page.route("**/v1/market", late)
        await page.goto("/")
        await asked.wait()
        for _ in range(3):
            await page.clock.run_for(5000)
        assert len(waiting) == 1
        await waiting[0].continue_()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("stand ready or work")


async def test_a_network_that_says_the_same_begins_nothing_anew(running: Chromium, explored: Explored) -> None:
    filled(explored.network)
    lists: list[str] = []
    async with tab(running, explored.url) as page:
        page.on("request", lambda request: lists.append(request.url) if "/v1/epochs?" in request.url else None)
        await page.clock.install()
        await page.goto(f"/nodes/{Node(1).id.hex()}")
        await expect(page.get_by_role("link", name=str(EPOCH), exact=True).first).to_be_visible()
        async with page.expect_response("**/v1/network"):
            await page.clock.run_for(61_000)
        async with page.expect_response("**/v1/nodes/*"):
            await page.clock.run_for(10_000)
        assert len(lists) == 1


async def test_machines_that_come_to_a_full_page_can_still_be_paged_to(running: Chromium, explored: Explored) -> None:
    machines = [node_view(n.to_bytes(32).hex(), "") for n in range(1, 202)]
    async with tab(running, explored.url) as page:
        explored.network.nodes = machines[:199]
        await page.clock.install()
        await page.goto("/nodes")
        await expect(page.locator("tbody tr")).to_have_count(199)
        await expect(page.get_by_role("button", name="Show more")).to_have_count(0)
        explored.network.nodes = machines
        explored.network.clock.ms += 10_000
        await page.clock.run_for(10_000)
        await page.get_by_role("button", name="Show more").click()
        await expect(page.locator("tbody tr")).to_have_count(201)


async def test_what_a_slow_moment_kept_back_comes_without_the_readers_doing(
    running: Chromium, explored: Explored
) -> None:
    """What is asked for once, and what is asked for once a minute."""
    async with tab(running, explored.url) as page:
        filled(explored.network)
        await page.clock.install(time=0)
        await page.clock.pause_at(3600)  # else it may just be asking when the answer becomes another
        await page.route("**/v1/network", lambda route: route.abort())
        await page.goto("/epochs")
        await expect(page.get_by_text("It tries again by itself.")).to_be_visible()
        await page.unroute_all()
        await page.clock.run_for(10_000)
        await expect(page.get_by_role("link", name=str(EPOCH), exact=True)).to_be_visible()
        await page.route("**/v1/epochs/**", lambda route: route.abort())
        await page.get_by_role("link", name=str(EPOCH), exact=True).click()
        await expect(page.get_by_text("It tries again by itself.")).to_be_visible()
        await page.unroute_all()
        verify = page.get_by_role("button", name="Verify 0x").first
        async with asyncio.timeout(BOUND_MS / 1000):
            while not await verify.is_visible():
                await page.clock.run_for(10_000)  # of several questions one may have been on its way until now
                with suppress(AssertionError):  # what was asked comes by the clock that nobody runs
                    await expect(verify).to_be_visible(timeout=1000)


@pytest.mark.parametrize("lie", ["leaves", "statement", "quorum", "one for three"])
async def test_what_was_not_signed_is_not_believed(running: Chromium, explored: Explored, lie: str) -> None:
    network, url = explored
    async with tab(running, url) as page:
        filled(network, votes=2 if lie == "quorum" else 3)
        if lie == "one for three":
            filled(network, votes=1, validators=[*[ADDRESSES[0]] * 3, ADDRESSES[1]])
            nothing = {"epoch": EPOCH, "validators": [], "quorum": 0, "signed": [], "wrong": [], "equivocated": []}
            await page.route("**/votes", partial(Route.fulfill, json=nothing | {"decided": False, "published": False}))
        if lie == "leaves":
            network.archive.put(
                path_of(EPOCH, "leaves"), b"".join(leaf._replace(cumulative=9).encode() for leaf in OWED)
            )
        if lie == "statement":
            network.archive.put(path_of(EPOCH, "statement"), encode([encode({"epoch": EPOCH}), bytes(64)]))
        await page.goto(f"/epochs/{EPOCH}")
        if lie == "statement":
            await expect(page.get_by_role("alert")).to_contain_text("archive.unreadable")
            return
        await check(page, OWED[2].account)
        await expect(page.get_by_text("It does not hold.")).to_be_visible()


async def test_what_the_gateway_shows_is_marked_as_signed_only_where_it_is(
    running: Chromium, explored: Explored
) -> None:
    async def alter(route: Route) -> None:
        view = await (await route.fetch()).json()
        await route.fulfill(json=view | {"root": "ab" * 32})

    async with tab(running, explored.url) as page:
        filled(explored.network)
        await page.route(f"**/v1/epochs/{EPOCH}", alter)
        await page.goto(f"/epochs/{EPOCH}")
        await expect(page.get_by_text("what the gateway shows of it is not what was signed")).to_be_visible()
        await expect(page.get_by_text("abababab")).to_have_count(0)


async def test_what_cannot_be_had_is_neither_right_nor_wrong(running: Chromium, explored: Explored) -> None:
    async with tab(running, explored.url) as page:
        filled(explored.network)
        await page.route("**/files/votes/*", lambda route: route.abort())
        await page.goto(f"/epochs/{EPOCH}")
        await check(page, OWED[2].account)
        await expect(page.get_by_role("heading", name="Validators", exact=True)).to_be_visible()
        await expect(page.get_by_text("This could not be checked.")).to_have_count(2)
        await expect(page.get_by_text("It does not hold.")).to_have_count(0)
        await expect(page.get_by_text("it is owed nothing")).to_have_count(0)


async def test_a_result_is_shown_beside_the_account_that_it_is_about_and_play_money_as_such(
    running: Chromium, explored: Explored
) -> None:
    asset = bytes(19) + b"\x01"
    owed = [Leaf(leaf.account, asset, leaf.cumulative) for leaf in OWED]
    closed = ClosedEpoch(epoch=EPOCH, leaves=owed, settlement=asset, settlement_total=bytes(32))
    for name, data in closed.files.items():
        explored.network.archive.put(path_of(EPOCH, name), data)
    async with tab(running, explored.url) as page:
        await page.goto(f"/epochs/{EPOCH}")
        await check(page, OWED[2].account)
        await expect(page.get_by_text("It is owed 3.75 USD TEST in all")).to_be_visible()
        await page.get_by_label("Account (0x").fill(f"0x{OWED[1].account.hex()}")
        await expect(page.get_by_text("It holds.")).to_have_count(0)


@pytest.mark.parametrize("root", ["sent", "missing"])
async def test_the_contract_is_asked_through_the_readers_own_rpc(
    running: Chromium, explored: Explored, root: str
) -> None:
    """A real contract in this process; the page reaches the RPC in its address, which the browser's policy lets it."""
    world = await settled_world()
    for name, data in world.close(EPOCH, {leaf.account: leaf.cumulative for leaf in OWED}).files.items():
        world.archive.put(path_of(EPOCH, name), data)
        explored.network.archive.put(path_of(EPOCH, name), data)
    if root == "sent":
        await world.fund(sum(leaf.cumulative for leaf in OWED))
        assert await world.publisher().look() == 1

    async def answer(route: Route) -> None:
        asked = json.loads(route.request.post_data or "")
        if asked["method"] == "eth_chainId":
            said = hex(CHAIN_ID)
        else:
            (call, _) = asked["params"]
            said = "0x" + (await world.chain.call(bytes.fromhex(call["to"][2:]), bytes.fromhex(call["data"][2:]))).hex()
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}
        await route.fulfill(json={"jsonrpc": "2.0", "id": 1, "result": said}, headers=headers)

    async with tab(running, explored.url, others=(RPC,)) as page:
        await page.route(f"{RPC}/**", answer)
        await page.goto(f"/epochs/{EPOCH}")
        await page.get_by_label("Your own RPC").fill(f"{RPC}/key")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_text(f"The chain is asked through {RPC}/key")).to_be_visible()
        await check(page, OWED[2].account)
        if root == "sent":
            await expect(
                page.get_by_text(f"The contract 0x{world.made.distributor.hex()} on chain {CHAIN_ID}")
            ).to_be_visible()
            await expect(page.get_by_text("Independent: the contract on the chain")).to_be_visible()
            await picture(page, "independent")
        else:
            await expect(page.get_by_text("The contract does not have this root.")).to_be_visible()
            await expect(page.get_by_text("It does not hold.")).to_be_visible()


async def test_a_chain_that_the_network_runs_itself_makes_nothing_independent(
    running: Chromium, explored: Explored
) -> None:
    own = chain_id_of(NET)
    closed = ClosedEpoch(epoch=EPOCH, leaves=OWED, chain_id=own, contract=b"\xc0" * 20)
    for name, data in closed.files.items():
        explored.network.archive.put(path_of(EPOCH, name), data)

    async def answer(route: Route) -> None:
        method = json.loads(route.request.post_data or "")["method"]
        said = hex(own) if method == "eth_chainId" else "0x" + (closed.root.root + bytes(64)).hex()
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}
        await route.fulfill(json={"jsonrpc": "2.0", "id": 1, "result": said}, headers=headers)

    async with tab(running, explored.url, others=(RPC,)) as page:
        await page.route(f"{RPC}/**", answer)
        await page.goto(f"/epochs/{EPOCH}?rpc={RPC}/")
        await check(page, OWED[2].account)
        await expect(page.get_by_text("It is owed 3.75 USD in all")).to_be_visible()
        await expect(page.get_by_text("the chain that you asked is the network's own")).to_be_visible()
        await expect(page.get_by_text("Independent")).to_have_count(0)


async def test_an_empty_network_says_what_to_do_and_one_that_is_away_says_so(
    running: Chromium, explored: Explored
) -> None:
    network, url = explored
    async with tab(running, url) as page:
        network.market = type(network.market)(
            **{name: type(getattr(network.market, name))() for name in network.market.__struct_fields__}
        )
        await page.goto("/")
        await expect(page.get_by_text("no machine is here yet")).to_be_visible()
        await expect(page.get_by_text(f"fallow agent join {url}")).to_be_visible()
        await expect(page.get_by_text("No epoch is closed yet.", exact=True)).to_be_visible()
        await expect(page.get_by_role("figure", name="The field")).to_contain_text("No machine is on the market.")
        await picture(page, "empty")
        for path in ("/earnings", "/governance", "/networks/compute", f"/accounts/0x{'EE' * 20}"):
            await page.goto(path)
            await expect(page.get_by_text("fallow epoch close")).to_be_visible()
        await page.goto("/epochs/1")
        await expect(page.get_by_role("heading", level=1)).to_have_text("This could not be shown")
        await page.goto("/")
        await page.get_by_role("navigation").get_by_role("link", name="Nodes").click()
        await expect(page.get_by_text("No machine is on the market.")).to_be_visible()
        await page.route("**/v1/**", lambda route: route.abort())
        await page.get_by_role("link", name="Overview").click()
        await expect(page.get_by_text("The network does not answer").first).to_be_visible()
        await expect(page.get_by_role("status")).to_have_count(0)  # or the first one to be asked again is another
        await picture(page, "away")
        async with unanswered(page, "**/v1/**"):
            await page.get_by_role("button", name="Ask again").first.click()
        await expect(page.get_by_text("no machine is here yet")).to_be_visible()


async def test_who_goes_back_finds_a_page_where_he_left_it(running: Chromium, explored: Explored) -> None:
    network, url = explored
    filled(network)
    async with tab(running, url, viewport={"width": 1280, "height": 400}) as page:
        await page.goto(f"/epochs/{EPOCH}")
        await expect(page.get_by_role("region", name="Files").get_by_role("button", name="CSV")).to_be_visible()
        await page.get_by_role("region", name="Rewards").get_by_role("link").last.scroll_into_view_if_needed()
        left = await page.evaluate("scrollY")
        assert left > 100
        await page.get_by_role("region", name="Rewards").get_by_role("link").last.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Node")
        assert await page.evaluate("scrollY") == 0
        await page.go_back()
        await until_async(lambda: page.evaluate(f"scrollY === {left}"), "the page is where it was left")


async def test_the_keyboard_and_the_readers_choices_are_enough(running: Chromium, explored: Explored) -> None:
    network, url = explored
    async with tab(running, url) as page:
        filled(network)
        await page.goto("/")
        await expect(page.locator("h1")).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.get_by_role("navigation").get_by_role("link", name="Nodes").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Machines that are on the market")
        await page.get_by_role("button", name="日本語").press("Enter")
        await page.get_by_role("button", name="外観").press("Enter")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("市場に出ている機器")
        assert await page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == [
            "ja",
            "dark",
        ]
