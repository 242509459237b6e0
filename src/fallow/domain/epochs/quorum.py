"""What validators sign about an epoch, how many of them must, and what shows that one of them lied. Pure.

A vote is a validator's signature under the EIP-712 message that the distributor contract checks (`Distributor.digestOf`
and `Validators.check`), so that a quorum of votes can be sent there as it is. Networks without a chain sign the same
message for a contract that does not exist: its address is a hash of the network's id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Final, NamedTuple, Self

import msgspec
from coincurve import PrivateKey
from msgspec import Meta

from fallow.domain.encoding import decode, encode, tagged_hash
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import ADDRESS_BYTES, Address, address, address_text
from fallow.domain.records import Count, convert, to_builtins
from fallow.domain.wallets import keccak, sign_digest, signer_of_digest

VALIDATORS_MAX: Final = 31
TOTAL_BITS: Final = 96
VOTE_BYTES_MAX: Final = 1 << 10
_ROOT_TYPE: Final = keccak(
    b"Root(uint64 epoch,uint64 revision,bytes32 root,uint96 settlementTotal,uint96 tokenTotal,bytes32 archive)"
)
_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_NAME, _VERSION = keccak(b"Fallow Distributor"), keccak(b"1")

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Domain(NamedTuple):
    """For which contract, on which chain, a signature holds: nowhere else, so that it cannot be carried over."""

    chain_id: int
    contract: bytes

    @classmethod
    def without_chain(cls, net: str) -> Self:
        """The domain of a network whose roots are signed into files."""
        return cls(0, tagged_hash("fallow/no-chain/1", net.encode())[:ADDRESS_BYTES])

    @property
    def separator(self) -> bytes:
        """EIP-712's domain separator."""
        chain = self.chain_id.to_bytes(32)
        return keccak(_DOMAIN_TYPE + _NAME + _VERSION + chain + self.contract.rjust(32, b"\0"))


