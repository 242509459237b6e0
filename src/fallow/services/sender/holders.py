"""Who holds a token, by its transfers: the chain itself has no list of them."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from typing import Final

from fallow.domain.transactions import topic
from fallow.ports.chain import Chain
from fallow.services.sender.governance import BLOCKS_MAX

TRANSFER: Final = topic("Transfer(address,address,uint256)")
NOBODY: Final = bytes(20)
"""Where tokens are minted from, and burned to."""


class Holders:
    """Balances of one token since its first block, read on from where they were read to.

    What lies `depth` blocks deep is final: at 1 the latest block is.
    """

    def __init__(self, chain: Chain, token: bytes, first_block: int, depth: int) -> None:
        self._chain = chain
        self._token = token
        self._next = first_block
        self._depth = depth
        self._balances: Counter[bytes] = Counter()

    @property
    def total(self) -> int:
        """How many accounts hold some."""
        return len(self._balances)

    def largest(self, count: int) -> list[tuple[bytes, int]]:
        """Those who hold most, with what they hold."""
        return nlargest(count, self._balances.items(), key=lambda held: (held[1], held[0]))

    async def read(self) -> None:
        """Read what is final by now.

        Raises:
            Unavailable: the chain does not answer; what was read is kept.
        """
        final = await self._chain.head() - self._depth + 1
        while self._next <= final:
            last = min(final, self._next + BLOCKS_MAX - 1)
            for event in await self._chain.events([self._token], [TRANSFER], self._next, last):
                amount = int.from_bytes(event.data)
                self._move(event.topics[1][-20:], -amount)
                self._move(event.topics[2][-20:], amount)
            self._next = last + 1

    def _move(self, account: bytes, amount: int) -> None:
        if account == NOBODY:
            return
        self._balances[account] += amount
        if not self._balances[account]:
            del self._balances[account]
