"""Where a network listens, with which certificates, and when these are made anew."""

from __future__ import annotations

import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fallow.adapters import certificates
from fallow.bootstrap.reach import reach_of, split_listen
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.tls import Tls, own_context, own_names, prepare_tls, public_host, server_context
from fallow.bootstrap.up import given_bus
from fallow.domain.errors import InvalidInput
from fallow.http.public import host_of
from tests.impostor import Authority

DAY = timedelta(days=1)
START = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = ("127.0.0.1", "::1", "fallow.example", "localhost")


def prepared(data: Path, now: datetime = START, names: tuple[str, ...] = NAMES) -> Tls:
    return prepare_tls(data, Settings(listen="127.0.0.1:1"), names, now)


def server(data: Path) -> str:
    return (data / "secrets" / "server.pem").read_text()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:9000", "0.0.0.0", 9000),
        ("[::]:9000", "::", 9000),
        ("fallow.example:0", "fallow.example", 0),
        ("Bücher.example", "xn--bcher-kva.example", 8420),
        ("10.0.0.1", "10.0.0.1", 8420),
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int) -> None:
    assert split_listen(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":80", "a:b", "a:70000", "http://a:1", "a/b", "u@a:1", "a b", "-a:1", "a..b", "*:1"]
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(InvalidInput):
        split_listen(text)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "10.0.0.1", "::", "127.evil.example", "localhost.example", "fallow.example"]
)
def test_plain_text_stays_on_this_machine(host: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reach_of(Settings(host=host))
    assert caught.value.code == "up.no_tls"
    assert "--listen" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_no_encryption(host: str) -> None:
    assert not reach_of(Settings(host=host)).tls


def test_what_listens_for_others_has_a_certificate_for_how_they_call_it() -> None:
    reach = reach_of(Settings(listen="0.0.0.0:5", names="net.example, 203.0.113.9"))
    assert (reach.bind, reach.port, reach.host, reach.tls, reach.everywhere) == (
        "0.0.0.0",
        5,
        "net.example",
        True,
        True,
    )
    assert {"net.example", "203.0.113.9", "127.0.0.1", "::1", "localhost"} <= set(reach.names)
    only = reach_of(Settings(listen="127.0.0.1:5"))
    assert (only.host, only.everywhere) == ("127.0.0.1", False)
    with pytest.raises(InvalidInput, match="no name"):
        reach_of(Settings(listen="127.0.0.1:5", names="a_b"))


def test_behind_a_proxy_that_ends_encryption_its_names_are_the_networks_own() -> None:
    plain = reach_of(Settings(names="Net.example"))
    assert not plain.tls
    assert set(own_names(plain, None)) == {"net.example", "127.0.0.1", "::1", "localhost"}


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InvalidInput) as caught:
        reach_of(Settings(listen="net.example:5"))
    assert "--name net.example" in caught.value.hint


