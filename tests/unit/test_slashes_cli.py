"""`fallow chain slashes` and `stop-slash`, on the real vault: what waits is shown, and the guardian alone stops it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from coincurve import PrivateKey

from fallow.bootstrap import slashes
from fallow.cli import chain as commands
from fallow.cli import main
from fallow.domain.identity import address_text
from fallow.domain.wallets import address_of
from fallow.ports.chain import Chain
from fallow.services.sender.service import Sender
from tests.instant_chain import KeptLog
from tests.settled_world import OPERATOR, settled_world
from tests.staked_world import LIAR, OWN, World, equivocates


async def slashed_world() -> World:
    """A validator with stake who has signed two roots; the slash is announced."""
    world = World(await settled_world())
    await world.tokens(LIAR, PrivateKey(b"\x0d" * 32))
    await world.stake(LIAR, OWN)
    await equivocates(world)
    assert await world.slasher.look() == (1, 0)
    return world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = asyncio.run(slashed_world())
    contracts = SimpleNamespace(vault=address_text(made.settled.made.vault))

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[tuple[Any, Chain]]:
        yield contracts, made.chain

    @asynccontextmanager
    async def own(*_: object) -> AsyncIterator[Chain]:
        yield made.chain

    monkeypatch.setattr(slashes, "open_chain", opened)
    monkeypatch.setattr(slashes, "own_chain", own)
    monkeypatch.setattr(slashes, "read_place", lambda _: None)
    monkeypatch.setattr(slashes, "chain_of", lambda _: None)
    monkeypatch.setattr(slashes, "the_contracts", lambda _: contracts)
    monkeypatch.setattr(slashes, "operator_sender", partial(sending, made, OPERATOR, made.settled.log))
    monkeypatch.setattr(commands, "chain_in_use", lambda: (None, None, None))
    return made


@asynccontextmanager
async def sending(world: World, key: PrivateKey, log: KeptLog, *_: object) -> AsyncIterator[Sender]:
    async with world.chain.sender(key, log) as sender:
        yield sender


def shown(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main.run(["chain", "slashes", "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capfd.readouterr().out)
    return found


def test_what_is_announced_is_shown_until_the_guardian_stops_it(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    (slash,) = shown(capfd)
    assert (slash["slash"], slash["operator"], slash["reason"], slash["share"]) == (
        0, address_text(address_of(LIAR)), "validator.equivocated", "5 %",
    )  # fmt: skip
    assert main.run(["chain", "slashes"]) == 0
    assert "validator.equivocated" in capfd.readouterr().out
    for _ in range(2):
        assert main.run(["chain", "stop-slash", "0"]) == 0
    capfd.readouterr()
    assert shown(capfd) == []
    assert asyncio.run(world.vault.pool(address_of(LIAR))).staked == OWN


def test_nobody_else_stops_one_and_none_that_is_not_there(
    world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["chain", "stop-slash", "1"]) == 1
    assert "there is no such slash" in capfd.readouterr().err
    monkeypatch.setattr(slashes, "operator_sender", partial(sending, world, LIAR, KeptLog()))
    assert main.run(["chain", "stop-slash", "0"]) == 1
    assert "the guardian is somebody else" in capfd.readouterr().err
    assert len(shown(capfd)) == 1
