"""Who gets into a real NATS server, and what they can do there. Most of these are attacks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.callout import (
    CALLOUT_REPLY_ROOT,
    CALLOUT_SUBJECT,
    Callout,
    ClientInfo,
    serve_callout,
)
from fallow.adapters.nats.client import SigningClient
from fallow.adapters.nats.dial import BusState
from fallow.adapters.nats.kick import kick
from fallow.adapters.nats.nkeys import KeySigner, Kind, decode_public, encode_public, sign_token
from fallow.adapters.nats.permissions import Permissions, Refusal, inbox_prefix, node_permissions
from fallow.adapters.nats.server_config import NETWORK_ACCOUNT, nats_auth_config
from fallow.domain import calls
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.ports.bus import Message
from tests.nats_server import RunningServer, nats_server

LONG_S = 60.0


class WallClock:
    """The machine's clocks, as the port has them."""

    def now_ms(self) -> int:
        """See the port."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """See the port."""
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await asyncio.sleep(seconds)


def named_key(name: str) -> KeySigner:
    return KeySigner.from_seed(name.encode().ljust(32))


def new_key() -> KeySigner:
    return KeySigner.from_seed(os.urandom(32))


def user(key: KeySigner) -> str:
    return encode_public(Kind.USER, key.public_key)


CORE, OTHER_CORE, CALLOUT = named_key("core"), named_key("other core"), named_key("callout")
ISSUER, NODE, PEER = named_key("issuer"), named_key("node"), named_key("peer")
SYSTEM = named_key("system")
N, M = NODE.public_key.hex(), PEER.public_key.hex()


@dataclass
class Network:
    """A server with its callout; `allowed` is who may connect, `asked` whom the callout was asked about."""

    server: RunningServer
    core: NatsBus
    allowed: dict[bytes, Permissions | Refusal | FallowError]
    asked: list[tuple[bytes, ClientInfo]] = field(default_factory=list)

    async def authorize(self, public_key: bytes, info: ClientInfo) -> Permissions | Refusal:
        """Decide as `allowed` says, and remember that it was asked."""
        self.asked.append((public_key, info))
        decision = self.allowed.get(public_key, Refusal("node.unknown"))
        if isinstance(decision, FallowError):
            raise decision
        return decision

    def connect(self, key: KeySigner, **options: Any) -> AbstractAsyncContextManager[NatsBus]:
        """Connect with this key."""
        return dial(self.server.url, key, **options)


def dial(url: str, key: KeySigner, **options: Any) -> AbstractAsyncContextManager[NatsBus]:
    prefix = inbox_prefix(key.public_key)
    return connect_nats(url, **{"signer": key, "name": "test", "tls": None, "inbox_prefix": prefix, **options})


def callout_of(authorize: Callable[..., Any]) -> Callout:
    return Callout(ISSUER, NETWORK_ACCOUNT, authorize, WallClock())


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    config = nats_auth_config(
        core_public_keys={"market": user(CORE), "ingest": user(OTHER_CORE)},
        callout_public_key=user(CALLOUT),
        system_public_key=user(SYSTEM),
        callout_issuer_public=encode_public(Kind.ACCOUNT, ISSUER.public_key),
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server(tmp_path, config))
        core = await stack.enter_async_context(dial(server.url, CORE))
        bus = await stack.enter_async_context(dial(server.url, CALLOUT, reply_root=CALLOUT_REPLY_ROOT))
        allowed = {key.public_key: node_permissions(key.public_key) for key in (NODE, PEER)}
        made = Network(server, core, {**allowed})
        await stack.enter_async_context(serve_callout(bus, callout_of(made.authorize)))
        yield made


async def expect_refused(network: Network, key: KeySigner, code: str = "bus.refused", **options: Any) -> None:
    with pytest.raises(NotAllowed) as caught:
        async with network.connect(key, **options):
            pass
    assert caught.value.code == code


async def take(messages: AsyncIterator[Message], count: int) -> list[Message]:
    async with asyncio.timeout(LONG_S):
        return [await anext(messages) for _ in range(count)]


async def echo(message: Message) -> bytes:
    return message.subject.encode() + b":" + message.data


async def test_a_kicked_node_is_gone_at_once_and_stays_out_while_it_is_refused(network: Network) -> None:
    left, back = asyncio.Event(), asyncio.Event()

    def note(state: BusState) -> None:
        if state is BusState.DISCONNECTED:
            left.set()
        elif left.is_set():
            back.set()

    async with (
        dial(network.server.url, SYSTEM) as system,
        network.connect(NODE, on_state=note),
        network.connect(PEER) as peer,
        network.core.serve("ingest.*", echo),
    ):
        network.allowed[NODE.public_key] = Refusal("banned")
        async with asyncio.timeout(LONG_S):
            await kick(system, NODE.public_key)
            await left.wait()
        await expect_refused(network, NODE)
        assert await peer.request(f"ingest.{M}", b"x", timeout_s=LONG_S)  # nobody else noticed
        network.allowed[NODE.public_key] = node_permissions(NODE.public_key)
        async with asyncio.timeout(LONG_S):
            await back.wait()  # let in again, it comes back by itself
        await kick(system, new_key().public_key)  # who is not here is not missed


async def test_the_system_key_does_nothing_else(network: Network) -> None:
    async with dial(network.server.url, SYSTEM) as system:
        with pytest.raises(NotAllowed):
            async with system.subscribe("$SYS.>"):
                pass
        with pytest.raises(Unavailable):
            await system.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout_s=0.5)
        with pytest.raises(Unavailable):
            await system.request(f"ingest.{N}", b"", timeout_s=0.5)


async def test_a_known_node_uses_its_own_subjects(network: Network) -> None:
    core = network.core
    async with (
        network.connect(NODE) as node,
        core.serve("ingest.*", echo),
        core.serve("market.>", echo),
        core.subscribe(calls.verticals.vertical_told("*", "storage")) as told,
        node.serve(f"node.{N}.ping", echo),
    ):
        assert await node.request(f"ingest.{N}", b"x", timeout_s=LONG_S) == f"ingest.{N}:x".encode()
        assert await node.request(f"market.node.{N}.offer", b"x", timeout_s=LONG_S)
        assert await core.request(f"node.{N}.ping", b"x", timeout_s=LONG_S) == f"node.{N}.ping:x".encode()
        await node.publish(calls.verticals.vertical_told(N, "storage"), b"stock")
        assert await take(told, 1) == [Message(calls.verticals.vertical_told(N, "storage"), b"stock")]
    [(public_key, info)] = network.asked
    assert public_key == NODE.public_key
    assert (info.host, info.name, info.transport) == ("127.0.0.1", "test", "nats")


@pytest.mark.parametrize("queue", ["", "some"])
@pytest.mark.parametrize(
    "pattern",
    [
        ">",
        "*",
        "node.>",
        "node.*.ping",
        f"node.{M}.>",
        f"node.{M}.ping",
        f"ingest.{N}",
        f"ingest.{M}",
        f"market.node.{N}.offer",
        calls.verticals.vertical_told("*", "storage"),
        calls.verticals.vertical_question(M, "storage"),
        "_INBOX.>",
        "*.*.*",
        f"{inbox_prefix(PEER.public_key)}.>",
        f"{inbox_prefix(CORE.public_key)}.*.*",
        "$SYS.>",
        CALLOUT_SUBJECT,
        "$JS.API.>",
    ],
)
async def test_a_node_hears_only_what_is_for_it(network: Network, pattern: str, queue: str) -> None:
    async with network.connect(NODE) as node:
        with pytest.raises(NotAllowed) as caught:
            async with node.subscribe(pattern, queue=queue):
                pass
    assert caught.value.code == "bus.forbidden"


async def test_a_node_speaks_only_for_itself(network: Network) -> None:
    forbidden = [
        f"ingest.{M}",
        f"market.node.{M}.offer",
        calls.verticals.vertical_told(M, "storage"),
        calls.verticals.vertical_question(M, "storage"),
        f"node.{M}.ping",
        f"node.{N}.ping",
        f"{inbox_prefix(PEER.public_key)}.a.b",
        f"{inbox_prefix(CORE.public_key)}.a.b",
        f"ingest.{N}.more",
        "anything",
        "$JS.API.INFO",
        CALLOUT_SUBJECT,
    ]
    async with network.core.subscribe(">") as heard, network.connect(NODE) as node:
        for subject in forbidden:
            await node.publish(subject, b"forged")
        await node.publish(f"ingest.{N}", b"end")
        assert await take(heard, 1) == [Message(f"ingest.{N}", b"end")]
        # The refusals come back on the same connection, so after a round trip they have all been counted.
        async with node.subscribe(f"node.{N}.x"):
            assert node.violations == len(forbidden)


async def test_a_node_answers_what_it_was_asked_once(network: Network) -> None:
    inbox = f"{inbox_prefix(CORE.public_key)}.mine"
    async with (
        network.core.subscribe(f"{inbox}.>") as answers,
        network.core.subscribe(f"ingest.{N}") as end,
        raw(network, NODE) as node,
        raw(network, CORE) as core,
    ):
        asked = await node.subscribe(f"node.{N}.ping")
        await node.round_trip(5)
        await core.publish(f"node.{N}.ping", b"", reply=f"{inbox}.1")
        await asked.next_msg(timeout=LONG_S)
        for data in (b"first", b"second"):
            await node.publish(f"{inbox}.1", data)
        await node.publish(f"{inbox}.2", b"unasked")
        await node.publish(f"ingest.{N}", b"")
        await take(end, 1)
        assert await take(answers, 1) == [Message(f"{inbox}.1", b"first")]
        await network.core.publish(f"{inbox}.end", b"end")
        assert await take(answers, 1) == [Message(f"{inbox}.end", b"end")]


async def test_a_service_does_not_carry_a_message_to_somebody_else(network: Network) -> None:
    """A node may choose where the answer goes; the core, which may send anywhere, must not be its messenger."""
    core = network.core
    async with (
        core.serve(f"ingest.{N}", echo),
        network.connect(PEER) as peer,
        peer.subscribe(f"node.{M}.>") as heard,
        raw(network, NODE) as node,
    ):
        await node.publish(f"ingest.{N}", b"forged", reply=f"node.{M}.stop")
        await node.request(f"ingest.{N}", b"end", timeout=LONG_S)
        await core.publish(f"node.{M}.end", b"")
        assert (await take(heard, 1))[0].subject == f"node.{M}.end"
    assert core.replies_refused == 1


class raw:  # noqa: N801 - used like a function
    """A connection that does not keep to our own rules, only to the server's."""

    def __init__(self, network: Network, key: KeySigner) -> None:
        self._client = SigningClient(key, tls_required=False)
        self._url, self._prefix = network.server.url, inbox_prefix(key.public_key)

    async def __aenter__(self) -> SigningClient:
        await self._client.connect(
            self._url, signature_cb=self._client.sign_nonce, inbox_prefix=self._prefix, error_cb=self._ignore
        )
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def _ignore(self, _error: Exception) -> None:
        pass


