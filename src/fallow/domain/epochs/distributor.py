"""Calls of the distributor contract, as the ABI encodes them, and what its refusals mean in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from eth_abi.abi import decode, encode

from fallow.domain.epochs.quorum import Decision, Domain
from fallow.domain.rewards.tree import Leaf
from fallow.domain.transactions import call_data, selector
from fallow.domain.wallets import keccak

_CLAIM: Final = "(uint64,address,address,uint256,bytes32[])"
_REDIRECTION: Final = keccak(
    b"Redirection(address account,address recipient,bytes32 claims,uint256 nonce,uint256 deadline)"
)


class Claim(NamedTuple):
    """What an account is owed by the root of an epoch, with the way from its leaf to the root."""

    epoch: int
    leaf: Leaf
    proof: Sequence[bytes]

    @property
    def words(self) -> tuple[object, ...]:
        """The contract's struct `Claim`."""
        return (self.epoch, *self.leaf, list(self.proof))


class Redirection(NamedTuple):
    """Claims of an account, to be paid to a recipient that it names, by whoever has gas.

    It holds up to `deadline_s` (seconds since 1970), once: `nonce` is the account's next one at the contract.
    """

    account: bytes
    recipient: bytes
    claims: Sequence[Claim]
    nonce: int
    deadline_s: int

    def digest(self, domain: Domain) -> bytes:
        """What the account signs (EIP-712)."""
        claims = claims_hash(self.claims)
        return redirection_digest(domain, self.account, self.recipient, claims, self.nonce, self.deadline_s)


def claims_hash(claims: Sequence[Claim]) -> bytes:
    """What stands for claims in what their account signs."""
    return keccak(encode([f"{_CLAIM}[]"], [_words(claims)]))


def redirection_digest(
    domain: Domain, account: bytes, recipient: bytes, claims: bytes, nonce: int, deadline_s: int
) -> bytes:
    """What an account signs so that claims of its own, given by their hash, are paid to a recipient (EIP-712)."""
    numbers = nonce.to_bytes(32) + deadline_s.to_bytes(32)
    struct = _REDIRECTION + account.rjust(32, b"\0") + recipient.rjust(32, b"\0") + claims + numbers
    return keccak(b"\x19\x01" + domain.separator + keccak(struct))


def submit_call(decision: Decision) -> bytes:
    """Hand in a root that a quorum signed."""
    types = "(uint64,uint64,bytes32,uint96,uint96,bytes32)"
    return call_data(f"submit({types},bytes[])", tuple(decision.root), list(decision.signatures))


def claim_call(claims: Sequence[Claim]) -> bytes:
    """Have claims paid to their accounts, by whoever sends it."""
    return call_data(f"claim({_CLAIM}[])", _words(claims))


def claim_to_call(claims: Sequence[Claim], recipient: bytes) -> bytes:
    """Have the sender's own claims paid to somebody else."""
    return call_data(f"claimTo({_CLAIM}[],address)", _words(claims), recipient)


def relayed_call(redirection: Redirection, signature: bytes) -> bytes:
    """Have claims paid as their account has signed, by whoever sends it."""
    account, recipient, claims, _, deadline_s = redirection
    signed = f"claimTo({_CLAIM}[],address,address,uint256,bytes)"
    return call_data(signed, _words(claims), account, recipient, deadline_s, signature)


def _words(claims: Sequence[Claim]) -> list[tuple[object, ...]]:
    return [one.words for one in claims]


REFUSALS: Final = {
    "EpochNotNew(uint64,uint64)": "epoch {} has come too late: there is a root of epoch {}",
    "WrongRevision(uint64,uint64)": "it was signed for revision {}, and by withdrawn roots it is {} now",
    "TotalFell(uint96,uint96)": "its total of {} is below the {} of the root before",
    "NotFunded(uint96,uint256)": "it owes {} units of the settlement asset in all, and only {} were deposited",
    "EpochMintMaxExceeded(uint96,uint96)": "it would mint {} units of the token; one root may mint {}",
    "TooFewSignatures(uint256,uint256)": "only {} signatures are valid there; a quorum is {}",
    "NotAValidator(address)": "{} is no validator there",
    "SignersNotAscending(address)": "the signatures are out of order at {}",
    "RootUnknown(uint64)": "it has no root of epoch {}",
    "RootNotActive(uint64,uint40)": "claims on the root of epoch {} count from {} (Unix time) on",
    "ProofInvalid(address,address)": "the root does not hold what {} claims of {}",
    "AssetUnknown(address)": "it pays no {}",
    "TotalExceeded(address)": "claims on {} come to more than was signed",
    "NotTheAccount(address)": "a claim is of {}, which did not sign",
    "RecipientMissing()": "the recipient is missing",
    "RedirectionExpired(uint256)": "what the account signed held up to {} (Unix time)",
    "RedirectionInvalid(address)": "{} did not sign this, or signed it before for another claim",
}
"""Errors of `Distributor` and `Validators`, as they are declared."""


def refusal(data: bytes) -> str:
    """Say in words why the contract reverts, from what it says."""
    for declared, words in REFUSALS.items():
        if selector(declared) == data[:4]:
            types = declared[declared.index("(") + 1 : -1]
            return words.format(*decode(types.split(","), data[4:]) if types else ())
    return f"it says 0x{data.hex()}" if data else "it gives no reason"
