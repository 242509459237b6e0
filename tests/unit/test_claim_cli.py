"""`fallow claim`: what it says at each stage, on real contracts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fallow.bootstrap import wallet as wallets
from fallow.bootstrap.wallet import Wallet
from fallow.cli import main, profiles
from fallow.domain.chains import chain_id_of
from fallow.domain.epochs.distributor import redirection_digest
from fallow.domain.identity import address, address_text
from fallow.domain.views.epochs import EpochView, ProofView
from fallow.domain.views.money import BalanceView
from fallow.domain.views.network import ContractsView, NetworkView
from fallow.domain.views.payouts import RedirectionView
from fallow.domain.views.votes import VotesView
from fallow.domain.wallets import address_of, sign_digest
from fallow.ports.votes import published
from tests.instant_chain import KeptLog
from tests.settled_world import DELAY_S, OPERATOR, SettledWorld, settled_world
from tests.unit.canned_client import CannedClient
from tests.unit.test_claiming import ALICE, BOB, FIRST, KEY

NET = "public-1"
SAFE = b"\x5a" * 20


class Client(CannedClient):
    """One of a network with a chain; the API key is Alice's."""

    world: SettledWorld

    def network(self) -> NetworkView:
        """See the SDK."""
        return NetworkView(net=NET, public_key="", bus_url="", preset="public", version="1", chain_id=chain_id_of(NET))

    def epochs(self, **_: Any) -> list[EpochView]:
        """See the SDK."""
        if not self.world.closed:
            return []
        view = EpochView(
            epoch=max(self.world.closed), from_ms=0, until_ms=0, statement="", manifest="", previous="", root="",
            batches=0, records=0, files=[],
        )  # fmt: skip
        return [view]

    def votes(self, number: int) -> VotesView:
        """See the SDK."""
        return VotesView(
            epoch=number, validators=[], quorum=0, signed=[], wrong=[], equivocated=[], decided=True,
            published=published(self.world.archive, number),
        )  # fmt: skip

    def proofs(self, number: int, account: str) -> list[ProofView]:
        """See the SDK."""
        claims = asyncio.run(self.world.prove(number, address(account)))
        return [
            ProofView(
                asset=address_text(one.leaf.asset),
                cumulative=str(one.leaf.cumulative),
                proof=[f"0x{node.hex()}" for node in one.proof],
            )
            for one in claims
        ]

    def redirect_claims(self, claims: bytes, nonce: int, deadline_s: int) -> RedirectionView:
        """See the SDK: the network has Alice's key, and her earnings go to a safe place."""
        digest = redirection_digest(self.world.distributor.domain, ALICE, SAFE, claims, nonce, deadline_s)
        return RedirectionView(
            account=address_text(ALICE), recipient=address_text(SAFE), signature=sign_digest(KEY, digest).hex()
        )

    def balance(self) -> BalanceView:
        """See the SDK."""
        empty = {"granted": 0, "paid": 0, "burned": 0}
        return BalanceView(
            account=address_text(ALICE), spendable=empty, reserved=empty, earned=empty | {"paid": 2_500_000}, kept=empty
        )


class Typing:
    """Alice at her keyboard."""

    def __init__(self, world: SettledWorld, capfd: pytest.CaptureFixture[str]) -> None:
        self.world, self._capfd = world, capfd

    def says(self, *words: str) -> str:
        """Type the command; it must succeed."""
        code = main.run(["claim", *words])
        said = self._capfd.readouterr()
        assert code == 0, said
        return said.out

    def fails(self, *words: str) -> str:
        """Type it, and see it fail."""
        assert main.run(["claim", *words]) != 0
        return self._capfd.readouterr().err

    def close(self, epoch: int, **owed: int) -> None:
        """Close an epoch, and bring its root to the chain."""
        self.world.close(epoch, {ALICE: owed["alice"], BOB: owed["bob"]})
        asyncio.run(self.world.publisher().look())


@pytest.fixture
def typing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typing:
    async def made() -> SettledWorld:
        world = await settled_world()
        await world.fund(20_000_000)
        return world

    world, log, client = asyncio.run(made()), KeptLog(), Client()
    client.world = world
    names = ("settlement", "token", "distributor", "validators", "vault", "timelock")
    where = {name: address_text(getattr(world.made, name)) for name in names}
    contracts = ContractsView(chain_id=0, block=world.made.block, **where)

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Wallet]:
        async with world.chain.sender(KEY, log) as sender:
            yield Wallet(ALICE, contracts, world.chain, sender)

    monkeypatch.setenv("FALLOW_ACCOUNT_KEY", str(tmp_path / "key"))
    monkeypatch.setattr(wallets, "open_wallet", opened)
    monkeypatch.setattr(wallets, "SystemClock", lambda: world.clock)
    monkeypatch.setattr(profiles, "load", lambda: profiles.Profile("http://x", "key"))
    monkeypatch.setattr(profiles, "client_of", lambda _: client)
    return Typing(world, capfd)


def test_all_stages_from_the_open_epoch_to_the_wallet(typing: Typing) -> None:
    said = typing.says()
    assert "2.50 USD" in said, "accrued"
    assert "No epoch is closed yet." in said
    typing.close(FIRST, alice=6_000_000, bob=1_000_000)
    assert "claims count on it from" in typing.says()
    assert "There is nothing to claim now." in typing.says("--all")
    typing.world.clock.ms += (DELAY_S + 1) * 1000
    assert "Claim it: fallow claim --all" in typing.says()
    said = typing.says("--all")
    assert "Claimed in transaction 0x" in said
    assert "Your wallet holds 6.00 USD of the settlement asset and 0 tokens now." in said
    assert "to outsiders it proves nothing (self-attested)" in said
    assert "There is nothing to claim now." in typing.says("--all")


def test_what_the_network_keeps_a_key_for_is_paid_to_whom_its_earnings_go(typing: Typing) -> None:
    typing.close(FIRST, alice=6_000_000, bob=1_000_000)
    typing.world.clock.ms += (DELAY_S + 1) * 1000
    assert "Claimed in transaction 0x" in typing.says("--all", "--kept")
    assert "There is nothing to claim now." in typing.says("--all", "--kept")
    assert [asyncio.run(typing.world.held(one)) for one in (ALICE, SAFE)] == [0, 6_000_000]
    assert "claim.to" in typing.fails("--all", "--kept", "--to", address_text(SAFE))


def test_another_recipient_and_other_accounts(typing: Typing) -> None:
    typing.close(FIRST, alice=6_000_000, bob=1_000_000)
    typing.world.clock.ms += (DELAY_S + 1) * 1000
    stranger = "0x" + "77" * 20
    typing.says("--all", "--to", stranger)
    others = json.loads(typing.says("--all", "--account", address_text(BOB), "--json"))
    assert [asset["claimed"] for asset in others["accounts"][0]["assets"]] == ["1000000", "0"]
    assert others["accrued_microusd"] is None, "it is Bob's, and the API key is not"
    held = [asyncio.run(typing.world.held(one)) for one in (ALICE, BOB, bytes.fromhex("77" * 20))]
    assert held == [0, 1_000_000, 6_000_000]
    assert "claim.to" in typing.fails("--to", stranger, "--account", address_text(BOB))
    assert "identity.malformed" in typing.fails("--to", "0x12")


def test_a_root_that_is_not_there_says_why(typing: Typing) -> None:
    typing.world.close(FIRST, {ALICE: 1}, [])
    asyncio.run(typing.world.publisher().look())
    assert "is not on the chain yet. 0 of 4 validators have signed it; 3 must." in typing.says()
    assert address_of(OPERATOR) not in typing.world.validators
