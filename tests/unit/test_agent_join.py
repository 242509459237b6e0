"""Joining: what is asked, what is agreed to, and what is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fallow.agent import inventory
from fallow.agent.bench import score_cpu
from fallow.agent.consent import Consent, consent_text
from fallow.agent.enrol import Plan, Wishes, carry_out, plan_join, settings_from
from fallow.agent.home import Home
from fallow.agent.http import new_client
from fallow.agent.identity import NodeKey
from fallow.agent.inventory import Inventory, take_inventory
from fallow.agent.owner import Shape
from fallow.agent.presence import Presence
from fallow.bootstrap.agent import leave, run_agent
from fallow.domain.bindings import BindingCode
from fallow.domain.calls.nodes import Join, join_message
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.domain.facts import NodeBound, OfferMade, SpotOfferMade
from fallow.domain.identity import verify
from fallow.domain.resources import Terms
from fallow.verticals.compute.plugin import VERTICAL as COMPUTE
from fallow.verticals.compute.worker.podman import find_podman, find_runtimes
from tests.capability import require
from tests.unit.agent_fakes import FakeClock

MACHINE = Inventory(4000, 8192, 100_000, 0, "linux", "x86_64", "3.11", (), {})
NETWORK = {"net": "lab", "public_key": "ab" * 32, "bus_url": "nats://127.0.0.1:1", "preset": "lab", "version": "1"}
JOINED = {"net": "lab", "account": "0x" + "11" * 20, "account_signature": "0x" + "22" * 65}
URL = "https://net.example"


class FakeSite:
    """A network's HTTP side; `network` and `joined` are what it answers."""

    def __init__(self) -> None:
        self.network: Any = NETWORK
        self.joined: Any = JOINED
        self.status = 200
        self.joins: list[Join] = []
        self.client = new_client(httpx2.MockTransport(self.answer))

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as a network does."""
        if request.url.path == "/v1/network":
            return httpx2.Response(200, json=self.network)
        self.joins.append(msgspec.json.decode(request.content, type=Join))
        return httpx2.Response(self.status, json=self.joined)


@pytest.fixture
async def site() -> AsyncIterator[FakeSite]:
    site = FakeSite()
    async with site.client:
        yield site


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def planned(site: FakeSite, home: Home) -> Plan:
    return await plan_join(
        site.client, home, URL + "/", settings_from(Wishes(label="attic"), MACHINE), {"compute": COMPUTE}
    )


async def test_joining_keeps_consent_and_state(site: FakeSite, home: Home) -> None:
    plan = await planned(site, home)
    assert not home.key.exists()
    for said in (
        "compute",
        "4 cores",
        "4 GiB",
        URL,
        "'attic'",
        "0.01 US dollars",
        "also while they run",
        "registries",
    ):
        assert said in plan.text
    await carry_out(site.client, home, plan, "secret", clock=FakeClock(), score=lambda: 42)
    key = NodeKey.load(home.key)
    (asked,) = site.joins
    assert (asked.node, asked.label) == (key.text, "attic")
    assert verify(key.node, join_message("secret", key.text), bytes.fromhex(asked.proof))
    assert Consent.open(home.consent.read_bytes(), key.node).text == plan.text
    state = home.state()
    assert (state.account, state.score_cpu, state.enrolled) == (JOINED["account"], "42", False)
    assert not any(b"secret" in path.read_bytes() for path in home.path.iterdir())
    with pytest.raises(Conflict, match="already"):
        await planned(site, home)


@pytest.mark.parametrize(
    "changes",
    [{"net": "other"}, {"account": "0x12"}, {"account_signature": "22"}, {"account_signature": "no hex"}, {"net": 1}],
)
async def test_an_answer_that_does_not_fit_is_refused(site: FakeSite, home: Home, changes: dict[str, Any]) -> None:
    site.joined = {**JOINED, **changes}
    plan = await planned(site, home)
    with pytest.raises((Conflict, InvalidInput)):
        await carry_out(site.client, home, plan, "secret", clock=FakeClock(), score=lambda: 42)
    assert not home.joined


async def test_joining_for_an_account_that_keeps_its_key(site: FakeSite, home: Home) -> None:
    code = BindingCode(b"\x11" * 20, 1_900_000_000, b"\x22" * 65).text
    plan = await planned(site, home)
    with pytest.raises(InvalidInput) as caught:
        await carry_out(site.client, home, plan, "s", clock=FakeClock(), score=lambda: 1, account="0x" + "11" * 20)
    assert f"fallow account bind {NodeKey.load(home.key).text} --net lab " in caught.value.hint
    assert (site.joins, home.joined) == ([], False)
    site.joined = {**JOINED, "account": "0x" + "33" * 20}
    with pytest.raises(Conflict, match="not to the code's"):
        await carry_out(site.client, home, plan, "s", clock=FakeClock(), score=lambda: 1, account=code)
    assert not home.joined
    site.joined = JOINED
    await carry_out(site.client, home, plan, "s", clock=FakeClock(), score=lambda: 1, account=code)
    asked, key = site.joins[-1], NodeKey.load(home.key)
    assert asked.account == code
    assert verify(key.node, join_message("s", key.text, code), bytes.fromhex(asked.proof))
    binding = Presence(home, home.state(), {}).binding()
    assert isinstance(binding, NodeBound)
    assert (binding.account, binding.before_s) == (b"\x11" * 20, 1_900_000_000)


async def test_a_refused_token_is_told_in_the_networks_words(site: FakeSite, home: Home) -> None:
    site.status = 403
    site.joined = {"kind": "NotAllowed", "code": "token.expired", "message": "The token has expired.", "hint": "Ask."}
    plan = await planned(site, home)
    with pytest.raises(NotAllowed, match="has expired") as caught:
        await carry_out(site.client, home, plan, "secret", clock=FakeClock(), score=lambda: 42)
    assert caught.value.hint == "Ask."


@pytest.mark.parametrize("network", [{}, [], {**NETWORK, "public_key": "ab"}, {**NETWORK, "bus_url": ""}])
async def test_what_is_no_network_is_told(site: FakeSite, home: Home, network: object) -> None:
    site.network = network
    with pytest.raises(InvalidInput, match="like a network"):
        await planned(site, home)


async def test_a_network_that_is_not_there_is_told(home: Home) -> None:
    def gone(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with new_client(httpx2.MockTransport(gone)) as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await plan_join(client, home, URL, settings_from(Wishes(), MACHINE), {})


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(cores=4.5),
        Wishes(gpus=1),
        Wishes(gpus=-1),
        Wishes(cores=0),
        Wishes(memory_mib=9000),
        Wishes(disk_mib=-1),
        Wishes(price_usd_per_core_hour=-0.1),
        Wishes(price_usd_per_core_hour=float("nan")),
        Wishes(price_usd_per_gpu_hour=1_000_001),
        Wishes(country="Japan"),
        Wishes(country="日本"),
    ],
)
def test_what_no_offer_can_say_is_refused_before_anything_is_sent(wishes: Wishes) -> None:
    with pytest.raises(FallowError):
        settings_from(wishes, MACHINE)


async def test_what_is_left_of_a_machine_that_left_is_named(home: Home) -> None:
    NodeKey.load_or_create(home.key)
    with pytest.raises(NotFound, match="its key, and records") as caught:
        await leave(home.path, erase=True)
    assert caught.value.code == "agent.left"


@pytest.fixture
def engine() -> None:
    require("podman")


@pytest.mark.usefixtures("engine")
async def test_no_images_stay_where_a_machine_has_left(site: FakeSite, home: Home) -> None:
    """Root's lie outside of the folder, and no command would find them afterwards."""
    plan = await plan_join(site.client, home, URL, settings_from(Wishes(), MACHINE), {"compute": COMPUTE})
    await carry_out(site.client, home, plan, "s", clock=FakeClock(), score=lambda: 1)
    podman = find_podman(home.cache / "compute", find_runtimes()[0], groups=False)
    podman.prepare()
    assert await leave(home.path, erase=False) == (0, {})
    assert not podman.store.exists()
    assert home.key.exists()
    assert not home.joined


