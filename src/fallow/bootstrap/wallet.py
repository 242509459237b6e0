"""A holder's wallet on a network's chain: his key, what he has sent, and the contracts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.rpc import connect_chain
from fallow.adapters.signer import FileSigner
from fallow.bootstrap.contracts import POLL_S
from fallow.domain.chains import chain_id_of
from fallow.domain.epochs.quorum import Domain
from fallow.domain.errors import Conflict, InsufficientFunds, NotAllowed, NotFound
from fallow.domain.identity import address
from fallow.domain.sending import Done, Rules
from fallow.domain.transactions import answer_of, call_data
from fallow.domain.views.network import ContractsView, NetworkView
from fallow.ports.chain import Chain
from fallow.services.sender.claiming import Claiming, Prove
from fallow.services.sender.distributor import Distributor
from fallow.services.sender.service import Sender

FUNDS_HINT = "See what it has: fallow wallet balance"
EMBEDDED = Rules(depth=1)
"""The embedded chain takes no block back."""


class Outside(NamedTuple):
    """A chain of others that the holder signs for, and where he asks it; "" where the network says."""

    chain_id: int = 0
    rpc: str = ""


NO_OTHER = Outside()


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

    def claiming(self, prove: Prove) -> Claiming:
        """What is owed there; `prove` asks the network for proofs."""
        domain = Domain(self.contracts.chain_id, address(self.contracts.distributor))
        return Claiming(Distributor(self.chain, domain), prove, SystemClock())

    @property
    def assets(self) -> tuple[bytes, bytes]:
        """The settlement asset and the token."""
        return address(self.contracts.settlement), address(self.contracts.token)

    async def holdings(self) -> Holdings:
        """What it has now."""
        asked = call_data("balanceOf(address)", self.account)
        found = [answer_of("(uint256)", await self.chain.call(asset, asked))[0] for asset in self.assets]
        return Holdings(*found)

    async def deposit(self, id_: str, owner: bytes, amount: int) -> Done:
        """Deposit units of the settlement asset for paid credits of `owner`; the same id counts once.

        Raises:
            InsufficientFunds: the account has less.
        """
        settlement, distributor = address(self.contracts.settlement), address(self.contracts.distributor)
        allowed = call_data("approve(address,uint256)", distributor, amount)
        if not self.sender.knows(f"deposit/{id_}") and (await self.holdings()).settlement < amount:
            raise InsufficientFunds("wallet.funds", "This account has less of the settlement asset.", FUNDS_HINT)
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
            raise InsufficientFunds("wallet.funds", "This account has fewer tokens.", FUNDS_HINT)
        call = call_data("burnForCredits(uint256,address)", amount, owner)
        return await self.sender.send(f"burn/{id_}", address(self.contracts.token), call)


@asynccontextmanager
async def open_chain(
    network: NetworkView, tls: ssl.SSLContext | None, outside: Outside = NO_OTHER
) -> AsyncIterator[tuple[ContractsView, Chain]]:
    """Ask a network's chain: its own where it says so, one of others where the holder says so.

    Raises:
        NotFound: the network has no chain, or nobody says where it is asked.
        NotAllowed: it names a chain that is neither its own nor `outside`. The account may have more to lose there.
        Conflict: the chain that is asked is another one.
    """
    if network.contracts is None:
        raise NotFound("wallet.no_chain", f"{network.net} has no chain.", "Those of the preset public have one.")
    embedded = is_embedded(network)
    if not embedded and network.chain_id != (outside.chain_id or None):
        raise NotAllowed(
            "wallet.other_chain",
            f"{network.net} settles on chain {network.chain_id}, which is not one of its own.",
            f"If you want to sign for that chain there: fallow wallet use {network.chain_id}",
        )
    rpc = network.chain_url if embedded else outside.rpc or network.chain_url
    if not rpc:
        raise NotFound(
            "wallet.no_rpc",
            f"{network.net} does not say where chain {network.chain_id} is asked.",
            f"fallow wallet use {network.chain_id} --rpc URL",
        )
    async with connect_chain(rpc, tls if embedded else None) as chain:
        if not embedded and (number := await chain.chain_id()) != network.chain_id:
            raise Conflict("wallet.rpc", f"The chain at that RPC is {number}, not {network.chain_id}.")
        yield network.contracts, chain


def is_embedded(network: NetworkView) -> bool:
    """Whether the network runs its chain itself."""
    return network.chain_id == chain_id_of(network.net)


@asynccontextmanager
async def open_wallet(
    key: Path, network: NetworkView, tls: ssl.SSLContext | None, outside: Outside = NO_OTHER
) -> AsyncIterator[Wallet]:
    """Open it; what an earlier run has begun goes on.

    Raises:
        NotFound: there is no key.
        Conflict: another process uses it just now.
        FallowError: what `open_chain` raises.
    """
    async with open_chain(network, tls, outside) as (contracts, chain):
        signer = FileSigner(key)
        folder = key.parent / "wallet"
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{network.chain_id}-{signer.address.hex()}"
        with data_lock(folder, name), closing(BlockLog(folder / f"{name}.log")) as log:
            sender = Sender(
                chain=chain,
                chain_id=network.chain_id,
                signer=signer,
                log=log,
                clock=SystemClock(),
                rules=EMBEDDED if is_embedded(network) else Rules(),
                poll_s=POLL_S,
            )
            async with sender.running():
                where = msgspec.structs.replace(contracts, chain_id=network.chain_id)
                yield Wallet(signer.address, where, chain, sender)