def test_certificates_are_made_once(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    kept = server(tmp_path), first.ca_pem()
    assert prepared(tmp_path, START + 700 * DAY) == first
    assert (server(tmp_path), first.ca_pem()) == kept
    assert set(certificates.names_of(server(tmp_path))) == set(NAMES)
    for name in ("ca.key", "server.pem"):
        assert stat.S_IMODE((tmp_path / "secrets" / name).stat().st_mode) == 0o600
    assert "PRIVATE" not in first.ca_pem()
    assert certificates.is_from(first.ca_pem(), server(tmp_path))
    assert server_context(first).minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_is_renewed_a_month_before_it_ends(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    kept = server(tmp_path)
    assert prepared(tmp_path, START + 794 * DAY) == first
    assert server(tmp_path) == kept
    assert prepared(tmp_path, START + 796 * DAY) == first
    assert server(tmp_path) != kept
    assert certificates.is_current(server(tmp_path), START + 1500 * DAY)


def test_a_further_name_makes_a_further_certificate(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    kept = server(tmp_path)
    assert prepared(tmp_path, names=(*NAMES, "10.0.0.1")).pin == first.pin
    assert server(tmp_path) != kept
    assert "10.0.0.1" in certificates.names_of(server(tmp_path))


def test_the_pin_outlives_the_authoritys_certificate(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    old, kept = first.ca_pem(), server(tmp_path)
    later = prepared(tmp_path, START + 3640 * DAY)
    assert later.pin == first.pin
    assert later.ca_pem() != old
    assert server(tmp_path) != kept
    (tmp_path / "ca.pem").unlink()
    assert prepared(tmp_path, START + 3640 * DAY).pin == first.pin
    (tmp_path / "secrets" / "ca.key").unlink()
    assert prepared(tmp_path, START + 3640 * DAY).pin != first.pin
    assert certificates.is_from((tmp_path / "ca.pem").read_text(), server(tmp_path))


def test_the_operators_own_certificate_is_used_as_it_is(tmp_path: Path) -> None:
    file = Authority().server(tmp_path, names=("net.example",))
    settings = Settings(listen="0.0.0.0:1", tls_cert=str(file))
    tls = prepare_tls(tmp_path, settings, (), datetime.now(UTC))
    assert (tls.pin, tls.ca, tls.ca_pem()) == ("", "", "")
    assert not (tmp_path / "secrets").exists()
    assert public_host(settings, reach_of(settings), tls) == "net.example"
    assert {"net.example", "127.0.0.1", "localhost"} <= set(own_names(reach_of(settings), tls))
    context = own_context(tls)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(InvalidInput) as caught:
        prepare_tls(tmp_path, settings, (), datetime.now(UTC) + 900 * DAY)
    assert caught.value.code == "tls.expired"
    other = tmp_path / "other"
    other.mkdir()
    foreign = Settings(tls_cert=str(file), tls_key=str(Authority().server(other)))
    for wrong in (foreign, Settings(tls_cert=str(tmp_path / "nothing")), Settings(listen="x", tls_key=str(file))):
        with pytest.raises(InvalidInput) as caught:
            prepare_tls(tmp_path, wrong, (), datetime.now(UTC))
        assert caught.value.code == "tls.certificate"


@pytest.mark.parametrize("file", ["ca.pem", "secrets/ca.key"])
def test_a_damaged_file_is_told(tmp_path: Path, file: str) -> None:
    prepared(tmp_path)
    (tmp_path / file).write_text("nonsense")
    with pytest.raises(InvalidInput) as caught:
        prepared(tmp_path)
    assert caught.value.code in {"tls.certificate", "tls.key"}


def test_a_damaged_server_certificate_is_made_anew(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    (tmp_path / "secrets" / "server.pem").write_text("nonsense")
    assert prepared(tmp_path) == first
    server_context(first)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("net.example:8420", "net.example"),
        ("net.example", "net.example"),
        ("10.0.0.1:5", "10.0.0.1"),
        ("[fd00::1]:5", "[fd00::1]"),
        ("", ""),
        (":5", ""),
        ("a b", ""),
        ("[::1", ""),
        ("u:p@net.example", "net.example"),
        ("x/../y", "x"),
        ("ä.example", ""),
        ("a" * 300, ""),
    ],
)
def test_only_a_host_is_taken_from_a_request(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("tls://nats.example", "tls://nats.example:4222"),
        ("tls://nats.example:9/", "tls://nats.example:9"),
        ("nats://[::1]", "nats://[::1]:4222"),
    ],
)
def test_the_operators_bus_has_a_port_for_whoever_is_carried_to_it(url: str, found: str) -> None:
    assert given_bus(url) == found


@pytest.mark.parametrize(
    "url", ["tls://h:0", "tls://h:x", "tls://[::1", "tls://u:pw@h", "tls://a:1,tls://b:1", "http://h"]
)
def test_an_address_that_is_no_bus_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        given_bus(url)
    assert (caught.value.code, "pw" in str(caught.value)) == ("nats.url", False)
