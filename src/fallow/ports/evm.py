"""A machine that executes transactions as Ethereum does, and keeps the state that they lead to.

Hashes have 32 bytes, addresses 20, amounts and gas are integers. State follows from the blocks alone: the same ones,
mined again, give the same hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Sent(NamedTuple):
    """A signed transaction. `to` is empty where it makes a contract; fees are in the coin's smallest unit per gas."""

    raw: bytes
    hash: bytes
    kind: int
    chain_id: int
    sender: bytes
    nonce: int
    to: bytes
    value: int
    gas: int
    fee_max: int
    tip_max: int
    data: bytes
    signature: tuple[int, int, int]


class Log(NamedTuple):
    """What a contract announced."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class Outcome(NamedTuple):
    """What a transaction did. `contract` is the address of what it made, or empty."""

    sent: Sent
    succeeded: bool
    gas_used: int
    contract: bytes
    logs: tuple[Log, ...]


class Block(NamedTuple):
    """A mined block: its header's fields and what its transactions did, in their order."""

    number: int
    hash: bytes
    parent: bytes
    timestamp_s: int
    gas_used: int
    gas_limit: int
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    bloom: bytes
    outcomes: tuple[Outcome, ...]


class Message(NamedTuple):
    """A call that leaves no trace. `to` is empty where it would make a contract."""

    sender: bytes
    to: bytes
    data: bytes
    gas: int
    value: int = 0


class Reverted(Exception):
    """The code that was called refused; `data` is what it said, as the ABI encodes it."""

    def __init__(self, data: bytes, reason: str) -> None:
        super().__init__(reason)
        self.data = data
        self.reason = reason


class Machine(Protocol):
    """Executes blocks, one after the other."""

    @property
    def head(self) -> Block:
        """The newest block."""
        ...

    def decode(self, raw: bytes) -> Sent:
        """Read a signed transaction.

        Raises:
            InvalidInput: it is malformed, of another chain, or can never be mined on this one.
        """
        ...

    def mine(self, transactions: Sequence[Sent], timestamp_s: int) -> Block:
        """Execute transactions, whose nonces follow on the state, as the next block."""
        ...

    def call(self, message: Message, number: int, timestamp_s: int = 0) -> bytes:
        """Call on the state after block `number`, at its time, or at `timestamp_s` where that is later.

        Raises:
            Reverted: the call failed.
        """
        ...

    def estimate(self, message: Message, timestamp_s: int = 0) -> int:
        """Gas that a transaction like this one needs in the next block, at `timestamp_s`.

        Raises:
            Reverted: it would fail with any.
        """
        ...

    def nonce(self, account: bytes) -> int:
        """Transactions that an account has sent, in the newest state."""
        ...

    def code(self, account: bytes) -> bytes:
        """The code at an address, in the newest state."""
        ...

    def storage(self, account: bytes, slot: int) -> int:
        """A slot of a contract's storage, in the newest state."""
        ...
