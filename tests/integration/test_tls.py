"""A network that other machines reach: encrypted, and nobody in between is believed."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from fallow import AsyncClient, FallowError
from fallow.adapters import certificates
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.agent.identity import NodeKey
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.tls import prepare_tls
from fallow.domain.errors import NotAllowed, Unavailable
from fallow.domain.pins import split_token
from fallow.sdk.trust import trusting
from tests.engines import reachable_folder
from tests.impostor import Authority, impostor, now
from tests.network import BOUND, NEEDS, Net, Running, Said, connected, fallow, running_network
from tests.programs import hello

pytestmark = pytest.mark.xdist_group("tls")

LISTEN = "127.0.0.1:0"
AGO = timedelta(days=800)


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Running]:
    """A network with a certificate authority of its own, and one machine."""
    with running_network(listen=LISTEN) as running, running.agent("barn"):
        yield running


@pytest.fixture
async def net(encrypted: Running) -> AsyncIterator[Net]:
    async with connected(encrypted) as net:
        await net.on_market(*encrypted.agents)
        yield net


def bus_of(running: Running) -> tuple[str, int]:
    parts = urlsplit(running.place["bus_public_url"])
    assert parts.scheme == "tls"
    return parts.hostname or "", parts.port or 0


async def join(url: str, token: str, home: Path) -> Said:
    return await fallow("agent", "join", url, "--token", token, "--yes", "--no-start", "--home", home)


def is_one_sentence(said: Said, code: str) -> None:
    assert (said.code != 0, f"[{code}]" in said.err, "Traceback" in said.err) == (True, True, False), said.err


async def runs_a_job(net: Net) -> None:
    order = await net.buyer.wasm_order(hello(), requirements=NEEDS, time_limit_s=60)
    await net.buyer.submit(order)
    assert (await net.finished(order.id)).state == "done"
    assert await (await net.buyer.result(order.id)).stdout() == b"hello\n"


# What works


async def test_a_job_runs_on_a_machine_that_joined_over_tls(net: Net) -> None:
    await runs_a_job(net)
    (agent,) = net.running.agents
    state = json.loads((agent.home / "state.json").read_bytes())
    assert state["url"].startswith("https://")
    assert state["network"]["bus_url"].startswith("tls://")
    assert net.running.ca is not None
    assert state["ca"] == net.running.ca.read_text()
    assert (await agent.ask("status"))["link_trouble"] == ""
    secret, pin = split_token(net.running.welcome["join_token"])
    assert pin == net.running.welcome["pin"]
    assert secret not in agent.words()


async def test_further_tokens_carry_the_pin_and_work_without_it(net: Net, tmp_path: Path) -> None:
    token = split_token((await net.operator.create_token(uses=2)).secret)
    assert token.pin == net.running.welcome["pin"]
    assert (await join(net.url, token.text, tmp_path / "a")).code == 0
    # Whoever trusts the authority otherwise needs no pin.
    key = NodeKey.load_or_create(tmp_path / "key")
    assert net.running.ca is not None
    async with httpx2.AsyncClient(verify=trusting(net.running.ca.read_text()), timeout=BOUND) as client:
        for text in (token.secret, token.text):
            proof = key.sign(b"not checked here, but where it is")
            body = {"token": text, "node": key.text, "proof": proof.hex()}
            assert (await client.post(f"{net.url}/v1/join", json=body)).json()["code"] == "join.proof"


async def test_the_command_line_remembers_the_authority(net: Net, tmp_path: Path) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path)}
    pin = f"sha256:{net.running.welcome['pin']}"
    assert (await fallow("login", net.url, net.first.key, "--ca", pin, **config)).code == 0
    assert json.loads((await fallow("balance", "--json", **config)).out)["spendable"]["granted"] == net.first.granted
    is_one_sentence(await fallow("login", net.url, net.first.key, XDG_CONFIG_HOME=str(tmp_path / "b")), "tls.untrusted")
    operator = {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.running.welcome["operator_key"]}
    assert (await fallow("ledger", "check", **operator, FALLOW_CA=str(net.running.ca))).code == 0
    is_one_sentence(await fallow("ledger", "check", **operator), "tls.untrusted")


async def test_s3_clients_trust_the_authority_that_was_logged_in_with(net: Net, tmp_path: Path) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path)}
    pin = f"sha256:{net.running.welcome['pin']}"
    assert (await fallow("login", net.url, net.first.key, "--ca", pin, **config)).code == 0
    told = json.loads((await fallow("storage", "key", "--json", **config)).out)

    def buckets(**verify: str) -> list[object]:
        keys = {"aws_access_key_id": told["access_key"], "aws_secret_access_key": told["secret_key"]}
        once = Config(retries={"total_max_attempts": 1})
        client = boto3.client("s3", endpoint_url=told["endpoint"], region_name="fallow", config=once, **keys, **verify)
        return list(client.list_buckets()["Buckets"])

    assert told["endpoint"].startswith("https://")
    assert await asyncio.to_thread(buckets, verify=told["ca"]) == []
    with pytest.raises(SSLError):
        await asyncio.to_thread(buckets)


async def test_what_browsers_are_told(net: Net) -> None:
    assert net.running.ca is not None
    async with httpx2.AsyncClient(verify=trusting(net.running.ca.read_text()), timeout=BOUND) as client:
        answer = await client.get(f"{net.url}/v1/ca.pem")
    assert answer.text == net.running.ca.read_text()
    assert "max-age=" in answer.headers["Strict-Transport-Security"]


async def test_private_keys_are_for_those_who_serve_with_them(encrypted: Running) -> None:
    bus = encrypted.data / "nats"
    for file in (bus / "tls-key.pem", encrypted.data / "secrets" / "server.pem", encrypted.data / "secrets" / "ca.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (bus / "tls-key.pem").stat().st_uid == bus.stat().st_uid


# Plain text


async def test_plain_http_gets_nothing_from_the_encrypted_port(net: Net) -> None:
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.TransportError):
            await client.get(net.url.replace("https:", "http:") + "/v1/network")


async def test_old_tls_is_refused(net: Net) -> None:
    for host, port in (bus_of(net.running), ("127.0.0.1", urlsplit(net.url).port)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011 - the words are OpenSSL's
            await asyncio.open_connection(host, port, ssl=context)


async def test_the_bus_says_nothing_in_plain_text(net: Net) -> None:
    reader, writer = await asyncio.open_connection(*bus_of(net.running))
    writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
    await writer.drain()
    async with asyncio.timeout(120):
        heard = await reader.read()
    writer.close()
    # A TLS alert at most: no greeting, and no nonce that somebody in between could have signed.
    assert b"INFO" not in heard
    assert b"PONG" not in heard


@pytest.mark.parametrize("whom", ["nobody", "the system", "another authority"])
async def test_the_bus_must_show_who_it_is(net: Net, whom: str) -> None:
    key = NodeKey.load(net.running.agents[0].home / "node.key")
    host, port = bus_of(net.running)
    contexts = {
        "nobody": None,
        "the system": ssl.create_default_context(),
        "another authority": trusting(Authority().pem),
    }
    signed: list[bytes] = []

    def sign(message: bytes) -> bytes:
        signed.append(message)
        return key.sign(message)

    url = f"{'tls' if contexts[whom] else 'nats'}://{host}:{port}"
    with pytest.raises((NotAllowed, Unavailable)) as caught:
        async with connect_nats(
            url, signer=KeySigner(key.node, sign), name="a test", tls=contexts[whom],
            inbox_prefix=inbox_prefix(key.node), connect_timeout_s=BOUND if contexts[whom] else 2,
        ):  # fmt: skip
            pass
    assert caught.value.code == ("bus.untrusted" if contexts[whom] else "bus.unreachable")
    assert signed == []


# Somebody in between


async def test_a_wrong_pin_ends_it_before_anything_is_sent(net: Net, tmp_path: Path) -> None:
    secret, _ = split_token((await net.operator.create_token()).secret)
    is_one_sentence(await join(net.url, f"{secret}_{Authority().pin}", tmp_path / "home"), "tls.wrong_ca")
    assert not (tmp_path / "home" / "state.json").exists()
    is_one_sentence(await join(net.url, f"{secret}_xyz", tmp_path / "home"), "tls.pin")
    plain = net.url.replace("https:", "http:")
    is_one_sentence(await join(plain, f"{secret}_{net.running.welcome['pin']}", tmp_path / "home"), "tls.url")
    # The token is still good: none of this used it up.
    assert (await join(net.url, f"{secret}_{net.running.welcome['pin']}", tmp_path / "home")).code == 0


@pytest.mark.parametrize("shows", ["its own authority", "the network's authority", "both", "nothing"])
async def test_a_man_in_the_middle_learns_no_secret(net: Net, tmp_path: Path, shows: str) -> None:
    foreign = Authority()
    assert net.running.ca is not None
    ours = net.running.ca.read_text()
    pem = {"its own authority": foreign.pem, "the network's authority": ours, "both": ours + foreign.pem, "nothing": ""}
    secret, pin = split_token(net.running.welcome["join_token"])
    key = net.first.key
    async with impostor(foreign.server(tmp_path), pem[shows]) as middle:
        joined = await join(middle.url, f"{secret}_{pin}", tmp_path / "home")
        unpinned = await join(middle.url, secret, tmp_path / "home")
        config = {"XDG_CONFIG_HOME": str(tmp_path)}
        login = await fallow("login", middle.url, key, "--ca", f"sha256:{pin}", **config)
        before = middle.heard
        for ca in (net.running.ca, trusting(ours), None):
            async with AsyncClient(middle.url, key, ca=ca) as client:
                with pytest.raises(NotAllowed) as caught:
                    await client.balance()
                assert caught.value.code == "tls.untrusted"
        assert middle.heard == before, "a client that knows the authority says nothing at all"
    is_one_sentence(unpinned, "agent.untrusted")
    for said in (joined, unpinned, login):
        assert said.code in {1, 2}, said.err
        assert "Traceback" not in said.err
    assert not (tmp_path / "home" / "state.json").exists()
    assert not (tmp_path / "fallow" / "profile.toml").exists()
    requests = [line for line in middle.heard.split(b"\r\n") if b"HTTP/1.1" in line]
    assert requests == [b"GET /v1/ca.pem HTTP/1.1"] * 2
    for word in (secret, secret.removeprefix("fj_"), key, key.rpartition("_")[2], "uthorization", "proof"):
        assert word.encode() not in middle.heard


async def test_an_expired_certificate_is_refused(encrypted: Running, tmp_path: Path) -> None:
    ours = Authority.of(encrypted.data)
    expired = ours.server(tmp_path, at=now() - timedelta(days=900))
    token = encrypted.welcome["join_token"]
    async with impostor(expired, ours.pem) as old:
        said = await join(old.url, token, tmp_path / "home")
        async with AsyncClient(old.url, "fk_key_secret", ca=encrypted.ca) as client:
            with pytest.raises(NotAllowed, match="expired"):
                await client.balance()
    is_one_sentence(said, "agent.untrusted")
    assert "expired" in said.err
    assert split_token(token).secret.encode() not in old.heard
    assert b"fk_key" not in old.heard


async def test_a_certificate_for_another_name_is_refused(encrypted: Running, tmp_path: Path) -> None:
    ours = Authority.of(encrypted.data)
    async with impostor(ours.server(tmp_path, names=("net.example",)), ours.pem) as other:
        said = await join(other.url, encrypted.welcome["join_token"], tmp_path / "home")
        async with AsyncClient(other.url, "fk_key_secret", ca=encrypted.ca) as client:
            with pytest.raises(FallowError):
                await client.balance()
    is_one_sentence(said, "agent.untrusted")
    assert [line for line in other.heard.split(b"\r\n") if b"HTTP/1.1" in line] == [b"GET /v1/ca.pem HTTP/1.1"]


# Certificates


async def test_a_certificate_that_is_about_to_end_is_renewed_at_start() -> None:
    with reachable_folder() as folder:
        data = folder / "network"
        data.mkdir(mode=0o711)
        data.chmod(0o711)
        names = ("127.0.0.1", "::1", "localhost", socket.gethostname().lower())
        before = prepare_tls(data, Settings(listen=LISTEN), names, now() - AGO)
        old = (data / "secrets" / "server.pem").read_text()
        assert not certificates.is_current(old, now())
        with running_network(data, listen=LISTEN) as running, running.agent("renewed"):
            new = (data / "secrets" / "server.pem").read_text()
            assert new != old
            assert certificates.is_current(new, now())
            assert running.welcome["pin"] == before.pin
            async with connected(running) as net:
                await net.on_market(*running.agents)
        with running_network(data, listen=LISTEN) as running:
            assert (data / "secrets" / "server.pem").read_text() == new
            assert running.welcome["pin"] == before.pin


async def test_a_network_gets_its_authority_when_it_opens_up() -> None:
    with reachable_folder() as folder:
        data = folder / "network"
        with running_network(data) as plain:
            assert (plain.welcome["pin"], plain.ca) == ("", None)
            assert split_token(plain.welcome["join_token"]).pin == ""
            async with httpx2.AsyncClient(timeout=BOUND) as client:
                assert (await client.get(f"{plain.url}/v1/ca.pem")).json()["code"] == "tls.no_ca"
                assert "Strict-Transport-Security" not in (await client.get(f"{plain.url}/healthz")).headers
        with running_network(data, listen=LISTEN) as opened:
            assert split_token(opened.welcome["join_token"]) == (plain.welcome["join_token"], opened.welcome["pin"])
            async with AsyncClient(opened.url, plain.welcome["buyer_key"], ca=opened.ca) as buyer:
                assert (await buyer.balance()).spendable["granted"] > 0
        with running_network(data) as closed:
            assert closed.welcome["join_token"] == plain.welcome["join_token"]


async def test_the_operators_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = Authority()
    file, ca = company.server(tmp_path), company.write(tmp_path / "company.pem")
    with running_network(listen=LISTEN, tls_cert=str(file), tls_key=str(file)) as running:
        assert (running.welcome["pin"], running.welcome["ca"]) == ("", "")
        assert not (running.data / "ca.pem").exists()
        assert split_token(running.welcome["join_token"]).pin == ""
        async with AsyncClient(running.url, running.welcome["buyer_key"]) as stranger:
            with pytest.raises(NotAllowed, match="show that it is"):
                await stranger.network()
        # The system's authorities are the company's from here on.
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        with running.agent("barn"):
            async with connected(running) as net:
                await net.on_market(*running.agents)
                await runs_a_job(net)
