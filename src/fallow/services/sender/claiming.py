"""What accounts are owed on the chain, and claiming it: what the contract says counts, and nobody else's word.

Sums are cumulative, so the newest root that is active has all that can be claimed. Proofs come from the network, and
are held against the root that the contract has before anything is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from fallow.domain.epochs.distributor import (
    Claim,
    Redirection,
    claim_call,
    claim_to_call,
    claims_hash,
    refusal,
    relayed_call,
)
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.identity import address_text
from fallow.domain.rewards.tree import proves
from fallow.domain.sending import Done
from fallow.domain.wallets import keccak
from fallow.ports.chain import ContractRefused
from fallow.ports.clock import Clock
from fallow.ports.signer import Signer
from fallow.services.sender.distributor import Distributor, Submitted
from fallow.services.sender.service import Sender

Prove = Callable[[int, bytes], Awaitable[Sequence[Claim]]]
"""What an account is owed by the root of an epoch, each with its proof, as somebody says."""

SignKept = Callable[[bytes, int, int], Awaitable[tuple[bytes, bytes]]]
"""Asks the network to sign a redirection: the claims' hash, nonce and deadline give a recipient and a signature."""

SIGNED_S = 3600
"""How long what the network signs holds: a transaction may wait for a while."""

CLAIMS_MAX = 100
"""In one transaction: some 95,000 gas each."""


class Due(NamedTuple):
    """What an account was paid of an asset, and what its leaf in the newest active root has beyond that.

    `pending` is what closed epochs owe beyond that root. Amounts are in the asset's smallest unit.
    """

    asset: bytes
    claimed: int
    claimable: int
    pending: int


class Dues(NamedTuple):
    """What one account is owed. `claims` are those that pay something now; `active` is the root that they are on."""

    account: bytes
    active: Submitted | None
    each: Sequence[Due]
    claims: Sequence[Claim]


class Claiming:
    """Claims at one contract."""

    def __init__(self, distributor: Distributor, prove: Prove, clock: Clock) -> None:
        self._distributor = distributor
        self._prove = prove
        self._clock = clock

    async def dues(self, account: bytes, assets: Sequence[bytes], closed: int | None) -> Dues:
        """Look up what an account is owed of each asset; `closed` is the latest epoch that is closed.

        Raises:
            InvalidInput: a proof does not lead to the root that the contract has.
            Unavailable, NotFound: the chain is away; the network has no proofs.
        """
        active = await self._distributor.active(self._clock.now_ms() // 1000)
        payable = await self._proven(active, account) if active else ()
        newest = await self._prove(closed, account) if closed is not None else ()
        now, later = ({one.leaf.asset: one.leaf.cumulative for one in claims} for claims in (payable, newest))
        paid = {asset: await self._distributor.claimed(account, asset) for asset in assets}
        each = [
            Due(
                asset,
                paid[asset],
                max(0, now.get(asset, 0) - paid[asset]),
                max(0, later.get(asset, 0) - max(now.get(asset, 0), paid[asset])),
            )
            for asset in assets
        ]
        claims = [one for one in payable if one.leaf.cumulative > paid.get(one.leaf.asset, one.leaf.cumulative)]
        return Dues(account, active, each, claims)

    async def claim(self, sender: Sender, claims: Sequence[Claim]) -> Done:
        """Have claims of any accounts paid to these accounts. The same claims again are the same transaction.

        Raises:
            Conflict: the contract refuses them, and why.
            Unavailable: the chain is away. What was sent is sent on at the next start.
        """
        return await self._send(sender, claims, b"", claim_call(claims))

    async def claim_to(self, sender: Sender, claims: Sequence[Claim], recipient: bytes) -> Done:
        """Have the sender's own claims paid to somebody else. Raises as `claim`."""
        return await self._send(sender, claims, recipient, claim_to_call(claims, recipient))

    async def redirect(
        self, signer: Signer, claims: Sequence[Claim], recipient: bytes, deadline_s: int
    ) -> tuple[Redirection, bytes]:
        """Sign claims of one's own away to a recipient, who may be oneself: whoever has gas can send them then."""
        nonce = await self._distributor.nonce(signer.address)
        made = Redirection(signer.address, recipient, claims, nonce, deadline_s)
        return made, await signer.sign(made.digest(self._distributor.domain))

    async def claim_kept(self, sender: Sender, account: bytes, claims: Sequence[Claim], sign: SignKept) -> Done:
        """Have claims of an account whose key the network keeps paid to whom its earnings go. Raises as `claim`."""
        nonce, deadline_s = await self._distributor.nonce(account), self._clock.now_ms() // 1000 + SIGNED_S
        recipient, signature = await sign(claims_hash(claims), nonce, deadline_s)
        return await self.relay(sender, Redirection(account, recipient, claims, nonce, deadline_s), signature)

    async def relay(self, sender: Sender, redirection: Redirection, signature: bytes) -> Done:
        """Send claims that their account has signed. Raises as `claim`."""
        call = relayed_call(redirection, signature)
        return await self._send(sender, redirection.claims, redirection.recipient, call)

    async def _send(self, sender: Sender, claims: Sequence[Claim], recipient: bytes, call: bytes) -> Done:
        contract = self._distributor.domain.contract
        try:
            return await sender.send_anew(_id(contract, claims, recipient), contract, call)
        except ContractRefused as error:
            raise Conflict("claim.refused", f"The contract refuses it: {refusal(error.data)}.") from error

    async def _proven(self, root: Submitted, account: bytes) -> Sequence[Claim]:
        claims = await self._prove(root.epoch, account)
        for one in claims:
            if one.leaf.account != account or not proves(root.root, one.leaf, one.proof):
                raise InvalidInput(
                    "claim.proof",
                    f"What the network says that {address_text(account)} is owed is not in the root of epoch "
                    f"{root.epoch} that its contract has.",
                    f"Look into it: fallow epoch audit {root.epoch}",
                )
        return claims


def _id(contract: bytes, claims: Sequence[Claim], recipient: bytes) -> str:
    """One for what is claimed and where it goes."""
    what = claim_call(claims)
    return f"claim/{contract.hex()}/{recipient.hex()}/{keccak(what).hex()}"
