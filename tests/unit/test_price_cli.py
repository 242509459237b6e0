"""`fallow price`, and what operators keep: what is signed, what is shown, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from coincurve import PrivateKey

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.cli import main, profiles
from fallow.domain import calls
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import address_text
from fallow.domain.price_facts import price_text
from fallow.domain.stake_facts import StakeTake, take_text
from fallow.domain.subscriptions import Price
from fallow.domain.views.network import NetworkView
from fallow.domain.views.prices import FeeView, MeterPriceView, PricesView, PriceView, TariffView
from fallow.domain.wallets import address_of, sign_text, signer_of
from fallow.services.settle.takes import TIME_MS, Takes
from fallow.verticals.storage.core.tariff import EGRESS, STORED, TARIFF, UNITS
from tests.unit.agent_fakes import FakeClock
from tests.unit.canned_client import CannedClient
from tests.unit.fake_network import price_view
from tests.unit.own_key import kept_key

METERS = [
    MeterPriceView(
        vertical="storage", meter=meter, microusd=price.microusd, per=price.per,
        unit_per=UNITS[meter].per, unit=dict(UNITS[meter].said),
    )
    for meter, price in sorted(TARIFF.items())
]  # fmt: skip
PRICES = PricesView(fee_ppm=100_000, reserve_ppm=200_000, meters=METERS)
NET, KEY = "public-1", PrivateKey(b"\x07" * 32)


class Client(CannedClient):
    """One of a network with a price."""

    view = price_view()
    fees_asked = 0
    waits_ms = 0
    """When something begins to hold that was said before."""

    def network(self) -> NetworkView:
        """See the SDK."""
        return NetworkView(net=NET, public_key="", bus_url="", preset="public", version="1", meters=METERS)

    def price(self) -> PriceView:
        """See the SDK."""
        return self.view

    def report_price(self, report: calls.tokens.ReportPrice) -> PriceView:
        """Note what was said."""
        self.asked.append(("report", report))
        return self.view

    def accept_price(self, price_microusd: int) -> PriceView:
        """Note what was accepted."""
        self.asked.append(("accept", price_microusd))
        return self.view

    def prices(self) -> PricesView:
        """See the SDK."""
        self.fees_asked += 1
        return PRICES

    def set_fee(self, fee_ppm: int, reserve_ppm: int, *, from_ms: int | None = None) -> PricesView:
        """Note what was set."""
        self.asked.append(("fee", (fee_ppm, reserve_ppm, from_ms)))
        later = FeeView(from_ms=self.waits_ms or from_ms or 0, fee_ppm=fee_ppm, reserve_ppm=reserve_ppm)
        return msgspec.structs.replace(PRICES, next_fee=later)

    def set_tariff(self, vertical: str, tariff: dict[str, Price], *, from_ms: int | None = None) -> PricesView:
        """Note what was set."""
        self.asked.append(("tariff", (vertical, tariff, from_ms)))
        meters = [
            msgspec.structs.replace(one, microusd=tariff[one.meter].microusd, per=tariff[one.meter].per)
            for one in METERS
        ]
        later = TariffView(vertical=vertical, from_ms=self.waits_ms or from_ms or 0, meters=meters)
        return msgspec.structs.replace(PRICES, next_tariffs=[later])


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    kept_key(tmp_path, monkeypatch, KEY.secret)
    made = Client()
    monkeypatch.setattr(profiles, "connect", lambda: made)
    return made


def test_a_feed_signs_what_it_says(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["price", "report", "0.25", "--doubt", "0.001"]) == 0
    ((_, said),) = client.asked
    assert (said.price_microusd, said.doubt_microusd) == (250_000, 1_000)
    text = price_text(NET, 250_000, 1_000, said.at_ms)
    assert signer_of(text, bytes.fromhex(said.signature[2:])) == address_of(KEY)
    assert "0.25 USD a token" in capfd.readouterr().out


def test_where_there_is_no_price_it_says_why_and_what_waits(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    client.view = PriceView(price_microusd=None, why="no feed speaks", last_microusd=0, quotes=[], waiting=2)
    assert main.run(["price", "show"]) == 0
    said = capfd.readouterr()
    assert "There is no price: no feed speaks" in said.out
    assert "wait for a price: 2" in said.err
    assert main.run(["price", "accept", "0.5"]) == 0
    assert client.asked == [("accept", 500_000)]


async def test_an_operators_word_is_recorded_as_he_signed_it_and_no_other() -> None:
    clock, database, decisions = FakeClock(), MemoryDatabase(), MemoryDecisionStore()
    takes = Takes(net=NET, bus=MemoryBus(MemoryHub()), clock=clock, database=database, decisions=decisions)
    me, now = address_of(KEY), clock.now_ms()

    def said(ppm: int, at_ms: int, signed_ppm: int) -> calls.tokens.SetTake:
        signature = "0x" + sign_text(KEY, take_text(NET, me, signed_ppm, at_ms)).hex()
        return calls.tokens.SetTake(account=address_text(me), take_ppm=ppm, at_ms=at_ms, signature=signature)

    with pytest.raises(NotAllowed, match=r"stake\.signature"):
        await takes.set(said(5, now, 6))
    with pytest.raises(InvalidInput, match=r"stake\.time"):
        await takes.set(said(5, now - TIME_MS - 1, 5))
    assert not decisions.waiting
    await takes.set(said(5, now, 5))
    ((_, body),) = decisions.waiting.values()
    assert isinstance(body, StakeTake)
    assert (body.account, body.take_ppm, body.at_ms) == (me, 5, now)


def test_a_fee_is_set_in_percent_and_said_in_an_owners_dollar(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["price", "fee"]) == 0
    now = "Now the network keeps 10 % of what buyers pay: of a dollar an owner has 0.90 USD; 20 % of the fee goes to"
    assert now in capfd.readouterr().out
    assert main.run(["price", "fee", "--fee", "7.5", "--from", "2026-12-01"]) == 0
    assert client.asked == [("fee", (75_000, 200_000, 1_796_083_200_000))]
    assert "From 2026-12-01 00:00:00 UTC the network keeps 7.5 %" in capfd.readouterr().out
    assert main.run(["price", "fee", "--reserve", "30"]) == 0
    assert client.asked[1:] == [("fee", (100_000, 300_000, None))]
    for bad in (["--from", "2026-12-01"], ["--fee", "101"], ["--fee", "8", "--from", "soon"]):
        assert main.run(["price", "fee", *bad]) != 0
    assert len(client.asked) == 2
    capfd.readouterr()
    assert main.run(["price", "fee", "--fee", "80"]) == 2
    assert "'80' is not a fee in percent, from 0 to 50." in capfd.readouterr().err


def test_a_tariff_is_shown_and_set_in_what_people_speak_of_and_others_stay_as_they_are(
    client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run(["price", "tariff"]) == 0
    shown = capfd.readouterr().out
    assert "a terabyte of pieces for 720 hours" in shown
    assert "1.666666 USD" in shown
    assert "2.222222 USD" in shown
    assert client.fees_asked == 0, "anybody is shown it, as the network's pages show it to anybody"
    assert main.run(["price", "tariff", "--json"]) == 0
    assert msgspec.json.decode(capfd.readouterr().out)["meters"] == msgspec.to_builtins(METERS)
    assert main.run(["price", "tariff", "storage", "stored_byte_hours=1.75", "--from", "2026-12-01"]) == 0
    whole = {STORED: Price(microusd=1_750_000, per=UNITS[STORED].per), EGRESS: TARIFF[EGRESS]}
    assert client.asked == [("tariff", ("storage", whole, 1_796_083_200_000))]
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "1.75 USD" in line]
    assert line.split()[:4] == ["from", "2026-12-01", "00:00:00", "storage"]
    for bad in (["storage"], ["--from", "2026-12-01"], ["storage", "stored=1"], ["links", "stored_byte_hours=1"]):
        assert main.run(["price", "tariff", *bad]) != 0
    for word in ("stored_byte_hours", "stored_byte_hours=", "stored_byte_hours=-1", "egress_bytes=0.0000001"):
        assert main.run(["price", "tariff", "storage", word]) != 0
    assert len(client.asked) == 1
    capfd.readouterr()
    assert main.run(["price", "tariff", "stored_byte_hours=1.75"]) != 0
    assert "fallow price tariff storage stored_byte_hours=1.75" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["fee", "--fee", "12"], ["tariff", "storage", "stored_byte_hours=1"]])
def test_what_was_said_before_and_begins_sooner_is_not_thought_to_be_withdrawn(
    words: list[str], client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["price", *words, "--from", "2026-12-01"]) == 0
    assert capfd.readouterr().err == ""
    client.waits_ms = 1_796_083_200_000 - 1
    assert main.run(["price", *words, "--from", "2026-12-01"]) == 0
    said = capfd.readouterr().err
    assert ("From 2026-12-01 00:00:00 UTC what you said holds" in said, "without --from" in said) == (True, True)
