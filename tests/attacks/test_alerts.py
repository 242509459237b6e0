"""Accounts that make the network write to, or ask, whom it should not; names that would break a mail."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from email import message_from_bytes
from email.policy import default
from ipaddress import ip_address
from threading import current_thread
from typing import cast

import httpx2
import pytest

from fallow.adapters.mail import composed
from fallow.adapters.webhook import HttpHook
from fallow.domain.alerts import Alert
from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.ports.alert_store import AlertStore, Channel
from fallow.ports.alert_text import line
from fallow.ports.alert_ways import Letter
from fallow.ports.database import Transaction
from fallow.ports.public_only import Address, PublicOnly, Resolve, resolve
from fallow.services.alerts import limits
from fallow.services.alerts.addresses import check_address
from fallow.services.alerts.limits import count_confirmation

INSIDE = (
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1",
    "fec0::1", "::7f00:1", "64:ff9b:1::7f00:1", "::ffff:0:7f00:1",
)  # fmt: skip

TLS = ssl.create_default_context()
"""Once for all: to read what this machine trusts takes longer than all else here."""


def hook(how: Resolve = resolve) -> HttpHook:
    """The way to webhooks, where names are looked up so."""
    return HttpHook(lambda: PublicOnly(tls=TLS, resolve=how))


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where connections were made to; none comes about, here as on a machine without a network."""
    urls: list[str] = []

    async def refuses(_transport: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        urls.append(str(request.url))
        raise httpx2.ConnectError("nobody listens")

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", refuses)
    return urls


@pytest.mark.parametrize("inside", INSIDE)
async def test_a_webhook_into_the_operators_network(inside: str, reached: list[str]) -> None:
    async def found(_host: str, _port: int) -> list[Address]:
        return [ip_address("1.1.1.1"), ip_address(inside)]

    with pytest.raises(Unavailable, match="not reached: ConnectError"):
        await hook(found).post("https://evil.example/", b"{}", {})
    assert reached == []


async def test_a_webhook_on_the_internet(reached: list[str]) -> None:
    """It is asked at the address that was looked at, so that the others show that they were kept from it."""

    async def found(_host: str, _port: int) -> list[Address]:
        return [ip_address("2606:4700:4700::1111"), ip_address("1.1.1.1")]

    with pytest.raises(Unavailable, match="not reached: ConnectError"):
        await hook(found).post("https://good.example/", b"{}", {})
    assert reached == ["https://[2606:4700:4700::1111]/"]


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1]/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://127.1/",
        "https://[::ffff:7f00:1]/", "https://localhost/", "https://169.254.169.254/latest/meta-data/",
        "https://a..example/", "https://" + "a" * 64 + ".example/",
    ],
)  # fmt: skip
async def test_every_way_to_write_this_machine(url: str, reached: list[str]) -> None:
    """As the system's own resolver reads it, and nobody else. What no name can be is a failure, and no bug."""
    with pytest.raises(Unavailable, match="not reached"):
        await hook().post(url, b"{}", {})
    assert reached == []


