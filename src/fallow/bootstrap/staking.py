"""A holder's stake: with himself as an operator, or delegated to another one."""

from __future__ import annotations

from typing import NamedTuple

from fallow.bootstrap.wallet import FUNDS_HINT, Wallet
from fallow.domain.errors import Conflict, InsufficientFunds
from fallow.domain.identity import address
from fallow.domain.sending import Done
from fallow.domain.staking import refusal, shares_of, tokens_of
from fallow.domain.transactions import call_data
from fallow.ports.chain import ContractRefused
from fallow.services.sender.vault import Pool, Vault

STAKES_HINT = "See how much: fallow wallet stake show"


class Unbonding(NamedTuple):
    """Units that are being taken out, and when they can be had (seconds since 1970)."""

    units: int
    released_at_s: int


class Stake(NamedTuple):
    """What a holder has with an operator: units at stake, what he takes out of it, and the operator's whole pool."""

    units: int
    unbondings: list[Unbonding]
    pool: Pool


class Staking:
    """Stakes with one operator, by a wallet. The same id is the same deed.

    Everything raises ContractRefused's parent Conflict (`stake.refused`) where the vault refuses, in words.
    """

    def __init__(self, wallet: Wallet, operator: bytes) -> None:
        self._wallet = wallet
        self._operator = operator
        self._vault = Vault(wallet.chain, address(wallet.contracts.vault))

    async def look(self) -> Stake:
        """What there is now."""
        pool = await self._vault.pool(self._operator)
        leaving = await self._vault.unbondings(self._operator, self._wallet.account)
        return Stake(
            await self._vault.stake(self._operator, self._wallet.account),
            [Unbonding(tokens_of(shares, pool.leaving, pool.leaving_shares), at) for shares, at in leaving],
            pool,
        )

    async def add(self, id_: str, units: int) -> Done:
        """Stake units of the token.

        Raises:
            InsufficientFunds: the account has fewer.
        """
        sender = self._wallet.sender
        if not sender.knows(f"stake/approve/{id_}") and (await self._wallet.holdings()).token < units:
            raise InsufficientFunds("wallet.funds", "This account has fewer tokens.", FUNDS_HINT)
        allowed = call_data("approve(address,uint256)", self._vault.contract, units)
        await sender.send(f"stake/approve/{id_}", address(self._wallet.contracts.token), allowed)
        return await self._send(f"stake/add/{id_}", call_data("stake(address,uint256)", self._operator, units))

    async def unbond(self, id_: str, units: int | None) -> Done:
        """Begin to take units out, or all. What is under way under this id goes on as it began.

        Raises:
            InsufficientFunds: fewer are at stake.
        """
        shares = await self._vault.shares(self._operator, self._wallet.account)
        if units is not None:
            pool = await self._vault.pool(self._operator)
            known = self._wallet.sender.knows(f"stake/unbond/{id_}/0")
            if not known and units > tokens_of(shares, pool.staked, pool.shares):
                raise InsufficientFunds("stake.funds", "This account has less at stake there.", STAKES_HINT)
            shares = min(shares, shares_of(units, pool.staked, pool.shares))
        return await self._send(f"stake/unbond/{id_}", call_data("unbond(address,uint256)", self._operator, shares))

    async def release(self, id_: str) -> Done:
        """Take out what has been unbonding for long enough."""
        return await self._send(f"stake/release/{id_}", call_data("release(address)", self._operator))

    async def _send(self, id_: str, call: bytes) -> Done:
        try:
            return await self._wallet.sender.send_anew(id_, self._vault.contract, call)
        except ContractRefused as error:
            raise Conflict("stake.refused", f"The vault refuses: {refusal(error.data)}.") from error
