"""What an account should look at, what it is told of that, and in which words."""

from __future__ import annotations

import asyncio
import smtplib
from contextlib import AbstractContextManager
from threading import Event, current_thread
from typing import cast, get_args

import msgspec
import pytest

from fallow.adapters import mail as mails
from fallow.adapters.mail import WHOLE_S, MailServer, SmtpMail, composed
from fallow.adapters.memory.database import MemoryDatabase
from fallow.bootstrap.alerting import mail_of
from fallow.bootstrap.settings import Settings
from fallow.domain.alerts import (
    ALERTS_MAX,
    SILENT_MS,
    TOLD_MS,
    Alert,
    buyer_alerts,
    changes,
    provider_alerts,
)
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.identity import address
from fallow.domain.views.nodes import RefusalView
from fallow.domain.views.payouts import PayeeView
from fallow.ports.account_alerts import alerts_of
from fallow.ports.alert_store import AlertStore, Channel
from fallow.ports.alert_text import SENTENCES, line, sentence
from fallow.ports.alert_ways import Letter
from fallow.ports.database import Database
from fallow.services.alerts.addresses import check_address
from fallow.services.alerts.messages import Changed
from fallow.services.alerts.sending import AT_ONCE, HELD_MS, TRIES_MAX, WAIT_MS_MAX, wait_ms
from fallow.services.alerts.watching import Watching
from fallow.verticals.storage.core.lenders import GRAVITY, said
from fallow.verticals.storage.core.questions import Note
from fallow.verticals.storage.core.reputation import Code
from tests.unit.fake_network import (
    PROVIDER,
    FakeNetwork,
    balance_view,
    budget_view,
    fake_network,
    job_view,
    node_view,
    own_node_view,
)

NOW = 10**12
NODE = "ab" * 32


def codes(alerts: list[Alert]) -> list[str]:
    return [one.code for one in alerts]


def test_a_machine_that_is_all_right_has_none() -> None:
    assert (
        provider_alerts([own_node_view(NODE, "barn", offer=node_view()), own_node_view(NODE, "new")], None, NOW) == []
    )


def test_what_may_cost_a_provider() -> None:
    refused = [RefusalView(boot=1, seq=seq, code=code, at=1) for seq, code in enumerate(("b", "a", "b"))]
    wrong = node_view(wrong=2, missed=3, why="result.wrong", state="offline", last_seen_at=NOW - SILENT_MS)
    shown = own_node_view(NODE, "barn", offer=wrong, refused=refused, banned_reason="fraud")
    found = provider_alerts([shown], PayeeView(account="0x1", paid_to="0x1", pending="0x2", effective_at=NOW), NOW)
    assert codes(found) == [
        "payout.changes", "node.banned", "node.wrong", "node.missed", "node.silent", "node.refused", "node.refused",
    ]  # fmt: skip
    assert len({one.id for one in found}) == len(found)
    suspended = msgspec.structs.replace(shown, suspended_until=NOW + 1)
    assert "node.suspended" in codes(provider_alerts([suspended], None, NOW))
    assert "node.wrong" not in codes(provider_alerts([suspended], None, NOW))
    just_gone = node_view(state="offline", last_seen_at=NOW - SILENT_MS + 1)
    assert provider_alerts([own_node_view(NODE, "", offer=just_gone)], None, NOW) == []


def test_what_a_buyer_should_know() -> None:
    job = msgspec.structs.replace
    running = job(job_view("1" * 32), reserved_microusd=6_000_000, budget_microusd=100, owed_microusd=80)
    assert codes(buyer_alerts([running], balance_view("0x1"), budget_view(), NOW)) == ["balance.low", "job.budget"]
    cheaper = job(running, reserved_microusd=5_000_000, owed_microusd=79)
    assert buyer_alerts([cheaper], balance_view("0x1"), budget_view(), NOW) == []
    ended = [
        job(job_view("2" * 32, "failed"), ended_at=NOW - 1, reason="buyer.budget"),
        job(job_view("3" * 32, "done"), ended_at=NOW - 1),
        job(job_view("4" * 32, "cancelled"), ended_at=NOW - 1, reason="buyer.cancelled"),
        job(job_view("5" * 32, "failed"), ended_at=NOW - TOLD_MS),
    ]
    assert codes(buyer_alerts(ended, balance_view("0x1"), budget_view(), NOW)) == ["job.failed", "job.done"]


def test_a_budget_is_told_of_at_four_fifths_and_where_it_ends() -> None:
    def told(spent: int, *, reached: bool = False, budget: int | None = 100) -> list[Alert]:
        view = msgspec.structs.replace(budget_view(), budget_microusd=budget, spent_microusd=spent, reached=reached)
        return buyer_alerts([], balance_view("0x1"), view, NOW)

    assert codes(told(79)) == codes(told(10**9, budget=None)) == []
    assert codes(told(80)) == ["account.budget_near"]
    assert codes(told(100)) == codes(told(95, reached=True)) == ["account.budget_near", "account.budget"]
    assert codes(told(10, reached=True)) == ["account.budget"]
    assert changes(told(80), told(100)) == ([told(100)[1]], []), "that it is near has not ended"
    assert "2001-10-01 00:00 UTC" in sentence(told(100)[1], "ja")
    assert sentence(told(80)[0], "en") == "0.00008 USD of the account's budget of 0.0001 USD for 2001-09 are spent."


