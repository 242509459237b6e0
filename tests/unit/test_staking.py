"""`fallow wallet stake` on the real contracts: what is staked, delegated, taken out and slashed, and what is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.bootstrap import wallet as wallets
from fallow.bootstrap.wallet import Wallet
from fallow.cli import main, profiles
from fallow.domain.calls.tokens import SetTake
from fallow.domain.chain_facts import ChainBurned
from fallow.domain.identity import address_text
from fallow.domain.stake_facts import take_text
from fallow.domain.staking import shares_of, tokens_of
from fallow.domain.transactions import call_data
from fallow.domain.views.network import ContractsView, NetworkView
from fallow.domain.wallets import address_of, signer_of
from fallow.services.sender.deployment import UNBONDING_S
from tests.instant_chain import KeptLog
from tests.settled_world import OPERATOR, settled_world
from tests.staked_world import DELEGATOR, LIAR, TOKENS, World
from tests.unit.canned_client import CannedClient
from tests.unit.own_key import kept_key

NET, TOKEN = "public-1", 10**18
OTHER = address_text(address_of(LIAR))


class Client(CannedClient):
    """One of a network with a chain."""

    def network(self) -> NetworkView:
        """See the SDK."""
        return NetworkView(net=NET, public_key="", bus_url="", preset="public", version="1")

    def set_take(self, said: SetTake) -> None:
        """Note what was said."""
        self.asked.append(("take", said))


class Typing:
    """A delegator at his keyboard."""

    def __init__(self, world: World, client: Client, capfd: pytest.CaptureFixture[str]) -> None:
        self.world, self.client, self._capfd = world, client, capfd

    def say(self, *words: str) -> tuple[int, str, str]:
        """Type a command; returns its code and what it says."""
        code = main.run(["wallet", *words])
        said = self._capfd.readouterr()
        return code, said.out, said.err

    def shown(self) -> Any:
        """What `stake show` says of the other operator."""
        return json.loads(self.say("stake", "show", "--operator", OTHER, "--json")[1])


@pytest.fixture
def typing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typing:
    async def made() -> World:
        world = World(await settled_world())
        await world.tokens(LIAR, DELEGATOR)
        return world

    world, log, client = asyncio.run(made()), KeptLog(), Client()
    names = ("settlement", "token", "distributor", "validators", "vault", "timelock")
    where = {name: address_text(getattr(world.settled.made, name)) for name in names}
    contracts = ContractsView(chain_id=0, block=world.settled.made.block, **where)

    @asynccontextmanager
    async def opened(key: Path, *_: object) -> AsyncIterator[Wallet]:
        assert key == file
        async with world.chain.sender(DELEGATOR, log) as sender:
            yield Wallet(address_of(DELEGATOR), contracts, world.chain, sender)

    file = kept_key(tmp_path, monkeypatch, DELEGATOR.secret)
    monkeypatch.setattr(wallets, "open_wallet", opened)
    monkeypatch.setattr(profiles, "load", lambda: profiles.Profile("http://x", "key"))
    monkeypatch.setattr(profiles, "client_of", lambda _: client)
    monkeypatch.setattr(profiles, "connect", lambda: client)
    return Typing(world, client, capfd)


def test_what_is_delegated_is_taken_out_after_its_time_and_each_deed_counts_once(typing: Typing) -> None:
    for _ in range(2):
        assert typing.say("stake", "delegate", OTHER, "300", "--id", "one")[0] == 0
    assert typing.shown()["units"] == str(300 * TOKEN)
    for _ in range(2):
        code, out, _err = typing.say("stake", "unbond", "200.5", "--operator", OTHER, "--id", "two")
        assert (code, "stake show" in out) == (0, True)
    view = typing.shown()
    assert (view["units"], view["unbonding"][0]["units"]) == (str(995 * TOKEN // 10), str(2005 * TOKEN // 10))
    assert "stake.funds" in typing.say("stake", "unbond", "99.6", "--operator", OTHER)[2]
    assert typing.shown() == view, "who asks for more than there is gets nothing, and hears so"
    code, _, err = typing.say("stake", "release", "--operator", OTHER)
    assert (code, "nothing has been unbonding for long enough" in err) == (1, True)
    typing.world.pass_s(UNBONDING_S)
    assert typing.say("stake", "release", "--operator", OTHER)[0] == 0
    assert typing.say("stake", "unbond", "--operator", OTHER)[0] == 0
    view = typing.shown()
    assert (view["units"], len(view["unbonding"]), view["pool"]["staked_units"]) == ("0", 1, "0")


def test_a_slash_that_is_announced_is_said_and_lets_nothing_in(typing: Typing) -> None:
    assert typing.say("stake", "delegate", OTHER, "300")[0] == 0
    announce = call_data("announceSlash(address,uint32,bytes32,bytes32)", address_of(LIAR), 50_000, b"r", b"e")
    asyncio.run(typing.world.send(OPERATOR, typing.world.settled.made.vault, announce))
    code, _, err = typing.say("stake", "delegate", OTHER, "1")
    assert (code, "a slash of this operator is announced" in err) == (1, True)
    code, out, err = typing.say("stake", "show", "--operator", OTHER)
    assert (code, "300" in out, "slash of this operator" in err) == (0, True, True)


def test_nobody_stakes_or_takes_out_more_than_he_has(typing: Typing) -> None:
    code, _, err = typing.say("stake", "add", str(TOKENS // TOKEN + 1))
    assert (code, "fewer tokens" in err) == (1, True)
    code, _, err = typing.say("stake", "unbond", "--operator", OTHER)
    assert (code, "nothing at stake there" in err) == (1, True)


def test_an_operator_says_what_he_keeps_with_his_key(typing: Typing) -> None:
    code, out, _ = typing.say("stake", "take", "17.5")
    ((_, said),) = typing.client.asked
    assert (code, said.take_ppm, "keeps 17.5 %" in out) == (0, 175_000, True)
    me = address_of(DELEGATOR)
    assert (said.account, signer_of(take_text(NET, me, 175_000, said.at_ms), bytes.fromhex(said.signature[2:]))) == (
        address_text(me), me,
    )  # fmt: skip
    for wrong in ("101", "-1", "much", "0.00001", "nan"):
        assert "cli.number" in typing.say("stake", "take", wrong)[2]


def test_tokens_are_burned_for_credits_once(typing: Typing) -> None:
    for _ in range(2):
        assert typing.say("burn", "2.5", "--account", OTHER, "--id", "one")[0] == 0
    (burned,) = (fact for fact in asyncio.run(typing.world.recorded()) if isinstance(fact, ChainBurned))
    assert (burned.account, int.from_bytes(burned.amount)) == (address_of(LIAR), 25 * TOKEN // 10)
    code, _, err = typing.say("burn", "1000000", "--account", OTHER)
    assert (code, "fewer tokens" in err) == (1, True)


@given(st.integers(1, 10**27), st.integers(0, 10**27), st.integers(0, 10**33))
def test_the_fewest_shares_that_are_worth_so_many_tokens(units: int, tokens: int, shares: int) -> None:
    fewest = shares_of(units, tokens, shares)
    assert tokens_of(fewest, tokens, shares) >= units > tokens_of(fewest - 1, tokens, shares)
