"""What the gateway serves for browsers, and what the explorer asks it for."""

from __future__ import annotations

import ast
import gzip
import re
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path
from typing import get_args

import httpx2
import msgspec
import pytest

from fallow.domain.calls.actions import What
from fallow.domain.errors import KINDS
from fallow.domain.field_map import Tally
from fallow.domain.places import RESOLUTION_MAX, near, parent, read_cell
from fallow.http.console import FOLDER, MEDIA_TYPES, NAMED_PAGES, PAGE, built, policy
from fallow.services.market.field_map import draw
from fallow.services.market.totals import Count
from tests.market_invariants import DAY_MS
from tests.market_world import World
from tests.unit.fake_network import BUYER_KEY, FakeNetwork, node_view
from tests.unit.market_orders import accept_all, order, submit
from tests.unit.sdk_world import URL
from tests.unit.test_docs import ROOT


@pytest.fixture
async def http(network: FakeNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=network.app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nodes",
        f"/nodes/{'ab' * 32}",
        "/epochs",
        "/map",
        "/earnings",
        "/sector",
        f"/accounts/0x{'ab' * 20}",
        "/epochs/7",
        "/epochs/7/?from=mail",
        f"/jobs/{'ab' * 16}",
        "/jobs/new",
        "/operate/what-if",
    ],
)
async def test_every_page_is_the_one_program_under_a_strict_policy(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.content) == (200, (FOLDER / PAGE).read_bytes())
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    said = answer.headers["Content-Security-Policy"]
    assert said == policy()
    assert "unsafe" not in said
    assert "connect-src 'self';" in said
    assert answer.headers["Cache-Control"] == "no-cache"
    again = await http.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_built_files_are_kept_for_ever_and_named_by_their_contents(http: httpx2.AsyncClient) -> None:
    names = [name for name in built() if name != PAGE]
    assert {name.rpartition(".")[2] for name in names} >= {"js", "css"}
    for name in names:
        plain = await http.get(f"/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == (FOLDER / name).read_bytes()
        assert "immutable" in plain.headers["Cache-Control"]
        async with http.stream("GET", f"/{name}", headers={"Accept-Encoding": "gzip"}) as packed:
            raw = b"".join([piece async for piece in packed.aiter_raw()])
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(raw) == plain.content
        assert packed.headers["ETag"] != plain.headers["ETag"]


def test_licences_of_what_is_built_in_are_in_the_package() -> None:
    text = (FOLDER / "licenses.md").read_text("utf-8")
    assert {"@noble/curves", "@noble/hashes", "cborg", "h3-js", "maplibre-gl", "svelte", "world-atlas"} <= set(
        re.findall(r"^## (\S+) - ", text, re.MULTILINE)
    )


def test_what_browsers_load_first_is_small_and_so_is_the_map() -> None:
    scripts = {name: len(file.packed) for name, file in built().items() if name.endswith(("js", "mjs"))}
    first = sum(size for name, size in scripts.items() if name.startswith("assets/index-"))
    assert 0 < first <= 350_000
    assert 0 < sum(scripts.values()) - first <= 700_000
    assert {name[name.rindex(".") :] for name in built()} <= MEDIA_TYPES.keys()


@pytest.mark.parametrize("path", ["/nowhere", "/nodes/1/2", "/wallet?from=mail", "/v2"])
async def test_who_types_an_address_that_leads_nowhere_is_shown_the_console_as_what_is_not_there(
    http: httpx2.AsyncClient, path: str
) -> None:
    typed = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    shown, first = await http.get(path, headers=typed), await http.get("/")
    assert (shown.status_code, shown.content) == (404, first.content)
    same = ("Content-Type", "Content-Security-Policy", "Cross-Origin-Opener-Policy", "Referrer-Policy", "Cache-Control")
    assert [shown.headers[name] for name in same] == [first.headers[name] for name in same]
    again = await http.get(path, headers=typed | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (404, first.content)  # it is no page that a reader has
    for answer in (await http.get(path), await http.post(path, headers=typed)):
        assert (answer.status_code, answer.json()["code"]) == (404, "http.not_found")


@pytest.mark.parametrize(
    "path",
    ["/nodes/abc", f"/nodes/{'AB' * 32}", "/accounts/xyz", "/epochs/x", "/epochs/1e3", "/jobs/7/", "/operate/x"],
)
async def test_what_no_node_account_epoch_or_job_can_be_called_is_not_there(
    http: httpx2.AsyncClient, path: str
) -> None:
    shown = await http.get(path, headers={"Accept": "text/html"})
    assert (shown.status_code, shown.content) == (404, (FOLDER / PAGE).read_bytes())
    told = await http.get(path)
    assert (told.status_code, told.json()["code"]) == (404, "http.not_found")


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1", "/schema/x", "/schema/a/b", "/install/a/b", "/assets/a/b"])
async def test_below_the_addresses_of_programs_nobody_is_shown_a_page(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json()["code"]) == (404, "http.not_found")


async def test_programs_are_answered_as_before(http: httpx2.AsyncClient) -> None:
    missing = await http.get("/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "http.not_found")
    health = await http.get("/healthz")
    assert health.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    gone = await http.get("/assets/index-0.js")
    assert (gone.status_code, gone.json()["code"]) == (404, "console.no_such_file")
    assert (await http.get("/assets/..%2findex.html")).status_code in {400, 404}


@pytest.mark.parametrize(
    ("rpc", "allowed"),
    [
        ("https://rpc.example/v1/key", "https://rpc.example"),
        ("https://rpc.example:8545", "https://rpc.example:8545"),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
        ("http://rpc.example", ""),
        ("https://rpc.example; script-src *", ""),
        ("https://*", ""),
        ("https://rpc.example:8545@evil.example/", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_a_page_reaches_the_readers_own_rpc_and_nothing_else(rpc: str, allowed: str) -> None:
    assert policy(rpc) == policy().replace("connect-src 'self'", f"connect-src 'self' {allowed}".rstrip())


def test_the_sources_never_write_markup_of_others() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "web/src").rglob("*") if path.suffix in {".svelte", ".ts"}]
    assert sources
    assert [found for text in sources for found in re.findall(r"@html|innerHTML|outerHTML|document\.write", text)] == []


async def test_one_node_and_the_market_are_shown_to_everybody(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    network.nodes = [node_view(f"{number:064x}", f"barn {number}") for number in range(3)]
    for number in range(3):
        path = f"/v1/nodes/{number:064x}"
        seen = (await http.get(path)).json()
        assert (seen["node"], seen["label"]) == (f"{number:064x}", "")  # names are told to members alone
        member = {"Authorization": f"Bearer {BUYER_KEY}"}
        assert (await http.get(path, headers=member)).json()["label"] == f"barn {number}"
    unknown = await http.get(f"/v1/nodes/{'ff' * 32}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "node.unknown")
    assert (await http.get("/v1/market")).json()["nodes"] == {"busy": 1, "idle": 2, "offline": 1}


def test_the_market_counts_what_is_here_and_what_of_it_is_sold(world: World) -> None:
    submit(world, order(items=2))
    leases = accept_all(world)
    count = Count(world.brain, world.now)
    for _ in count.portions():
        pass
    view = count.view()
    held = [world.brain.leases[lease] for lease in leases]
    assert view.at == world.now
    assert sum(view.nodes.values()) == len(world.brain.floor.slots)
    assert view.nodes["busy"] == len({lease.node for lease in held})
    assert view.sold.cpu_milli == sum(lease.resources.cpu_milli for lease in held) > 0
    slots = world.brain.floor.slots.values()
    here = [slot for slot in slots if slot.life.online(world.now) and slot.offer.made.open]
    assert view.offered.cpu_milli == sum(slot.offer.made.total.cpu_milli for slot in here)
    ((vertical, part),) = view.sold_to.items()
    assert (vertical, part.sold, part.nodes, part.leases) == ("compute", view.sold, view.nodes["busy"], len(held))
    assert (view.jobs_open, view.leases_open, view.owners) == (1, 2, len({slot.offer.account for slot in here}))


async def test_the_map_shows_several_owners_together_and_countries_of_the_rest(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    here, lonely = read_cell("52.5,13.4"), read_cell("35.7,139.7")
    network.told[here] = Tally(owners=bytes(range(60)), nodes=4, open=3, busy=1, cpu_milli=8000, sold_milli=2000)
    network.told[lonely] = Tally(owners=bytes(20), nodes=2, countries=Counter(JP=2))
    seen = (await http.get("/v1/map?resolution=5")).json()
    assert seen["cells"] == [{"cell": here, "nodes": 4, "open": 3, "busy": 1, "cpu_milli": 8000, "sold_milli": 2000}]
    assert (seen["rest"], seen["countries"], seen["owners_min"]) == (2, {"JP": 2}, 3)
    assert lonely not in str(seen)
    coarse = (await http.get("/v1/map?resolution=2")).json()
    assert [one["cell"] for one in coarse["cells"]] == [parent(here, 2)]
    assert (await http.get("/v1/map?resolution=6")).status_code == 400


async def test_around_a_cell_the_map_shows_the_finest_ones_and_nothing_of_elsewhere(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    berlin, sydney = read_cell("52.5,13.4"), read_cell("-33.9,151.2")
    for cell in (berlin, sydney):
        network.told[cell] = Tally(owners=bytes(range(60)), nodes=3)
    beside = (set(near(parent(berlin, 2))) - {parent(berlin, 2)}).pop()
    for around, resolution in ((parent(berlin, 2), 5), (beside, 5), (parent(berlin, 0), 3)):
        seen = (await http.get(f"/v1/map?around={around}")).json()
        assert (seen["resolution"], [one["cell"] for one in seen["cells"]]) == (
            resolution,
            [parent(berlin, resolution)],
        )
    assert (await http.get(f"/v1/map?around={parent(berlin, 3)}")).status_code == 400
    no_cell = await http.get("/v1/map?around=82fffffffffffff")
    assert (no_cell.status_code, no_cell.json()["code"]) == (400, "place.around")


async def test_the_market_puts_on_the_map_whom_it_can_reach(world: World) -> None:
    submit(world, order(items=2))
    leases = accept_all(world)
    view = (await draw(world.rounds, world.now)).view(RESOLUTION_MAX)
    here = [slot for slot in world.brain.floor.slots.values() if slot.life.online(world.now)]
    assert (view.at, view.cells, view.rest) == (world.now, [], len(here))  # none of them tells a place
    spot, offer = read_cell("52.5,13.4"), here[0].offer
    here[0].offer = msgspec.structs.replace(offer, cell=spot)
    for number in (1, 2):
        neighbour = {"node": bytes([number]) * 32, "account": bytes([number]) * 20, "cell": spot}
        world.brain.floor.offer(msgspec.structs.replace(offer, **neighbour), world.now)
    view = (await draw(world.rounds, world.now)).view(RESOLUTION_MAX)
    assert view.rest == len(here) - 1
    (cell,) = view.cells
    assert (cell.cell, cell.nodes) == (spot, 3)
    assert cell.busy == len({world.brain.leases[lease].node for lease in leases})
    assert cell.sold_milli == sum(world.brain.leases[lease].resources.cpu_milli for lease in leases)
    late = (await draw(world.rounds, world.now + DAY_MS)).view(RESOLUTION_MAX)
    assert (late.at, late.cells, late.rest) == (world.now + DAY_MS, [], 0)  # nobody was heard of since


@pytest.mark.parametrize("tongue", ["en", "ja"])
def test_no_word_of_the_console_is_in_two_files_where_one_would_hide_the_other(tongue: str) -> None:
    files = [*(ROOT / "web/src/words").glob(f"*.{tongue}.ts"), ROOT / f"web/src/words/{tongue}.ts"]
    words = [re.findall(r"^  (\w+)(?=[:(])", file.read_text("utf-8"), re.MULTILINE) for file in files]
    assert all(words)
    assert [word for word, times in Counter(chain.from_iterable(words)).items() if times > 1] == []


def test_every_japanese_sentence_of_an_error_is_for_a_code_that_the_network_answers_with() -> None:
    text = (ROOT / "web/src/words/errors.ja.ts").read_text("utf-8")
    told = dict(re.findall(r'^  "?([\w.]+)"?: "(.+)",$', text, re.MULTILINE))
    assert len(told) == text.count('",\n') >= 60  # none is there twice, and none was overlooked
    assert sorted(told.keys() - _codes()) == []
    assert [code for code, said in told.items() if not re.search("[ぁ-ん].*。", said)] == []


def test_every_code_that_a_page_can_be_answered_with_has_a_japanese_sentence() -> None:
    """Of the services that a browser reaches; what only other programs ask is named here."""
    programs = {"burn", "custody", "delegation", "deposit", "install", "join", "owners_key", "receipt", "roll", "seed"}
    programs |= {"rewards", "stake", "ticket", "timelock", "tls", "vote"}
    feeds = {"price.no_feed", "price.old", "price.time", "price.too_often"}
    services = ("alerts", "epochs", "market", "registry", "sender", "settle")
    reached = (
        "http",
        *(f"services/{name}" for name in services),
        "domain/rewards/oracle.py",
        "adapters/webhook.py",
        "adapters/mail.py",
    )
    codes = {code for code in _raised(*reached) | _noted() if code.partition(".")[0] not in programs} - feeds
    assert len(codes) > 100
    files = [ROOT / "web/src/words" / name for name in ("errors.ja.ts", "ja.ts", "buyer.ja.ts", "money.ja.ts")]
    worded = {
        code for file in files for code in re.findall(r'^ +"?([\w.]+)"?: "', file.read_text("utf-8"), re.MULTILINE)
    }
    assert sorted(codes - worded) == []


def test_what_is_chosen_by_a_code_has_words_in_both_languages() -> None:
    """The compiler does not miss these: they are no fields."""
    english = sorted((ROOT / "web/src/words").glob("*en.ts"))
    named = [
        (file, name) for file in english for name in re.findall(r"^  (\w+): \{", file.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(named) > 20
    for file, name in named:
        assert (name, _keys(file, name)) == (name, _keys(file.with_name(file.name.replace("en.ts", "ja.ts")), name))


def test_one_thing_has_one_name_in_japanese() -> None:
    others = ["買い手", "機械", "持ち主", "ブラウザー", "パラメーター", "ステートメント"]
    others += ["終了したエポック", "閉じたエポック", "閉鎖", "締め切"]
    others += ["販売中"]  # of what is sold it says that it still waits for a buyer
    files = [*sorted((ROOT / "web/src/words").glob("*ja.ts")), ROOT / "README.ja.md"]
    files += [ROOT / "src/fallow" / mails for mails in ("ports/alert_text.py", "services/alerts/messages.py")]
    texts = [file.read_text("utf-8") for file in files]
    assert len(texts) > 8
    assert [word for text in texts for word in others if word in text] == []


def test_pages_end_no_sentence_with_a_full_stop_of_their_own_which_japanese_does_not_have() -> None:
    pages = {path.name: path.read_text("utf-8") for path in (ROOT / "web/src").rglob("*.svelte")}
    assert len(pages) > 50
    assert [name for name, text in pages.items() if re.search(r"\{(?:w\.\w+|/if)\}(?:</\w+>)?\.", text)] == []


def test_every_note_beside_a_price_of_others_has_a_japanese_sentence() -> None:
    text = (ROOT / "web/src/data/rivals-ja.ts").read_text("utf-8")
    worded = re.findall(r'^  "(.+)": ".*[ぁ-ん一-龠].*",$', text, re.MULTILINE)
    offers = tomllib.loads((ROOT / "src/fallow/data/prices.toml").read_text("utf-8"))["offer"]
    assert sorted(worded) == sorted({offer["note"] for offer in offers if "note" in offer})


def test_what_the_console_finds_out_by_itself_is_told_in_both_languages() -> None:
    """It has no sentence but that: thrown with a code and nothing else."""
    sources = [path.read_text("utf-8") for path in (ROOT / "web/src").rglob("*") if path.suffix in {".svelte", ".ts"}]
    bare = {code for text in sources for code in re.findall(r'new (?:Failed|Broken)\("([\w.]+)"(?:, "".*)?\)', text)}
    words = (ROOT / "web/src/words/en.ts", ROOT / "web/src/words/money.en.ts")
    told = {
        code for file in words for code in re.findall(r'^    "?([\w.]+)"?: "', file.read_text("utf-8"), re.MULTILINE)
    }
    elsewhere = {"offline", "stopped", "storage.unreachable"}  # said where they are shown
    assert len(bare) > 10
    assert sorted(bare - told - elsewhere) == []


def _keys(file: Path, name: str) -> set[str]:
    """Of a map of words."""
    _, _, after = file.read_text("utf-8").partition(f"\n  {name}: {{")
    body = (
        re.split(r"^  \}", after, maxsplit=1, flags=re.MULTILINE)[0] if after[0] == "\n" else after.partition("\n")[0]
    )
    bare = re.sub(r'\([^()"]*\) =>|`[^`]*`|"(?:[^"\\]|\\.)*"(:?)', lambda text: text[0] if text[1] else "", body)
    return set(re.findall(r'"?([\w.]+)"?: ', bare))


def _codes() -> set[str]:
    """Codes that the sources raise, that the framework's own refusals have, and S3's."""
    refused = (ROOT / "src/fallow/http/errors.py").read_text("utf-8")
    by_s3 = (ROOT / "src/fallow/verticals/storage/gateway/errors.py").read_text("utf-8")
    return {
        *_raised(""),
        *_noted(),
        *re.findall(r'"((?:http|rate)\.\w+|internal)"', refused),
        *(f"s3.{name}" for name in re.findall(r'^    "(\w+)": \(\d{3}, ', by_s3, re.MULTILINE)),
    }


def _noted() -> set[str]:
    """Codes that views carry beside a sentence, and that nothing raises."""
    files = ("services/sender/publishing.py", "services/settle/burns.py")
    texts = [(ROOT / "src/fallow" / file).read_text("utf-8") for file in files]
    return {code for text in texts for code in re.findall(r'"((?:root|oracle)\.\w+)"', text)}


def _raised(*parts: str) -> set[str]:
    """Codes that these parts of the sources raise."""
    found: set[str] = set()
    for file in chain.from_iterable(_sources(ROOT / "src/fallow" / part) for part in parts):
        tree = ast.parse(file.read_text("utf-8"))
        names = {
            target.id: one.value.value
            for one in tree.body
            if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
            for target in one.targets
            if isinstance(target, ast.Name)
        }
        for one in ast.walk(tree):
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in KINDS and one.args:
                found |= _told(one.args[0], names)
    return found


def _sources(part: Path) -> list[Path]:
    return [part] if part.is_file() else list(part.rglob("*.py"))


def _told(code: ast.expr, names: dict[str, str]) -> set[str]:
    """The codes that an error's first argument can be: itself, its name, or one for each deed of operators."""
    match code:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.Name(id=name) if name in names:
            return {names[name]}
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(text))]):
            return {what.removeprefix("un") + text for what in get_args(What)}
    return set()


def test_the_server_and_the_program_mean_the_same_names_of_pages() -> None:
    program = (ROOT / "web/src/App.svelte").read_text("utf-8")
    for name in ("[0-9a-f]{64}", "0x[0-9a-fA-F]{40}", "[0-9a-f]{32}"):
        assert f"/^{name}$/" in program
        assert any(name in each for each in NAMED_PAGES.values())
    assert r"/^\d{1,15}$/" in program
    operate = (ROOT / "web/src/pages/operate/Operate.svelte").read_text("utf-8")
    pages = re.findall(r'page === "(.+?)"', operate)
    assert "|".join(pages) == NAMED_PAGES["/operate"]
