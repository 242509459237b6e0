"""Alerts that are sent: through a real mail server and to a real web server, from PostgreSQL's queue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

import httpx2
import msgspec
import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from litestar import Litestar, Request, Response, post

from fallow.adapters.certificates import issue, new_authority, new_key
from fallow.adapters.mail import MailServer, SmtpMail
from fallow.adapters.postgres.alerts import PostgresAlertStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.bootstrap.alerting import hook_of
from fallow.bootstrap.http_server import serving
from fallow.domain.identity import address
from fallow.domain.views.alerts import ChannelsView
from fallow.ports.alert_ways import Hook, Letter, Mail
from fallow.ports.database import Database
from fallow.ports.tasks import background
from fallow.services.alerts.messages import Messages
from fallow.services.alerts.secrets import ChannelSecrets
from fallow.services.alerts.sending import AT_ONCE, HELD_MS, KINDS, PAUSE_S, TRIES_MAX, Sending, wait_ms
from fallow.services.alerts.service import Alerting
from fallow.services.alerts.watching import LOOK_MS, Watching
from tests.engines import Engines, fresh_database
from tests.network import until
from tests.unit.fake_network import (
    BUYER,
    BUYER_KEY,
    NET,
    PROVIDER,
    PROVIDER_KEY,
    FakeNetwork,
    fake_network,
    node_view,
    own_node_view,
)

NOW = 1_800_000_000_000
NODE = "ab" * 32
MAIL = "ann@example.org"


class Post:
    """A mail server on loopback that wants a password, and what was handed to it."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.refuses = False

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a letter; aiosmtpd calls it so."""
        if self.refuses:
            return "451 not now"
        assert isinstance(envelope.content, bytes)
        letter = message_from_bytes(envelope.content, policy=default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        return "250 OK"


class Dying:
    """A way by which a letter is handed over, and then nothing comes back."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self.handed_over = asyncio.Event()

    async def send(self, letter: Letter) -> None:
        """Hand it over."""
        await self._mail.send(letter)
        self.handed_over.set()
        await asyncio.Event().wait()


class Stuck:
    """A way to webhooks one of which never answers."""

    def __init__(self, hook: Hook, slow: str) -> None:
        self._hook = hook
        self.slow = slow
        self.asked = asyncio.Event()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Post."""
        if url == self.slow:
            self.asked.set()
            await asyncio.Event().wait()
        return await self._hook.post(url, body, headers)


class Silent(asyncio.Protocol):
    """A server that takes connections and says nothing until it closes them."""

    def __init__(self) -> None:
        self.open: list[asyncio.BaseTransport] = []
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it open."""
        self.open.append(transport)

    def close(self) -> None:
        """Close them."""
        for one in self.open:
            one.close()


