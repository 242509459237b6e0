"""Transactions that wait for their block: in the order of their senders' nonces, bounded, in memory.

What waits here is lost with the process, as on any chain: senders send again until they see it in a block.
"""

from __future__ import annotations

from collections.abc import Callable

from fallow.domain.errors import Conflict, InvalidInput, TooMuch
from fallow.ports.evm import Sent

WAITING_MAX = 1024
SENDER_MAX = 64
"""Nonces of one sender that may wait, counted from the next one."""


class Pool:
    """Holds at most one transaction for each nonce of a sender: with no fee none can outbid another."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, int], Sent] = {}

    def add(self, sent: Sent, nonce_of: Callable[[bytes], int]) -> None:
        """Keep a transaction; the same one again changes nothing. When full, what waits behind a gap makes room.

        Raises:
            InvalidInput: its nonce is used up, or too far ahead.
            Conflict: another one with this nonce waits already.
            TooMuch: too many wait.
        """
        key, next_nonce = (sent.sender, sent.nonce), nonce_of(sent.sender)
        if sent.nonce < next_nonce:
            raise InvalidInput("chain.nonce", f"nonce too low: next nonce {next_nonce}, tx nonce {sent.nonce}")
        if sent.nonce >= next_nonce + SENDER_MAX:
            raise InvalidInput("chain.nonce", f"nonce too high: next nonce {next_nonce}, tx nonce {sent.nonce}")
        if key in self._waiting:
            if self._waiting[key].hash != sent.hash:
                raise Conflict("chain.replacement", "replacement transaction underpriced: this chain has no fees")
            return
        if len(self._waiting) >= WAITING_MAX:
            self._drop_stuck(nonce_of)
        if len(self._waiting) >= WAITING_MAX:
            raise TooMuch("chain.pool_full", "Too many transactions wait.", "Try again in some seconds.")
        self._waiting[key] = sent

    def find(self, hash_: bytes) -> Sent | None:
        """Find what waits by its hash."""
        return next((sent for sent in self._waiting.values() if sent.hash == hash_), None)

    def pending_nonce(self, sender: bytes, next_nonce: int) -> int:
        """The nonce after those that are mined and those that wait without a gap."""
        while (sender, next_nonce) in self._waiting:
            next_nonce += 1
        return next_nonce

    def take(self, nonce_of: Callable[[bytes], int], gas_max: int) -> list[Sent]:
        """Remove what can be mined now: without a gap, first come first, up to `gas_max` altogether."""
        taken: list[Sent] = []
        nonces: dict[bytes, int] = {}
        for sender, _ in list(self._waiting):
            nonce = nonces.setdefault(sender, nonce_of(sender))
            sent = self._waiting.get((sender, nonce))
            if sent is None or sent.gas > gas_max:
                continue
            gas_max -= sent.gas
            taken.append(self._waiting.pop((sender, nonce)))
            nonces[sender] = nonce + 1
        return taken

    def _drop_stuck(self, nonce_of: Callable[[bytes], int]) -> None:
        """Forget what no block can take now, or it would keep all others out for ever."""
        ends = {sender: self.pending_nonce(sender, nonce_of(sender)) for sender, _ in self._waiting}
        for sender, nonce in list(self._waiting):
            if nonce >= ends[sender]:
                del self._waiting[sender, nonce]

    def __len__(self) -> int:
        return len(self._waiting)