async def test_a_foreign_signature_is_refused(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fallow.adapters.nats.callout")
    await expect_refused(network, KeySigner(NODE.public_key, new_key().sign))
    assert network.asked == []
    assert "callout.signature" in caplog.text


@pytest.mark.parametrize("key", [CORE, CALLOUT], ids=["core", "callout"])
async def test_a_foreign_signature_for_a_trusted_key_is_refused(network: Network, key: KeySigner) -> None:
    network.allowed[key.public_key] = node_permissions(key.public_key)
    await expect_refused(network, KeySigner(key.public_key, new_key().sign))


async def test_a_replayed_signature_is_refused(network: Network) -> None:
    signatures: list[bytes] = []

    def record(nonce: bytes) -> bytes:
        signatures.append(NODE.sign(nonce))
        return signatures[-1]

    async with network.connect(KeySigner(NODE.public_key, record)):
        pass
    assert len(network.asked) == 1
    await expect_refused(network, KeySigner(NODE.public_key, lambda _nonce: signatures[0]))
    assert len(network.asked) == 1


@pytest.mark.parametrize("signature", [b"", b"short", bytes(64), b"\xff" * 64], ids=range(4))
async def test_a_malformed_signature_is_refused(network: Network, signature: bytes) -> None:
    await expect_refused(network, KeySigner(NODE.public_key, lambda _nonce: signature))
    assert network.asked == []


async def test_an_unknown_key_is_refused(network: Network) -> None:
    await expect_refused(network, new_key())
    assert len(network.asked) == 1


async def test_an_error_while_deciding_refuses(network: Network) -> None:
    network.allowed[NODE.public_key] = Unavailable("database.down", "The database is not there.")
    await expect_refused(network, NODE)
    async with network.connect(PEER):
        pass


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"user": "market", "pass": "x"},
        {"user": user(CORE), "pass": ""},
        {"auth_token": user(CORE)},
        {"nkey": user(CORE)},
        {"nkey": user(NODE)},
        {"nkey": user(NODE), "sig": ""},
        {"jwt": sign_token({"sub": user(NODE), "nats": {}}, Kind.ACCOUNT, ISSUER), "nkey": user(NODE)},
    ],
    ids=range(8),
)
async def test_a_client_that_signs_nothing_is_refused(network: Network, credentials: dict[str, str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", network.server.port)
    writer.write(b"CONNECT " + json.dumps({**credentials, "verbose": False}).encode() + b"\r\nPING\r\n")
    async with asyncio.timeout(LONG_S):
        assert (await reader.readline()).startswith(b"INFO ")
        assert (await reader.readline()).startswith(b"-ERR 'Authorization Violation'")
        writer.close()
        # The server may have closed before it read all of what we sent, which resets the connection.
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert network.asked == []


async def test_a_core_key_connects_without_the_callout(network: Network) -> None:
    async with network.connect(OTHER_CORE) as other, other.serve("echo", echo):
        assert await network.core.request("echo", b"x", timeout_s=LONG_S) == b"echo:x"
    assert network.asked == []


async def test_the_core_keeps_off_the_system_subjects(network: Network) -> None:
    with pytest.raises(NotAllowed):
        async with network.core.subscribe(CALLOUT_SUBJECT):
            pass


async def test_no_permissions_means_nothing_is_allowed(network: Network) -> None:
    network.allowed[NODE.public_key] = Permissions((), ())
    async with network.connect(NODE) as node, network.core.subscribe("ingest.*") as heard:
        with pytest.raises(NotAllowed):
            async with node.subscribe(f"node.{N}.ping"):
                pass
        await node.publish(f"ingest.{N}", b"forged")
        with suppress(NotAllowed):
            async with node.subscribe("round.trip"):
                pass
        await network.core.publish(f"ingest.{M}", b"end")
        assert (await take(heard, 1))[0].data == b"end"


async def test_a_permission_that_expired_is_asked_for_again(network: Network) -> None:
    states: asyncio.Queue[BusState] = asyncio.Queue()
    network.allowed[NODE.public_key] = node_permissions(NODE.public_key, expires_s=1)
    async with network.connect(NODE, on_state=states.put_nowait), asyncio.timeout(120):
        assert await states.get() is BusState.CONNECTED
        network.allowed[NODE.public_key] = node_permissions(
            NODE.public_key
        )  # it is asked for once more, not each second
        for wanted in (BusState.DISCONNECTED, BusState.CONNECTED):
            assert await states.get() is wanted
    assert len(network.asked) == 2


def request_claims(**changes: Any) -> dict[str, Any]:
    server = encode_public(Kind.SERVER, new_key().public_key)
    nonce = "f7lCyZc2i38a-QY"
    return {
        "aud": "nats-authorization-request",
        "exp": time.time_ns() // 1_000_000_000 + 5,
        "nats": {
            "server_id": {"id": server},
            "user_nkey": user(new_key()),
            "client_info": {"host": "127.0.0.1", "nonce": nonce},
            "connect_opts": {"nkey": user(NODE), "sig": NODE.sign(nonce.encode()).hex()},
        },
        **changes,
    }


async def test_a_forged_request_changes_nothing(network: Network) -> None:
    forged = sign_token(request_claims(), Kind.SERVER, new_key()).encode()
    async with network.connect(NODE) as node:
        await node.publish(CALLOUT_SUBJECT, forged)
        async with node.subscribe(f"node.{N}.round.trip"):
            assert node.violations == 1
    await network.core.publish(CALLOUT_SUBJECT, forged)
    async with network.connect(PEER):
        pass
    assert [public_key for public_key, _ in network.asked] == [NODE.public_key, PEER.public_key]


def forgeries() -> dict[str, bytes]:
    key = new_key()
    own_id = {"server_id": {"id": encode_public(Kind.SERVER, key.public_key)}}
    honest = request_claims()
    honest["nats"] |= own_id
    token = sign_token(honest, Kind.SERVER, key)
    head, payload, signature = token.split(".")
    other_payload = sign_token({**honest, "exp": honest["exp"] + 1}, Kind.SERVER, key).split(".")[1]
    return {
        "names another server": sign_token(request_claims(), Kind.SERVER, key).encode(),
        "signed by no server": sign_token(honest, Kind.USER, key).encode(),
        "another audience": sign_token({**honest, "aud": "x"}, Kind.SERVER, key).encode(),
        "expired": sign_token({**honest, "exp": 1_000_000}, Kind.SERVER, key).encode(),
        "changed": f"{head}.{other_payload}.{signature}".encode(),
        "no signature": f"{head}.{payload}.".encode(),
        "no user": sign_token({**honest, "nats": {**honest["nats"], "user_nkey": ""}}, Kind.SERVER, key).encode(),
        "no claims": sign_token({}, Kind.SERVER, key).encode(),
        "no token": b"....",
        "bytes": b"\xff\xfe",
        "nothing": b"",
    }


@pytest.mark.parametrize("kind", forgeries().keys())
async def test_a_request_that_no_server_made_gets_no_answer(kind: str) -> None:
    async def never(_key: bytes, _info: ClientInfo) -> Permissions:
        raise AssertionError("asked")

    assert await callout_of(never).answer(forgeries()[kind]) == b""


async def test_plain_text_is_refused_where_tls_is_wanted(network: Network) -> None:
    await expect_refused(network, NODE, "bus.plain_text", tls=ssl.create_default_context())


async def test_a_server_cannot_have_a_record_signed_as_its_nonce() -> None:
    signed: list[bytes] = []
    refused = asyncio.Event()

    def record(data: bytes) -> bytes:
        signed.append(data)
        return NODE.sign(data)

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "auth_required": True, "nonce": "a signed record, with spaces"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        assert await reader.read() == b""
        writer.close()
        refused.set()

    async with await asyncio.start_server(hostile, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        key = KeySigner(NODE.public_key, record)
        with pytest.raises(Unavailable):
            async with dial(f"nats://127.0.0.1:{port}", key, connect_timeout_s=0.5):
                pass
        async with asyncio.timeout(LONG_S):
            await refused.wait()
    assert signed == []


def test_a_key_has_exactly_one_text() -> None:
    text = user(NODE)
    assert text.startswith("U")
    assert len(text) == 56
    assert decode_public(Kind.USER, text) == NODE.public_key
    wrong = [text[:-1], text + "A", text.lower(), "A" + text[1:], text[:20] + "AAAA" + text[24:], "", "é" * 56]
    for each in wrong:
        with pytest.raises(InvalidInput):
            decode_public(Kind.USER, each)
    with pytest.raises(InvalidInput):
        decode_public(Kind.ACCOUNT, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        # From NATS's own description of the callout (ADR-26).
        (Kind.ACCOUNT, "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA"),
        (Kind.SERVER, "NB5FCQYBGNXSL27AGZYUX5QZ2KKIFUKVDZCL5R7NIUS4562JT4WEWKQV"),
        (Kind.USER, "UBO2MQV67TQTVIRV3XFTEZOACM4WLOCMCDMAWN5QVN5PI2N6JHTVDRON"),
    ],
)
def test_keys_that_others_made_can_be_read(kind: Kind, text: str) -> None:
    assert encode_public(kind, decode_public(kind, text)) == text


def test_the_configuration_takes_only_keys() -> None:
    good: dict[str, Any] = {
        "core_public_keys": {"market": user(CORE)},
        "callout_public_key": user(CALLOUT),
        "system_public_key": user(SYSTEM),
        "callout_issuer_public": encode_public(Kind.ACCOUNT, ISSUER.public_key),
    }
    nats_auth_config(**good)
    for change in (
        {"core_public_keys": {"market": user(CALLOUT)}},
        {"core_public_keys": {"market": '"}] }'}},
        {"system_public_key": user(CALLOUT)},
        {"core_public_keys": {"Market }": user(CORE)}},
        {"callout_issuer_public": user(ISSUER)},
    ):
        with pytest.raises(InvalidInput):
            nats_auth_config(**{**good, **change})
