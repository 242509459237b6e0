"""Shares of an operator's pool as the vault counts them, and what its refusals mean in words. Pure."""

from __future__ import annotations

from typing import Final

from fallow.domain.transactions import selector

SHARES_OFFSET: Final = 10**6
"""Shares that nobody holds: `StakeVault.SHARES_OFFSET`."""

_WORDS: Final = {
    selector("StakeTooSmall(uint256)"): "a stake is a hundredth of a token at least",
    selector("TooFewShares(uint256,uint256)"): "this account has nothing at stake there, or less",
    selector("TooManyUnbondings()"): "32 unbondings wait already: release those whose time is over",
    selector("NothingReleased()"): "nothing has been unbonding for long enough",
    selector("NotGuardian(address)"): "the guardian is somebody else",
    selector("SlashUnknown(uint256)"): "there is no such slash, or it was taken or stopped",
    selector("SlashPending(address)"): "a slash of this operator is announced; until its end nothing enters or leaves",
}


def tokens_of(shares: int, tokens: int, all_shares: int) -> int:
    """What shares of a pool are worth, rounded down."""
    return shares * (tokens + 1) // (all_shares + SHARES_OFFSET)


def shares_of(units: int, tokens: int, all_shares: int) -> int:
    """The fewest shares that are worth so many units."""
    return -(-units * (all_shares + SHARES_OFFSET) // (tokens + 1))


def refusal(said: bytes) -> str:
    """What the vault means by what it says."""
    return _WORDS.get(said[:4], f"0x{said.hex()}")
