"""`fallow storage link`, as it is typed: signed for the gateway, and refused where no gateway could open it."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from fallow.cli import profiles
from fallow.cli.main import run
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.seals import SEALED, write_seal
from fallow.verticals.storage.core.calls import Bucket, GetBucket


class Signing(NamedTuple):
    """As the SDK shows it."""

    access_key: str
    secret: str


class Network(NamedTuple):
    """As the SDK shows it."""

    gateways: dict[str, str]


class Client:
    """A network with a bucket of the gateway's, and one of its owner's."""

    def __init__(self) -> None:
        self.gateways = {"s3": "https://fallow.example:8430"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def network(self) -> Network:
        """Where its gateways are."""
        return Network(self.gateways)

    def signing_secret(self) -> Signing:
        """What the buyer signs with."""
        return Signing("abcdefgh", "s")

    def ask_vertical(self, _vertical: str, _call: str, body: bytes, **_: Any) -> bytes:
        """The bucket that is asked for."""
        name = msgspec.msgpack.decode(body, type=GetBucket).bucket
        seal = write_seal(Keys.under(bytes(32), name, os.urandom), own=name == "own")
        return msgspec.msgpack.encode(Bucket(name=name, account="", made_ms=0, profile="", settings={SEALED: seal}))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()
    monkeypatch.setattr(profiles, "connect", lambda: made)
    return made


@pytest.mark.usefixtures("client")
def test_an_address_is_for_one_object_and_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["storage", "link", "s3://photos/a b.jpg", "--valid", "7d", "--json"]) == 0
    address = urlsplit(json.loads(capsys.readouterr().out)["url"])
    assert (address.netloc, address.path) == ("fallow.example:8430", "/photos/a%20b.jpg")
    assert parse_qs(address.query)["X-Amz-Expires"] == ["604800"]


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["s3://photos"], "storage.place", 2),
        (["s3://photos/a", "--valid", "8d"], "storage.link_time", 2),
        (["s3://photos/a", "--valid", "0s"], "storage.link_time", 2),
        (["fallow://own/a"], "storage.own_bucket", 1),
    ],
)
def test_what_no_address_can_be_made_for_is_refused(
    words: list[str], code: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["storage", "link", *words]) == status
    assert code in capsys.readouterr().err


def test_without_a_gateway_there_is_none(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    client.gateways.clear()
    assert run(["storage", "link", "s3://photos/a"]) == 1
    assert "storage.no_gateway" in capsys.readouterr().err
