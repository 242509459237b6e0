"""Contracts are there when each step of making them has succeeded, and not before."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from fallow.domain.errors import Conflict
from fallow.domain.transactions import selector
from tests.instant_chain import InstantChain, SwiftClock

OPERATOR = PrivateKey(b"o" * 32)
TOO_LITTLE = 22_000


class ChangedChain(InstantChain):
    """One call needs more gas when it is mined than its estimate said."""

    def __init__(self, call: str) -> None:
        super().__init__(SwiftClock())
        self._call = selector(call)

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        return TOO_LITTLE if data.startswith(self._call) else await super().estimate(sender, to, data)


@pytest.mark.parametrize("call", ["setMinter(address)", "transferOwnership(address)"])
async def test_a_token_that_nobody_can_mint_or_that_the_operator_keeps_is_not_taken(call: str) -> None:
    with pytest.raises(Conflict, match=r"chain\.deploy"):
        await ChangedChain(call).with_contracts(OPERATOR, [bytes([1]) * 20], 60)
