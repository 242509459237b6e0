"""A network's epochs and its real contracts in one process: closed, signed, sent, claimed, with crashes between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from coincurve import PrivateKey

from fallow.adapters.archive import StoreArchive, memory_archive
from fallow.domain.chain_facts import DEPOSIT_MIN
from fallow.domain.epochs.distributor import Claim
from fallow.domain.epochs.leaves import tree_over
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.quorum import Domain
from fallow.domain.rewards.tree import Leaf, proof_of
from fallow.domain.transactions import answer_of, call_data
from fallow.domain.wallets import address_of
from fallow.ports.votes import published
from fallow.services.sender.claiming import Claiming, Dues
from fallow.services.sender.deployment import Addresses
from fallow.services.sender.distributor import Distributor
from fallow.services.sender.publishing import Publisher
from fallow.services.sender.service import Sender
from tests.closed_epochs import ADDRESSES, VALIDATORS, ClosedEpoch
from tests.epoch_files import NETWORK_KEY
from tests.instant_chain import CHAIN_ID, InstantChain, KeptLog, KeySigner, SwiftClock

OPERATOR = PrivateKey(b"\x0f" * 32)
DELAY_S = 60


class SettledWorld:
    """Made by `settled_world`."""

    def __init__(self, chain: InstantChain, made: Addresses, validators: Sequence[bytes]) -> None:
        self.chain, self.made, self.clock = chain, made, chain.clock
        self.validators = list(validators)
        self.archive: StoreArchive = memory_archive()
        self.distributor = Distributor(chain, Domain(CHAIN_ID, made.distributor))
        self.log = KeptLog()
        self.closed: dict[int, list[Leaf]] = {}

    def publisher(self) -> Publisher:
        """A process that has just started."""
        return Publisher(
            network_key=NETWORK_KEY,
            archive=self.archive,
            distributor=self.distributor,
            sender=partial(self.chain.sender, OPERATOR, self.log),
            signer=KeySigner(OPERATOR),
            clock=self.clock,
        )

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Sender]:
        """The operator's key, in another process."""
        async with self.chain.sender(OPERATOR, self.log) as sender:
            yield sender

    async def fund(self, units: int) -> None:
        """Have paid credits be backed by so much more, and by no less than a deposit can be."""
        units = max(units, DEPOSIT_MIN)
        to, distributor = self.made.settlement, self.made.distributor
        id_ = f"fund/{len(self.log.kept)}"
        async with self.operator() as sender:
            await sender.send(f"{id_}/give", to, call_data("give(address,uint256)", address_of(OPERATOR), units))
            await sender.send(f"{id_}/approve", to, call_data("approve(address,uint256)", distributor, units))
            await sender.send(
                f"{id_}/deposit", distributor, call_data("deposit(address,uint256)", bytes(19) + b"\x01", units)
            )

    def close(
        self, epoch: int, owed: Mapping[bytes, int], keys: Sequence[PrivateKey] = VALIDATORS[:3], revision: int = 0
    ) -> ClosedEpoch:
        """Close an epoch by which accounts are owed so much since the beginning, and have some sign it."""
        leaves = [Leaf(account, self.made.settlement, units) for account, units in sorted(owed.items())]
        closed = ClosedEpoch(
            epoch=epoch,
            leaves=leaves,
            domain=self.distributor.domain,
            validators=self.validators,
            revision=revision,
            settlement=self.made.settlement,
            settlement_total=sum(owed.values()).to_bytes(32),
            token=self.made.token,
        )
        closed.vote(keys)
        closed.files["tree"] = tree_over(leaves)
        self.put(closed)
        self.closed[epoch] = leaves
        return closed

    async def prove(self, epoch: int, account: bytes) -> list[Claim]:
        """As the network proves what an account is owed."""
        tree = tree_over(self.closed[epoch])
        return [Claim(epoch, leaf, proof_of(tree, leaf)) for leaf in self.closed[epoch] if leaf.account == account]

    def claiming(self) -> Claiming:
        """What somebody has who claims."""
        return Claiming(self.distributor, self.prove, self.clock)

    async def dues(self, account: bytes) -> Dues:
        """What an account is owed now."""
        assets = [self.made.settlement, self.made.token]
        return await self.claiming().dues(account, assets, max(self.closed, default=None))

    async def held(self, account: bytes) -> int:
        """What an account has of the settlement asset."""
        asked = call_data("balanceOf(address)", account)
        (units,) = answer_of("(uint256)", await self.chain.call(self.made.settlement, asked))
        return int(units)

    def put(self, closed: ClosedEpoch) -> None:
        """Put its files into the archive."""
        for name, data in closed.files.items():
            self.archive.put(path_of(closed.epoch, name), data)

    def said(self, epoch: int) -> str:
        """Why a root is not on the chain; "" when it is."""
        view = published(self.archive, epoch)
        assert view is not None
        return view.why


async def settled_world(validators: Sequence[bytes] = ADDRESSES) -> SettledWorld:
    """Make the contracts; roots are active after `DELAY_S`."""
    chain = InstantChain(SwiftClock())
    return SettledWorld(chain, await chain.with_contracts(OPERATOR, validators, DELAY_S), validators)