def test_each_is_told_when_it_begins_and_when_it_ends() -> None:
    lasting, happened = Alert("a", "node.silent"), Alert("b", "job.done", once=True)
    assert changes([], [lasting, happened]) == ([lasting, happened], [])
    later = Alert("a", "node.silent", values={"seen_at": 2})
    assert changes([lasting, happened], [later, happened]) == ([], [])
    assert changes([lasting, happened], []) == ([], [lasting])


def test_every_alert_has_words_in_both_languages() -> None:
    assert SENTENCES["en"].keys() == SENTENCES["ja"].keys()
    alert = Alert("x", "node.suspended", NODE, "barn", {"until_at": 1_700_000_000_000, "why": "result.wrong"})
    assert "2023-11-14 22:13 UTC" in sentence(alert, "en")
    assert "2023-11-14 22:13 UTC" in sentence(alert, "ja")
    low = Alert("y", "balance.low", values={"spendable_microusd": 1_500_000, "reserved_microusd": 2_000_000})
    assert line(low, "en").startswith("1.5 USD are left, and what runs now reserves 2 USD")
    much = Alert("z", "balance.low", values={"spendable_microusd": 10**18 + 1, "reserved_microusd": 10})
    assert line(much, "en").startswith("1000000000000.000001 USD are left, and what runs now reserves 0.00001 USD")


async def test_a_fleet_is_cut_at_the_most_and_read_page_by_page() -> None:
    async with fake_network() as network:
        gone = node_view(state="offline", last_seen_at=1)
        network.clock.ms = NOW
        network.owned[PROVIDER] = [own_node_view(f"{n:064x}", "", offer=gone) for n in range(1, ALERTS_MAX + 101)]
        found = await alerts_of(network.bus, PROVIDER, NOW, ["storage"])
    assert len(found.alerts) == ALERTS_MAX
    assert found.alerts[-1].subject == f"{ALERTS_MAX:064x}"


async def test_what_a_vertical_tells_comes_in_its_own_words_and_under_the_machines_name() -> None:
    async with fake_network() as network:
        network.owned[PROVIDER] = [own_node_view(NODE, "barn")]
        network.lent_alerts = [Alert("payout.changes:x", "lent.warned", NODE, said={"en": "Go\n", "ja": "行く"})]
        (told,) = (await alerts_of(network.bus, PROVIDER, NOW, ["storage"])).alerts
    assert told.id == "storage:payout.changes:x", "it can pass for nobody else's"
    assert [line(told, "en"), line(told, "ja")] == ["barn abababababab: Go", "barn abababababab: 行く"]


@pytest.mark.parametrize("code", get_args(Code))
def test_warnings_of_lent_disks_have_words_in_both_languages(code: str) -> None:
    for kind in GRAVITY:
        words = said(Note(kind, code, "Said so.", 1))
        assert words["en"] == f"Said so. ({code})"
        assert words["ja"] != words["en"]
        assert words["ja"].endswith(f"({code})")


async def test_a_vertical_that_is_silent_keeps_nothing_else_back_and_ends_nothing() -> None:
    """Its place in the list says so; who was told of its alerts hears no end of them."""
    lent, gone = Alert("away:1", "lent.warned"), Alert("storage:1", "lent.warned")
    async with fake_network() as network:
        network.clock.ms = NOW
        network.owned[PROVIDER] = [own_node_view(NODE, "barn", offer=node_view(state="offline", last_seen_at=1))]
        known = await alerts_of(network.bus, PROVIDER, NOW, ["away", "storage"])
        assert codes(known.and_silent()) == ["node.silent", "vertical.silent"]
        assert sentence(known.and_silent()[1], "en").startswith("What away says")
        store = Kept(told=[lent, gone])
        await watching(network, store, ["away", "storage"]).look()
    ((began, ended),) = store.added
    assert (codes(began), ended) == (["node.silent"], [gone])
    assert [one.id for one in store.kept] == [f"node.silent:{NODE}", "away:1"]


@pytest.mark.mishaps("alerts.watching")
async def test_a_bug_at_one_account_keeps_no_other_from_being_told() -> None:
    async with fake_network() as network:
        network.clock.ms = NOW
        network.owned[PROVIDER] = [own_node_view(NODE, "barn", offer=node_view(state="offline", last_seen_at=1))]
        store = Kept(told=[], bugs=1)
        await watching(network, store, []).look()
    assert [codes(began) for began, _ in store.added] == [["node.silent"]]