class Receiver:
    """A web server on loopback: what it was sent, and how it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.agrees = True

        @post("/hook", status_code=200)
        async def hook(request: Request[Any, Any, Any]) -> Response[bytes]:
            body = await request.body()
            self.got.append((dict(request.headers), body))
            told = msgspec.json.decode(body)
            answer = told.get("challenge", "") if self.agrees else body.decode()
            return Response(answer.encode(), status_code=self.status, headers={"Location": "http://127.0.0.1:1/"})

        self.app = Litestar([hook], openapi_config=None, logging_config=None)


class OnlyWhenAsked(Sending):
    """A copy that sends when a test says so: by itself it might have a letter under way while the clock leaps."""

    async def for_ever(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()


class World:
    """A network whose machines are canned, with two copies of what tells accounts of them."""

    def __init__(self, network: FakeNetwork, database: Database, mail: SmtpMail, post_: Post, url: str) -> None:
        self.network, self.database, self.mail, self.post, self.url = network, database, mail, post_, url
        self.hook: Hook = hook_of(anywhere=True)
        self._secrets, store = ChannelSecrets(b"s" * 32), PostgresAlertStore()
        self.sending = [self.sender(mail) for _ in range(2)]
        self.watching = [
            Watching(bus=network.bus, clock=network.clock, database=database, store=store, verticals=["storage"])
            for _ in range(2)
        ]
        salts = iter(range(1, 1000))
        self.alerting = Alerting(
            secrets=self._secrets, random_bytes=lambda n: next(salts).to_bytes(n, "big"), bus=network.bus,
            clock=network.clock, database=database, store=store, sending=self.sending[0], watching=self.watching[0],
            mail=True, plain=True,
        )  # fmt: skip

    def sender(self, mail: Mail, copy: type[Sending] = OnlyWhenAsked) -> Sending:
        """One copy of what sends."""
        messages = Messages(NET, "https://net.example", self._secrets)
        return copy(
            secrets=self._secrets, messages=messages, clock=self.network.clock,
            database=self.database, store=PostgresAlertStore(), mail=mail, hook=self.hook,
        )  # fmt: skip

    async def step(self, ms: int = LOOK_MS + 1) -> None:
        """Let time pass; both copies look, and then send, at the same time."""
        self.network.clock.ms += ms
        await asyncio.gather(*(one.look() for one in self.watching))
        await asyncio.gather(*(send_due(one) for one in self.sending))

    async def ask(self, method: str, path: str, body: object = None, key: str = PROVIDER_KEY) -> httpx2.Response:
        """Ask the gateway."""
        transport = httpx2.ASGITransport(app=cast("Any", self.network.app))
        async with httpx2.AsyncClient(transport=transport, base_url="http://net") as client:
            return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})

    async def channels(self, key: str = PROVIDER_KEY) -> ChannelsView:
        """Where an account is told."""
        return msgspec.json.decode((await self.ask("GET", "/v1/account/alerts/to", key=key)).content, type=ChannelsView)

    async def name(self, kind: str, where: str, key: str = PROVIDER_KEY) -> None:
        """Name an address."""
        assert (await self.ask("POST", f"/v1/account/alerts/to/{kind}", {"address": where}, key)).status_code == 201

    async def comes(self, condition: Callable[[], bool], what: str) -> None:
        """Let what sends look again and again, until something has come about."""

        def looks() -> bool:
            self.network.clock.advance(int(PAUSE_S * 1000))
            return condition()

        await until(looks, what)

    async def told_by_mail(self) -> None:
        """Name the mail address, and confirm it."""
        await self.name("email", MAIL)
        await self.step()
        code = re.search(r"\d{8}", self.post.letters[-1].get_content())
        assert code is not None
        assert (await self.ask("POST", "/v1/account/alerts/confirm", {"code": code[0]})).status_code == 200

    def machine(self, **changes: Any) -> None:
        """The provider's only machine, as the market sees it now."""
        offer = node_view(NODE, "barn", last_seen_at=1, **changes)
        self.network.owned[PROVIDER] = [own_node_view(NODE, "barn", offer=offer)]


async def send_due(sending: Sending) -> None:
    """Send what is due by now, and wait until that is done."""
    async with asyncio.TaskGroup() as group:
        for kind in KINDS:
            for message in await sending.take(kind, AT_ONCE):
                group.create_task(sending.send(message))


def said(letter: EmailMessage) -> str:
    """Its text."""
    return str(letter.get_content()).replace("\r\n", "\n")