class Root(NamedTuple):
    """An epoch's root: the struct `Epoch` of the distributor.

    Totals are the sums of all leaves of one asset, in its smallest unit; `archive` is the SHA-256
    of the file of the epoch's statement, which names all that the root follows from.
    `revision` counts the roots that were withdrawn before: one whose signatures are void is signed anew.
    """

    epoch: int
    revision: int
    root: bytes
    settlement_total: int
    token_total: int
    archive: bytes

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that validators sign.

        Raises:
            InvalidInput: a number or hash does not fit into the contract's type.
        """
        words = [
            _word(self.epoch, 64),
            _word(self.revision, 64),
            _hash(self.root),
            _word(self.settlement_total, TOTAL_BITS),
            _word(self.token_total, TOTAL_BITS),
            _hash(self.archive),
        ]
        return keccak(b"\x19\x01" + domain.separator + keccak(_ROOT_TYPE + b"".join(words)))

    def differences(self, other: Root) -> list[str]:
        """Say in words how another root for the same epoch differs from this one."""
        return [
            f"{name} is {_text(theirs)} there, and {_text(ours)} here"
            for name, ours, theirs in zip(self._fields, self, other, strict=True)
            if ours != theirs
        ]


class Vote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One validator's signature under a root, with all that checking it takes. Totals are 32 bytes, big-endian."""

    chain_id: Count
    contract: Annotated[bytes, Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES)]
    epoch: Count
    revision: Count
    root: Bytes32
    settlement_total: Bytes32
    token_total: Bytes32
    archive: Bytes32
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]

    @classmethod
    def cast(cls, key: PrivateKey, domain: Domain, root: Root) -> Self:
        """Sign a root."""
        return cls.signed(domain, root, sign_digest(key, root.digest(domain)))

    @classmethod
    def signed(cls, domain: Domain, root: Root, signature: bytes) -> Self:
        """Make a vote of a signature under a root's digest."""
        return cls(
            chain_id=domain.chain_id,
            contract=domain.contract,
            epoch=root.epoch,
            revision=root.revision,
            root=root.root,
            settlement_total=root.settlement_total.to_bytes(32),
            token_total=root.token_total.to_bytes(32),
            archive=root.archive,
            signature=signature,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a vote; whose it is, `signer` says.

        Raises:
            InvalidInput: malformed or oversized.
        """
        if len(data) > VOTE_BYTES_MAX:
            raise InvalidInput("vote.too_large", f"A vote has at most {VOTE_BYTES_MAX} bytes, not {len(data)}.")
        return convert(decode(data), cls, "vote.malformed")

    def encode(self) -> bytes:
        """Return the vote as bytes."""
        return encode(to_builtins(self))

    @property
    def domain(self) -> Domain:
        """Where it holds."""
        return Domain(self.chain_id, self.contract)

    @property
    def about(self) -> Root:
        """What was signed."""
        totals = int.from_bytes(self.settlement_total), int.from_bytes(self.token_total)
        return Root(self.epoch, self.revision, self.root, *totals, self.archive)

    @property
    def signer(self) -> Address:
        """Whose key signed it.

        Raises:
            InvalidInput: the signature does not hold, or the contract would not take it.
        """
        return Address(signer_of_digest(self.about.digest(self.domain), self.signature))


class Decision(NamedTuple):
    """A root that a quorum signed, as `Distributor.submit` takes it: signatures ascend by their signers' addresses."""

    root: Root
    signers: tuple[Address, ...]
    signatures: tuple[bytes, ...]


class Tally(NamedTuple):
    """What the votes about one epoch amount to. `equivocations` are pairs of votes that nobody honest casts."""

    decision: Decision | None
    roots: dict[Root, tuple[Address, ...]]
    equivocations: dict[Address, tuple[Vote, Vote]]


def read_validators(text: str) -> list[Address]:
    """Read addresses with commas between them; in ascending order.

    Raises:
        InvalidInput: one is malformed or there twice, or there are more than the contract takes.
    """
    found = sorted(address(part.strip().lower()) for part in text.split(",") if part.strip())
    if len(set(found)) != len(found) or len(found) > VALIDATORS_MAX:
        raise InvalidInput("validators.count", f"A network has up to {VALIDATORS_MAX} validators, and each once.")
    return found


def faulty_max(count: int) -> int:
    """How many of so many validators may be faulty: the largest f with n > 3f.

    Raises:
        InvalidInput: no network has so many.
    """
    if not 1 <= count <= VALIDATORS_MAX:
        raise InvalidInput("validators.count", f"A network has 1 to {VALIDATORS_MAX} validators, not {count}.")
    return (count - 1) // 3


def quorum_of(count: int) -> int:
    """How many of so many validators must sign: more than (n + f) / 2, so that two quorums share an honest one.

    Raises:
        InvalidInput: there are none, or more than the contract takes.
    """
    return (count + faulty_max(count)) // 2 + 1


def tally(votes: Iterable[Vote], validators: Collection[bytes], domain: Domain, epoch: int, revision: int) -> Tally:
    """Count the votes of `validators` about one epoch. What is about something else, or by others, does not count.

    Who signed two roots counts for neither: with at most f such validators those who are left still make a quorum.
    """
    first: dict[Address, Vote] = {}
    equivocations: dict[Address, tuple[Vote, Vote]] = {}
    for vote in votes:
        if (vote.domain, vote.epoch, vote.revision) != (domain, epoch, revision):
            continue
        try:
            signer = vote.signer
        except InvalidInput:
            continue
        if signer not in validators:
            continue
        if first.setdefault(signer, vote).about != vote.about:
            equivocations.setdefault(signer, (first[signer], vote))
    counted = {signer: vote for signer, vote in sorted(first.items()) if signer not in equivocations}
    roots: dict[Root, tuple[Address, ...]] = {}
    for signer, vote in counted.items():
        roots[vote.about] = (*roots.get(vote.about, ()), signer)
    needed = quorum_of(len(validators))
    decided = next((root for root, signers in roots.items() if len(signers) >= needed), None)
    if decided is None:
        return Tally(None, roots, equivocations)
    signers = roots[decided]
    return Tally(Decision(decided, signers, tuple(counted[each].signature for each in signers)), roots, equivocations)


def equivocator(first: Vote, second: Vote) -> Address:
    """Who signed two roots for one epoch and revision. The two votes are all the evidence: anybody can check them.

    Raises:
        InvalidInput: they show nothing: they agree, are about different things, or are by different signers.
    """
    if (first.domain, first.epoch, first.revision) != (second.domain, second.epoch, second.revision):
        raise InvalidInput("evidence.different", "The two votes are not about the same epoch, revision and contract.")
    if first.about == second.about:
        raise InvalidInput("evidence.same", "The two votes say the same.")
    if first.signer != second.signer:
        raise InvalidInput("evidence.signers", "The two votes are not by the same validator.")
    return first.signer


def wrong_signer(vote: Vote, recomputed: Root) -> Address:
    """Who signed a root that its own archive does not give. `recomputed` is what the fold of that archive gives.

    The vote names the archive by its hash: with it and with that archive anybody comes to the same `recomputed`.
    A vote on another archive than the reader has shows nothing here: the operator may have shown two.

    Raises:
        InvalidInput: it shows nothing: the vote is right, or about another epoch, revision or archive.
    """
    about = vote.about
    if (about.epoch, about.revision, about.archive) != (recomputed.epoch, recomputed.revision, recomputed.archive):
        raise InvalidInput("evidence.different", "The vote is about another epoch, revision or archive.")
    if about == recomputed:
        raise InvalidInput("evidence.right", f"What {address_text(vote.signer)} signed is right.")
    return vote.signer


def _word(value: int, bits: int) -> bytes:
    if not 0 <= value < 1 << bits:
        raise InvalidInput("vote.range", f"{value} does not fit into {bits} bits.")
    return value.to_bytes(32)


def _hash(value: bytes) -> bytes:
    if len(value) != 32:  # noqa: PLR2004 - the length of a hash
        raise InvalidInput("vote.hash", f"A hash has 32 bytes, not {len(value)}.")
    return value


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:,}"
