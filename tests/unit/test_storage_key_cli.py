"""What a buyer is shown for his S3 clients."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from fallow.cli import profiles
from fallow.cli.storage import key
from fallow.verticals.storage.gateway.users import User

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


class Client:
    """A network with a gateway, where the buyer has no subscription."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def network(self) -> SimpleNamespace:
        """Say where the gateway is."""
        return SimpleNamespace(gateways={"s3": "https://192.0.2.7:8430"})

    def signing_secret(self) -> User:
        """Say what S3 requests are signed with."""
        return User("access", "of the test", "", "")

    def subscriptions(self) -> list[Any]:
        """Say that there are none."""
        return []


@pytest.mark.parametrize("ca", ["", PEM])
def test_the_authority_of_a_network_is_where_s3_clients_can_read_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, ca: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(profiles, "load", lambda: profiles.Profile("https://192.0.2.7:8400", "fk_key", ca))
    monkeypatch.setattr(profiles, "client_of", lambda _: Client())
    key()
    said = dict(shlex.split(line)[1].split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert said["AWS_ENDPOINT_URL"] == "https://192.0.2.7:8430"
    assert ("AWS_CA_BUNDLE" in said) == bool(ca)
    key(json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["ca"] == said.get("AWS_CA_BUNDLE", "")
    if ca:
        assert Path(told["ca"]).read_text() == PEM