async def test_names_are_looked_up_on_no_thread_of_anybody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's name server may take its time, and that goes on when the webhook's is over."""
    names: list[str] = []

    def asked(*_: object, **__: object) -> list[object]:
        names.append(current_thread().name[:5])
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    with pytest.raises(Unavailable, match="not reached"):
        await hook().post("https://slow.example/", b"{}", {})
    assert names == ["names"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "https://user:secret@example.org/", "https://", "https:///x",
        "https://example.org/#a", "https://[::1", "https://example.org:0/", "https://example.org:99999/", "file:///etc",
    ],
)  # fmt: skip
def test_what_is_no_webhook(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_address("webhook", url, plain=False)


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example\nBcc: c@d.example", "a@b.example\r\n", "a@b", "a b@c.example", "a@b.example,c@d.example",
        "<a@b.example>", '"a\n"@b.example', "a@[127.0.0.1]", "a@b..example", "@b.example", "a@",
        "a" * 250 + "@b.example",
        "a@b.example\x00", "a@b.exämple", "a@-b.example",
        "=?utf-8?q?x=0D=0ABcc=3A_c=40d.example=0D=0A=0D=0APay_here?=@b.example",
    ],
)  # fmt: skip
def test_what_is_no_mail_address(address: str) -> None:
    with pytest.raises(InvalidInput):
        check_address("email", address, plain=False)


def test_a_machines_name_makes_no_line_and_no_header_of_its_own() -> None:
    name = "barn\r\nBcc: c@d.example\r\n\r\nPay here: \u202eevil\x1b[2J"
    alert = Alert("x", "node.banned", "ab" * 32, name, {"reason": "a\nb {why} %s"})
    said = line(alert, "en")
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "a" + "b {why} %s" in said
    letter = Letter("1" * 32, 0, "ann@example.org", "[lab-1] 1 alerts", said)
    read = message_from_bytes(composed(letter, "fallow@net.example").as_bytes(), policy=default)
    assert read["Bcc"] is None
    assert read["To"] == "ann@example.org"
    assert said in read.get_content()


class Counted:
    """What was counted."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()

    async def count(self, _tx: object, key: bytes, _day: int, most: int) -> bool:
        """Count one more."""
        if self.counts[key] >= most:
            return False
        self.counts[key] += 1
        return True

    async def forget_counts(self, *_: object) -> None:
        """Forget nothing."""

    async def ask(self, account: int, to: str) -> None:
        """Name an address in the name of an account."""
        channel = Channel(bytes([account]) * 20, "email", to, "en", b"s" * 16, 1)
        await count_confirmation(cast("AlertStore", self), cast("Transaction", None), channel, 1)


async def test_a_mailbox_that_many_accounts_name_in_many_ways() -> None:
    counted = Counted()
    for account, to in enumerate(("ann+1@b.example", "ann+2@B.example", "Ann@b.example"), start=1):
        await counted.ask(account, to)
    with pytest.raises(TooMuch):
        await counted.ask(4, "ann+3@b.example")
    await counted.ask(4, "bob+3@b.example")


async def test_many_accounts_that_ask_leave_alerts_what_they_are_told_with(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, told = Counted(), Channel(b"t" * 20, "email", "ann@b.example", "en", b"s" * 16, 1)
    monkeypatch.setattr(limits, "ALL_CONFIRMATIONS_A_DAY", 5)
    monkeypatch.setattr(limits, "NETWORK_A_DAY", 6)
    for account in range(5):
        await counted.ask(account, f"{account}@b.example")
    with pytest.raises(TooMuch):
        await counted.ask(6, "6@b.example")
    await limits.count_message(cast("AlertStore", counted), cast("Transaction", None), told, 1)
    assert limits.ALL_CONFIRMATIONS_A_DAY < limits.NETWORK_A_DAY


async def test_accounts_that_are_told_all_the_time_leave_the_others_their_few(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(limits, "OFTEN_A_DAY", 40)
    monkeypatch.setattr(limits, "FEW_OF_ALL_A_DAY", 80)
    monkeypatch.setattr(limits, "NETWORK_A_DAY", 90)

    async def told(account: int) -> int:
        """How often it can be, of twenty times."""
        channel = Channel(bytes([account]) * 20, "email", "ann@b.example", "en", b"s" * 16, 1)
        for times in range(20):
            before = counted.counts.copy()
            try:
                await limits.count_message(cast("AlertStore", counted), cast("Transaction", None), channel, 1)
            except TooMuch:
                counted.counts = before  # the transaction ends
                return times
        return 20

    assert [await told(account) for account in range(10)] == [20, 20] + [limits.FEW_A_DAY] * 8
    assert [await told(account) for account in range(10, 21)] == [1] * 10 + [0], "each its first, as long as it lasts"
    assert limits.OFTEN_A_DAY < limits.FEW_OF_ALL_A_DAY < limits.NETWORK_A_DAY


@pytest.mark.parametrize(
    "letter",
    [
        Letter("1" * 32, 0, "ann@example.org\r\nBcc: c@d.example", "s", "t"),
        Letter("1" * 32, 0, "=?utf-8?q?x=0D=0ABcc=3A_c=40d.example?=@b.example", "s", "t"),
        Letter("1" * 32, 0, "ann@example.org", "s\r\nBcc: c@d.example", "t"),
        Letter("1" * 32, 0, "ann@example.org", "s", "t", "https://net.example/\r\nBcc: c@d.example"),
    ],
)
def test_a_header_cannot_be_broken_even_where_nobody_checked(letter: Letter) -> None:
    with pytest.raises(ValueError, match=r"."):
        composed(letter, "fallow@net.example")
