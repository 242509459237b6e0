"""An EVM chain as its nodes show it: what they say may be late, contradictory, or taken back until it lies deep enough.

Hashes have 32 bytes, addresses 20; fees are in the coin's smallest unit per gas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.domain.errors import Conflict


class Fees(NamedTuple):
    """What the next block asks: the base fee (EIP-1559) and a usual tip on it."""

    base: int
    tip: int


class Receipt(NamedTuple):
    """What a mined transaction did. `contract` is the address of what it made, or empty."""

    transaction: bytes
    block: int
    block_hash: bytes
    succeeded: bool
    contract: bytes


class Event(NamedTuple):
    """A contract's log; `transaction` and `place` tell it from all others."""

    contract: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    transaction: bytes
    place: int


class Seen(NamedTuple):
    """One look at a chain: its newest block, how many transactions of an account are mined for good, and receipts."""

    head: int
    nonce_mined: int
    nonce_final: int
    receipts: tuple[Receipt | None, ...]


class ContractRefused(Conflict):
    """A contract reverts a call; `data` is what it says, as the ABI encodes it."""

    def __init__(self, data: bytes, message: str) -> None:
        super().__init__("chain.reverted", f"The contract refuses: {message}.")
        self.data = data


class Chain(Protocol):
    """Everything raises Unavailable when no node answers."""

    async def chain_id(self) -> int:
        """Its number (EIP-155)."""
        ...

    async def look(self, account: bytes, hashes: Sequence[bytes], depth: int) -> Seen:
        """Look at an account's transactions, all at one time; what is `depth` blocks deep counts as final."""
        ...

    async def head(self) -> int:
        """Number of the newest block."""
        ...

    async def fees(self) -> Fees:
        """What a transaction has to offer now."""
        ...

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """Gas that a transaction needs now; `to` is empty where it makes a contract.

        Raises:
            ContractRefused: it would fail.
        """
        ...

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """Ask a contract, as it is now or as it was after a block; nodes forget what is some hundred blocks old.

        Raises:
            ContractRefused: it refuses.
        """
        ...

    async def submit(self, raw: bytes) -> None:
        """Hand in a signed transaction. Handing it in again changes nothing.

        Raises:
            Unavailable: nobody knows whether it was taken.
            Conflict: it was not taken: its nonce is used, another one has it and offers more, or it offers too little.
            InvalidInput: it never will be, as it is.
        """
        ...

    async def events(self, contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        """Logs of contracts from block `first` to `last` with one of these first topics, the oldest first.

        Raises:
            Unavailable: too many for one answer, too, in words that nodes do not share; ask for fewer blocks.
        """
        ...
