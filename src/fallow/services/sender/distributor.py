"""What the distributor contract holds, as a node shows it."""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.epochs.quorum import Domain
from fallow.domain.identity import Address, address
from fallow.domain.transactions import answer_of, call_data
from fallow.ports.chain import Chain


class Submitted(NamedTuple):
    """A root that the contract has. It pays from `activates_at` (seconds since 1970) on; `gap` epochs lie behind it."""

    epoch: int
    root: bytes
    activates_at: int
    gap: int
    settlement_total: int
    token_total: int


class Distributor:
    """One contract. Everything raises Unavailable when no node answers."""

    def __init__(self, chain: Chain, domain: Domain) -> None:
        self._chain = chain
        self.domain = domain

    async def last_epoch(self) -> int:
        """The newest epoch that has a root; 0 where none has."""
        return await self._number("lastEpoch()")

    async def revision(self) -> int:
        """How often roots were withdrawn."""
        return await self._number("revision()")

    async def validators(self) -> list[Address]:
        """Whose signatures count, in ascending order."""
        (contract,) = answer_of("(address)", await self._chain.call(self.domain.contract, call_data("validators()")))
        (listed,) = answer_of("(address[])", await self._chain.call(address(contract), call_data("list()")))
        return sorted(address(each) for each in listed)

    async def root(self, epoch: int) -> Submitted | None:
        """The root of an epoch."""
        asked = call_data("roots(uint64)", epoch)
        found = answer_of("(bytes32,uint40,uint24,uint96,uint96)", await self._chain.call(self.domain.contract, asked))
        root = Submitted(epoch, *found)
        return root if root.activates_at else None

    async def active(self, now_s: int) -> Submitted | None:
        """The newest root that pays at a time."""
        root = await self.root(await self.last_epoch())
        while root is not None and root.activates_at > now_s:
            root = await self.root(root.epoch - root.gap)
        return root

    async def claimed(self, account: bytes, asset: bytes) -> int:
        """What an account was paid of an asset since the beginning."""
        return await self._number("claimed(address,address)", account, asset)

    async def nonce(self, account: bytes) -> int:
        """Number of the next redirection that an account signs."""
        return await self._number("nonces(address)", account)

    async def _number(self, signature: str, *arguments: object) -> int:
        asked = call_data(signature, *arguments)
        (found,) = answer_of("(uint256)", await self._chain.call(self.domain.contract, asked))
        return int(found)
