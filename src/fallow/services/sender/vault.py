"""What the stake vault holds, as a node shows it."""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.transactions import answer_of, call_data
from fallow.ports.chain import Chain, ContractRefused


class Pool(NamedTuple):
    """An operator's: tokens at stake with their shares, tokens that are leaving, and slashes that are not settled."""

    staked: int
    shares: int
    leaving: int
    leaving_shares: int
    slashes: int


class Slash(NamedTuple):
    """An announced one: millionths of a pool, from a time on (seconds since 1970). Once settled, `operator` is zero."""

    operator: bytes
    share_ppm: int
    takes_effect_at_s: int
    reason: bytes
    evidence: bytes

    @property
    def settled(self) -> bool:
        """Whether it was taken or stopped."""
        return not any(self.operator)


class Vault:
    """One contract. Everything raises Unavailable when no node answers."""

    def __init__(self, chain: Chain, contract: bytes) -> None:
        self._chain = chain
        self.contract = contract

    async def pool(self, operator: bytes) -> Pool:
        """An operator's pool."""
        types = "(uint256,uint256,uint256,uint256,uint256)"
        return Pool(*answer_of(types, await self._ask("pools(address)", operator)))

    async def staked(self, operator: bytes) -> int:
        """Tokens that are at stake with an operator, everybody's."""
        return (await self.pool(operator)).staked

    async def slash(self, number: int) -> Slash | None:
        """A slash by its number; None where there were not so many."""
        try:
            said = await self._ask("slashOf(uint256)", number)
        except ContractRefused:
            return None
        operator, *rest = answer_of("(address,uint32,uint64,bytes32,bytes32)", said)
        return Slash(bytes.fromhex(operator[2:]), *rest)

    async def shares(self, operator: bytes, holder: bytes) -> int:
        """Shares of a pool that somebody has."""
        return int(answer_of("(uint256)", await self._ask("sharesOf(address,address)", operator, holder))[0])

    async def stake(self, operator: bytes, holder: bytes) -> int:
        """Tokens that somebody has at stake with an operator."""
        return int(answer_of("(uint256)", await self._ask("stakeOf(address,address)", operator, holder))[0])

    async def unbondings(self, operator: bytes, holder: bytes) -> list[tuple[int, int]]:
        """What somebody is taking out: shares of what is leaving, and from when on (seconds since 1970)."""
        (found,) = answer_of("((uint256,uint64)[])", await self._ask("unbondings(address,address)", operator, holder))
        return [(shares, at) for shares, at in found]

    async def _ask(self, signature: str, *arguments: object) -> bytes:
        return await self._chain.call(self.contract, call_data(signature, *arguments))
