"""A holder's wallet on a network's chain: his key, what he has sent, and the contracts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.rpc import connect_chain
from fallow.adapters.signer import FileSigner
from fallow.bootstrap.contracts import EMBEDDED, POLL_S
from fallow.domain.chains import chain_id_of
from fallow.domain.errors import InsufficientFunds, NotAllowed, NotFound
from fallow.domain.identity import address
from fallow.domain.sending import Done
from fallow.domain.transactions import answer_of, call_data
from fallow.domain.views import ContractsView, NetworkView
from fallow.ports.chain import Chain
from fallow.services.sender.service import Sender


class Holdings(NamedTuple):
    """What an account has on the chain, each in its smallest unit: the settlement asset has 6 decimals, tokens 18."""

    settlement: int
    token: int


class Wallet(NamedTuple):
    """An account on the chain. `sender` sends with its key."""

    account: bytes
    contracts: ContractsView
    chain: Chain
    sender: Sender

    async def holdings(self) -> Holdings:
        """What it has now."""
        asked = call_data("balanceOf(address)", self.account)
        found = [
            answer_of("(uint256)", await self.chain.call(address(asset), asked))[0]
            for asset in (self.contracts.settlement, self.contracts.token)
        ]
        return Holdings(*found)

    async def deposit(self, id_: str, owner: bytes, amount: int) -> Done:
        """Deposit units of the settlement asset for paid credits of `owner`; the same id counts once.

        Raises:
            InsufficientFunds: the account has less.
        """
        settlement, distributor = address(self.contracts.settlement), address(self.contracts.distributor)
        allowed = call_data("approve(address,uint256)", distributor, amount)
        if not self.sender.knows(f"deposit/{id_}") and (await self.holdings()).settlement < amount:
            raise InsufficientFunds("wallet.funds", "This account has less of the settlement asset.")
        await self.sender.send(f"approve/{id_}", settlement, allowed)
        return await self.sender.send(
            f"deposit/{id_}", distributor, call_data("deposit(address,uint256)", owner, amount)
        )

    async def burn(self, id_: str, owner: bytes, amount: int) -> Done:
        """Burn units of the token for credits of `owner`; the same id counts once.

        Raises:
            InsufficientFunds: the account has fewer.
        """
        if not self.sender.knows(f"burn/{id_}") and (await self.holdings()).token < amount:
            raise InsufficientFunds("wallet.funds", "This account has fewer tokens.")
        call = call_data("burnForCredits(uint256,address)", amount, owner)
        return await self.sender.send(f"burn/{id_}", address(self.contracts.token), call)


@asynccontextmanager
async def open_wallet(key: Path, network: NetworkView, tls: ssl.SSLContext | None) -> AsyncIterator[Wallet]:
    """Open it; what an earlier run has begun goes on.

    Raises:
        NotFound: the network has no chain, or there is no key.
        NotAllowed: it names a chain that is not its own. The account may have more to lose there.
        Conflict: another process uses it just now.
    """
    if network.contracts is None:
        raise NotFound("wallet.no_chain", f"{network.net} has no chain.", "Those of the preset public have one.")
    own = chain_id_of(network.net)
    if network.chain_id != own:
        raise NotAllowed("wallet.other_chain", f"The chain of {network.net} is {own}; it says {network.chain_id}.")
    signer = FileSigner(key)
    folder = key.parent / "wallet"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{network.chain_id}-{signer.address.hex()}"
    async with connect_chain(network.chain_url, tls) as chain:
        with data_lock(folder, name), closing(BlockLog(folder / f"{name}.log")) as log:
            sender = Sender(
                chain=chain, chain_id=own, signer=signer, log=log, clock=SystemClock(), rules=EMBEDDED, poll_s=POLL_S
            )
            async with sender.running():
                yield Wallet(signer.address, network.contracts, chain, sender)
