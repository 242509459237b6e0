"""Who stands for a gateway: what he signs at the command line, and what everybody is shown of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest

from fallow.bootstrap.account_key import draw_key
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.verticals import controls
from fallow.cli import main, profiles
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address_text
from fallow.domain.vouching import read_vouch
from fallow.verticals.storage.core.hosted import GatewayView, GetGateways

NET, KEY = "public-1", bytes(range(32))


class Client:
    """A network with one gateway."""

    def __init__(self) -> None:
        self.view = GatewayView(key=KEY, least_units=str(5 * 10**18))
        self.contracts: object = "made"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def network(self) -> SimpleNamespace:
        """Say which network it is."""
        return SimpleNamespace(net=NET, contracts=self.contracts)

    def ask_vertical(self, vertical: str, call: str, body: bytes, *, again: bool) -> bytes:
        """Show the gateway."""
        assert (vertical, call, again) == ("storage", GetGateways.name, True)
        msgspec.msgpack.decode(body, type=GetGateways)
        return msgspec.msgpack.encode([self.view])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()
    monkeypatch.setattr(profiles, "connect", lambda: made)
    return made


def test_where_nobody_can_have_a_stake_no_word_is_signed(
    client: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    client.contracts = None
    draw_key(tmp_path / "key")
    assert main.run(["storage", "vouch", KEY.hex(), "--key", str(tmp_path / "key")]) == 1
    said = capsys.readouterr()
    assert (said.out, "[wallet.no_chain]" in said.err) == ("", True)


@pytest.mark.usefixtures("client")
def test_for_what_is_no_gateway_of_the_network_no_word_is_signed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    draw_key(tmp_path / "key")
    assert main.run(["storage", "vouch", "ab" * 32, "--key", str(tmp_path / "key")]) == 1
    said = capsys.readouterr()
    assert (said.out, "[gateway.unknown]" in said.err) == ("", True)


@pytest.mark.usefixtures("client")
def test_a_word_that_was_signed_here_is_taken_for_this_gateway(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    owner = draw_key(tmp_path / "key")
    asked = ["storage", "vouch", KEY.hex(), "--valid", "2d", "--key", str(tmp_path / "key")]
    assert main.run(asked) == 0
    said = capsys.readouterr()
    vouched = read_vouch(said.out.strip(), NET, KEY)
    assert (vouched.owner, vouched.until_ms - vouched.from_ms) == (owner, 2 * 86_400_000)
    assert f"with {address_text(owner)} stands for this gateway" in said.err
    assert f"The gateway {KEY.hex()} of storage on the network {NET}\n" in said.err
    assert main.run([*asked, "--json"]) == 0
    assert read_vouch(json.loads(capsys.readouterr().out)["word"], NET, KEY).owner == owner
    assert main.run(["storage", "vouch", "KEY", "--key", str(tmp_path / "key")]) != 0
    assert "fallow storage gateways" in capsys.readouterr().err
    assert main.run([*asked[:4], "0d", *asked[5:]]) == 2
    said = capsys.readouterr()
    assert (said.out, "[gateway.valid]" in said.err) == ("", True)


def test_everybody_sees_whose_stake_stands_for_a_gateway_and_where_nobodys_does(
    client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run(["storage", "gateways"]) == 0
    assert "nobody: the operator's word alone" in capsys.readouterr().out
    owner = address_text(bytes(20))
    client.view = GatewayView(key=KEY, owner=owner, until_ms=1_800_000_000_000, staked_units=str(10**18))
    assert main.run(["storage", "gateways"]) == 0
    said = capsys.readouterr().out
    assert owner in said
    assert "2027-01-15 08:00:00" in said
    client.view = msgspec.structs.replace(client.view, staked_units="")
    assert main.run(["storage", "gateways"]) == 0
    assert "not known" in capsys.readouterr().out
    client.view = msgspec.structs.replace(client.view, staked_units=str(10**18))
    assert main.run(["storage", "gateways", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["key"], told["owner"], told["staked_units"]) == (KEY.hex(), owner, str(10**18))


async def test_without_a_chain_there_is_no_stake_to_ask_for(tmp_path: Path) -> None:
    ground: Any = SimpleNamespace(settings=Settings(gateway_stake_min=1), place=SimpleNamespace(chain=None))
    with pytest.raises(InvalidInput, match=r"settings\.gateway_stake"):
        async with controls(ground, tmp_path):
            pass