class Kept:
    """Two channels that are due, and what is queued for them; the first `bugs` times what they were told is broken."""

    def __init__(self, told: list[Alert], bugs: int = 0) -> None:
        self.before = told
        self.bugs = bugs
        self.added: list[tuple[list[Alert], list[Alert]]] = []
        self.kept: list[Alert] = []
        kinds = ["email", "webhook"][: bugs + 1]
        self._channels = [Channel(address(PROVIDER), kind, "a@b.example", "en", b"s" * 16, 1, 1) for kind in kinds]

    async def take_looks(self, *_: object) -> list[Channel]:
        """Return all."""
        return self._channels

    async def locked(self, _tx: object, _account: bytes, kind: str) -> Channel:
        """Return one."""
        return next(one for one in self._channels if one.kind == kind)

    async def told(self, *_: object) -> list[Alert]:
        """Return what it was told, or fail."""
        self.bugs -= 1
        if self.bugs >= 0:
            raise RuntimeError("unreadable")
        return self.before

    async def tell(self, _tx: object, _account: bytes, _kind: str, alerts: list[Alert]) -> None:
        """Keep it."""
        self.kept = alerts

    async def add(self, _tx: object, _channel: Channel, _what: str, body: bytes, _now: int) -> None:
        """Keep it."""
        changed = msgspec.json.decode(body, type=Changed)
        self.added.append((changed.began, changed.ended))

    async def waiting(self, *_: object) -> int:
        """Return that nothing does."""
        return 0

    async def count(self, *_: object) -> bool:
        """Let all through."""
        return True

    async def forget_counts(self, *_: object) -> None:
        """Forget nothing."""


def watching(network: FakeNetwork, store: Kept, verticals: list[str]) -> Watching:
    """One copy of what looks."""
    database = cast("Database", MemoryDatabase())
    kept = cast("AlertStore", store)
    return Watching(bus=network.bus, clock=network.clock, database=database, store=kept, verticals=verticals)


def test_waits_grow_and_end() -> None:
    waits = [wait_ms(tries) for tries in range(1, TRIES_MAX)]
    assert waits == sorted(waits)
    assert waits[0] == 10_000
    assert waits[-1] == WAIT_MS_MAX


def test_the_link_that_ends_it_all_is_read_as_it_stands() -> None:
    """Mail programs look for the URL itself (RFC 8058), and for none that is folded or encoded."""
    url = f"https://net.example/v1/alerts/stop/{'a' * 40}-email-{'b' * 32}"
    letter = composed(Letter("1" * 32, 0, "ann@example.org", "s", "t", url), "fallow@net.example")
    assert f"List-Unsubscribe: <{url}>".encode() in letter.as_bytes().split(b"\r\n")


async def test_a_mail_server_that_hangs_takes_nobody_elses_thread_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    names, begun, free = [], Event(), Event()

    def hangs(*_: object, **__: object) -> smtplib.SMTP:
        names.append(current_thread().name)
        begun.set()
        free.wait()
        raise OSError

    monkeypatch.setattr(smtplib, "SMTP", hangs)
    monkeypatch.setattr("fallow.adapters.mail.WHOLE_S", 0.01)
    mail = SmtpMail(MailServer("mail.example", 25, "none", "a@b.example"))
    try:
        with pytest.raises(Unavailable, match="took over"):
            await mail.send(Letter("1" * 32, 0, "ann@example.org", "s", "t"))
        await asyncio.to_thread(begun.wait)
    finally:
        free.set()
    assert names == ["mail_0"]
    assert WHOLE_S * 1000 < HELD_MS, "who began it has ended before the next begins"
    assert AT_ONCE <= mails.AT_ONCE, "no letter's time runs while it waits for a thread"


async def test_a_letter_that_was_taken_is_not_sent_again_for_a_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rude(AbstractContextManager["Rude"]):
        def __init__(self, *_: object, **__: object) -> None: ...
        def send_message(self, _: object) -> None: ...
        def __exit__(self, *_: object) -> None:
            raise smtplib.SMTPResponseException(421, b"too late")

    monkeypatch.setattr(smtplib, "SMTP", Rude)
    mail = SmtpMail(MailServer("mail.example", 25, "none", "a@b.example"))
    await mail.send(Letter("1" * 32, 0, "ann@example.org", "s", "t"))


@pytest.mark.parametrize("address", ["ann@example.org", "a.b+c@x.example.co", "o'neill@a-b.example"])
def test_mail_addresses(address: str) -> None:
    check_address("email", address, plain=False)


def test_webhooks_are_https_unless_the_operator_says_so() -> None:
    check_address("webhook", "https://example.org:8443/a?b=c", plain=False)
    check_address("webhook", "http://127.0.0.1:8080/", plain=True)
    with pytest.raises(InvalidInput):
        check_address("webhook", "http://example.org/", plain=False)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(smtp_host="mail.example"),
        Settings(smtp_host="mail.example", smtp_from="a@b.example", smtp_user="u"),
        Settings(smtp_host="mail.example", smtp_from="a@b.example", smtp_tls="none"),
        Settings(smtp_host="mail.example", smtp_from="a@b.example\nBcc: c@d.example"),
    ],
)
def test_a_mail_server_that_is_half_set_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match=r"smtp|mail"):
        mail_of(settings)
    assert mail_of(Settings()) is None