async def test_a_country_is_offered_as_the_market_reads_it(site: FakeSite, home: Home) -> None:
    settings = settings_from(Wishes(country="jp"), MACHINE)
    plan = await plan_join(site.client, home, URL, settings, {"compute": COMPUTE})
    assert "country JP" in plan.text
    state = await carry_out(site.client, home, plan, "s", clock=FakeClock(), score=lambda: 1)
    shape = Shape(open=True, total=settings.total, floor=0)
    made = Presence(home, state, {}).offer(shape)
    assert msgspec.convert(msgspec.to_builtins(made), OfferMade).country == "JP"


def test_inventory_and_score_of_this_machine(tmp_path: Path) -> None:
    found = take_inventory(tmp_path)
    assert found.cpu_milli > 0
    assert found.memory_mib > 0
    assert found.attributes["os"]
    assert bool(found.gpus) != ("gpu" in found.missing)
    ticks = iter(range(0, 10**12, 10**9))
    assert score_cpu(lambda: next(ticks)) == 20


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: AMD  EPYC 7543\x07 32-Core\nmodel name\t: other\n", "AMD EPYC 7543 32-Core"),
        ("Model\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("model name : " + "x" * 500, "x" * 80),
        ("bogomips : 1\n", ""),
    ],
)
def test_what_the_processor_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, model: str
) -> None:
    (there := tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(inventory, "_CPU_INFO", there)
    assert take_inventory(tmp_path).attributes.get("cpu.model", "") == model


def test_a_home_is_absolute_however_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox is told where its files are, and does not stand where the agent was started."""
    monkeypatch.chdir(tmp_path)
    home = Home(Path("agent"))
    assert (home.path, home.cache, home.socket) == tuple(
        tmp_path / "agent" / name for name in ("", "cache", "agent.sock")
    )


async def test_who_never_joined_leaves_and_runs_nothing_and_gets_no_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for ends in (leave(home, erase=False), leave(home, erase=True), run_agent(home)):
        with pytest.raises(NotFound, match="No node lives in"):
            await ends
    assert not home.exists()


def test_a_home_that_others_can_change_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(NotAllowed, match="changed by others"):
        Home(tmp_path / "home")


def test_a_spot_price_is_offered_beside_the_other_and_never_above_it() -> None:
    plain = settings_from(Wishes(price_usd_per_core_hour=0.02), MACHINE)
    both = settings_from(Wishes(price_usd_per_core_hour=0.02, spot_usd_per_core_hour=0.008), MACHINE)
    assert (plain.spot, both.spot) == (None, Terms(price_microusd_per_core_hour=8000))
    told = consent_text(url=URL, net="lab-1", home="/home", verticals={}, settings=both)
    assert "What you ask: 0.02 US dollars an hour for each core, or 0.008 for work that may be ended" in told
    for wrong in (-0.001, 0.021):
        with pytest.raises(InvalidInput, match=r"agent\.price"):
            settings_from(Wishes(price_usd_per_core_hour=0.02, spot_usd_per_core_hour=wrong), MACHINE)


async def test_an_offer_names_the_spot_price_in_a_version_of_its_own(site: FakeSite, home: Home) -> None:
    await carry_out(site.client, home, await planned(site, home), "s", clock=FakeClock(), score=lambda: 1)
    state = home.state()
    shape = Shape(open=True, total=state.settings.total, floor=9000)
    plain = Presence(home, state, {}).offer(shape)
    spot = msgspec.structs.replace(state.settings, spot=Terms(price_microusd_per_core_hour=8000))
    both = Presence(home, msgspec.structs.replace(state, settings=spot), {}).offer(shape)
    assert (type(plain), type(both)) == (OfferMade, SpotOfferMade)
    assert isinstance(both, SpotOfferMade)
    assert both.spot.price_microusd_per_core_hour == 9000, "never below what the power costs"
    assert both.on_demand == msgspec.structs.replace(plain, offer=both.offer)