def certified(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a client trusts, and what the server of that name shows."""
    now = datetime.now(UTC)
    authority = new_authority(new_key(), "test", now)
    issued = issue(authority, ["localhost"], now)
    (folder / "key").write_text(issued.key)
    (folder / "cert").write_text(issued.certificate)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(folder / "cert", folder / "key")
    return ssl.create_default_context(cadata=authority.certificate), shown


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry_dsn(engines: Engines) -> AsyncIterator[str]:
    """A database with the registry's tables, once for all tests here."""
    async with fresh_database(engines) as dsn:
        async with open_database(dsn, pool_size=1) as database:
            await migrate(database, builtin("registry"))
        yield dsn


@pytest.fixture
async def world(registry_dsn: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[World]:
    post_, trust, identity = Post(), *certified(tmp_path)

    def signs_in(*asked: Any) -> AuthResult:
        return AuthResult(success=asked[-1].password == b"open sesame")

    def mail_session() -> SMTP:
        return SMTP(post_, authenticator=signs_in, auth_required=True, require_starttls=True, tls_context=identity)

    server = await asyncio.get_running_loop().create_server(mail_session, "127.0.0.1", 0)
    (tmp_path / "secret").write_text("open sesame\n")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(registry_dsn, pool_size=6))
        async with database.transaction() as tx:
            await tx.execute("TRUNCATE registry.account, registry.alert_message, registry.alert_count CASCADE")
            for account in (PROVIDER, BUYER):
                await PostgresRegistryStore().add_account(tx, address(account), None, 1)
        network = await stack.enter_async_context(fake_network(without="alerts"))
        network.clock.ms = NOW
        await stack.enter_async_context(server)
        at = ("localhost", server.sockets[0].getsockname()[1])
        smtp = SmtpMail(MailServer(*at, "starttls", "fallow@net.example", "fallow", tmp_path / "secret", context=trust))
        port = await stack.enter_async_context(serving(receiver.app, "127.0.0.1", 0))
        made = World(network, database, smtp, post_, f"http://127.0.0.1:{port}/hook")
        await stack.enter_async_context(made.alerting.running())
        yield made


async def test_an_alert_goes_by_mail_when_it_begins_and_when_it_ends(world: World) -> None:
    world.machine(state="offline")
    await world.told_by_mail()
    assert [one["To"] for one in world.post.letters] == [MAIL]
    for _ in range(3):
        await world.step()
    assert len(world.post.letters) == 2
    begun = world.post.letters[-1]
    assert begun["Subject"] == f"[{NET}] Alerts: 1"
    assert "New:\n- barn abababababab: Not heard of since 1970-01-01 00:00 UTC." in said(begun)
    assert begun["Date"].datetime.year == 2027
    assert begun["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    world.machine()
    await world.step()
    await world.step()
    assert len(world.post.letters) == 3
    assert "Over:\n- barn" in said(world.post.letters[-1])
    stop = begun["List-Unsubscribe"].strip("<>").removeprefix("https://net.example")
    assert (await world.ask("POST", stop, key="")).status_code == 200
    assert (await world.ask("POST", stop, key="")).status_code == 404
    assert (await world.channels()).channels == []


async def test_nothing_is_sent_before_the_address_has_agreed_and_nobody_is_flooded(world: World) -> None:
    world.machine(state="offline")
    await world.ask("POST", "/v1/account/alerts/to/email", {"address": MAIL, "language": "ja"})
    await world.step()
    await world.step()
    assert [one["Subject"][:13] for one in world.post.letters] == [f"[{NET}] 確認コード"]
    right = re.search(r"\d{8}", world.post.letters[0].get_content())
    assert right is not None
    wrong = f"{(int(right[0]) + 1) % 10**8:08}"
    for code in (*[wrong] * 5, right[0]):
        assert (await world.ask("POST", "/v1/account/alerts/confirm", {"code": code})).status_code == 403
    assert not (await world.channels()).channels[0].confirmed
    assert (await world.ask("POST", "/v1/account/alerts/confirm", {"code": right[0]}, key=BUYER_KEY)).status_code == 404
    # Nor by many accounts that name the same address, which was asked once by now.
    answers = [
        (await world.ask("POST", "/v1/account/alerts/to/email", {"address": MAIL}, key=key)).status_code
        for key in (PROVIDER_KEY, BUYER_KEY, BUYER_KEY)
    ]
    assert answers == [201, 201, 413]
    await world.step()
    assert len(world.post.letters) == 3  # an address that was named again is not asked twice
    refused = await world.ask("POST", "/v1/account/alerts/to/email", {"address": "a@b.example\nBcc: c@d.example"})
    assert refused.status_code == 400


async def test_a_webhook_agrees_and_gets_what_failed_again_in_order(world: World, receiver: Receiver) -> None:
    world.machine(state="offline")
    receiver.agrees = False
    shown = (await world.ask("POST", "/v1/account/alerts/to/webhook", {"address": world.url})).json()
    await world.step()
    told = (await world.channels()).channels[0]
    assert (told.confirmed, told.secret, told.waiting) == (False, "", 1)
    assert told.failure_code == "alerts.challenge"
    receiver.agrees = True
    await world.step(wait_ms(1) + 1)
    assert (await world.channels()).channels[0].confirmed
    await world.step()
    headers, body = receiver.got[-1]
    signed = f"{headers['fallow-timestamp']}.".encode() + body
    expected = hmac.new(shown["secret"].encode(), signed, hashlib.sha256).hexdigest()
    assert headers["fallow-signature"] == f"v1={expected}"
    assert [one["code"] for one in msgspec.json.decode(body)["began"]] == ["node.silent"]
    world.machine()
    await world.step()
    for status in (500, 302):
        receiver.status = status
        world.machine(state="offline")
        await world.step()
        (told,) = (await world.channels()).channels
        assert told.failure_code == "alerts.webhook_answer"
        assert f"answered {status}" in told.failure
    world.machine()
    await world.step()
    assert (await world.channels()).channels[0].waiting == 2
    receiver.status, receiver.got[:] = 200, []
    for _ in range(3):
        await world.step(wait_ms(4))
    kinds = [
        [bool(told["began"]), bool(told["ended"])] for told in (msgspec.json.decode(body) for _, body in receiver.got)
    ]
    assert kinds == [[True, False], [False, True]]
    assert (await world.channels()).channels[0].failure == ""
    receiver.status = 500
    world.machine(state="offline")
    await world.step()
    for tries in range(1, TRIES_MAX):
        await world.step(wait_ms(tries) + 1)
    last = (await world.channels()).channels[0]
    assert (last.waiting, last.failure != "") == (0, True)


@pytest.mark.mishaps("market.own_nodes")
async def test_copies_send_once_and_what_fails_or_is_killed_loses_nothing(world: World) -> None:
    world.machine(state="offline")
    await world.told_by_mail()
    world.network.clock.ms += LOOK_MS + 1
    await asyncio.gather(*(one.look() for one in world.watching))
    # One copy hands it over, and is no more before it can tell anybody.
    dying = Dying(world.mail)
    async with asyncio.TaskGroup() as group:
        sends = group.create_task(send_due(world.sender(dying)))
        await dying.handed_over.wait()
        sends.cancel()
    assert len(world.post.letters) == 2
    await world.step(0)
    assert len(world.post.letters) == 2
    await world.step(HELD_MS)
    assert len(world.post.letters) == 3
    assert world.post.letters[1]["Message-ID"] == world.post.letters[2]["Message-ID"]
    # A market that fails at the question ends no alert.
    world.network.owned[PROVIDER] = None  # type: ignore[assignment]  # the market fails at this
    await world.step()
    world.machine(state="offline")
    await world.step()
    assert len(world.post.letters) == 3
    # Who was told hears that he is not any more: a thief would begin with that.
    await world.ask("POST", "/v1/account/alerts/to/email", {"address": "thief@example.org"})
    await world.step()
    subjects = {one["To"]: one["Subject"] for one in world.post.letters[3:]}
    assert subjects.keys() == {MAIL, "thief@example.org"}
    assert "do not come here any more" in subjects[MAIL]
    # Of whom is erased no address stays, not even in what waits.
    async with world.database.transaction() as tx:
        await PostgresRegistryStore().erase(tx, address(PROVIDER), 1)
    async with world.database.transaction() as tx:
        kept = "SELECT address FROM registry.alert_channel UNION SELECT address FROM registry.alert_message"
        assert await tx.fetch(kept) == []


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Silent]:
    """A mail server: whoever asks it waits for as long as a test takes."""
    for limit in ("TIMEOUT_S", "WHOLE_S"):
        monkeypatch.setattr(f"fallow.adapters.mail.{limit}", 600.0)
    made = Silent()
    server = await asyncio.get_running_loop().create_server(lambda: made, "127.0.0.1", 0)
    async with server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.close()


async def test_a_mail_server_that_hangs_keeps_no_webhook_waiting(
    world: World, receiver: Receiver, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.services.alerts.sending.AT_ONCE", 1)
    mail = SmtpMail(MailServer("127.0.0.1", silent.port, "none", "fallow@net.example"))
    async with background(world.sender(mail, Sending).for_ever()):
        await world.name("email", MAIL)
        await world.comes(lambda: len(silent.open) == 1, "the mail server is asked")
        await world.name("email", "bob@example.org", BUYER_KEY)
        await world.name("webhook", world.url, BUYER_KEY)
        await world.comes(lambda: len(receiver.got) == 1, "the webhook is told")
        assert len(silent.open) == 1, "no more letters at once than there may be"
        silent.open[0].close()
        await world.comes(lambda: len(silent.open) > 1, "the next letter has its turn")


async def test_a_webhook_that_hangs_keeps_no_other_one_waiting(world: World, receiver: Receiver) -> None:
    stuck = world.hook = Stuck(world.hook, f"{world.url}/slow")
    async with background(world.sender(world.mail, Sending).for_ever()):
        await world.name("webhook", stuck.slow)
        await world.comes(stuck.asked.is_set, "the slow one is asked")
        await world.name("webhook", world.url, BUYER_KEY)
        await world.comes(lambda: len(receiver.got) == 1, "the other one is told")
    assert (await world.channels()).channels[0].waiting == 1
