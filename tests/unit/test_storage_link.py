"""`fallow storage link`, as it is typed: signed by the network, and refused where no gateway could open it."""

from __future__ import annotations

import json
import os
from typing import Any, Self

import msgspec
import pytest

from fallow.cli import profiles
from fallow.cli.main import run
from fallow.domain.views.keys import LinksView
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.seals import SEALED, write_seal
from fallow.verticals.storage.core.calls.buckets import Bucket, GetBucket


class Client:
    """A network with a bucket of the gateway's, and one of its owner's."""

    def __init__(self) -> None:
        self.signed: list[tuple[str, str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def link(self, role: str, path: str, valid_s: int) -> LinksView:
        """The network signs it."""
        self.signed.append((role, path, valid_s))
        return LinksView(urls=["https://fallow.example:8430/signed"], ends_at=5)

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


def test_an_address_is_for_one_object_and_a_time(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["storage", "link", "s3://photos/a b.jpg", "--valid", "7d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": "https://fallow.example:8430/signed", "until_ms": 5}
    assert client.signed == [("s3", "/photos/a b.jpg", 604_800)]


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
    client: Client, words: list[str], code: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["storage", "link", *words]) == status
    assert code in capsys.readouterr().err
    assert not client.signed
