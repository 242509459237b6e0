"""Seeds that the operator and the validators make together, by commit and reveal. Pure.

```
epoch of draws      n - 2                   n - 1                    n                over
operator                      commits to n            (secret)           draws from it     shows his part
validators          pledge parts for n      show parts for n
```

What is drawn from comes out of all parts: the operator cannot choose it, for he committed before he knew a validator's
part; and no validator foresees a draw, for the operator's part is secret until the epoch is over. Draws are of numbered
epochs of their own (`fallow.domain.draws`); a block hash is never a seed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Final, NamedTuple, Self

import msgspec
from coincurve import PrivateKey
from msgspec import Meta

from fallow.domain.draws import Commitment, Seed
from fallow.domain.encoding import decode, encode, tagged_hash
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.quorum import Bytes32
from fallow.domain.epochs.reading import Filed
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import Address, address_text
from fallow.domain.network_facts import SeedDrawn
from fallow.domain.records import Count, convert, to_builtins
from fallow.domain.verification import Verdict
from fallow.domain.wallets import keccak, sign_digest, signer_of_digest

PART_BYTES: Final = 32
PLEDGE_BYTES_MAX: Final = 512


class Pledge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A validator's word, ahead of time, on its part of epoch `number`'s seed. Two for one prove a lie."""

    net: Annotated[str, Meta(max_length=100)]
    number: Count
    commitment: Bytes32
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]

    @classmethod
    def make(cls, key: PrivateKey, validator: bytes, net: str, number: int, part: bytes) -> Self:
        """Commit to a part: 32 random bytes that nobody else knows yet."""
        commitment = commitment_of(net, number, validator, part)
        signature = sign_digest(key, pledge_digest(net, number, commitment))
        return cls(net=net, number=number, commitment=commitment, signature=signature)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a pledge; whose it is, `signer` says.

        Raises:
            InvalidInput: malformed or oversized.
        """
        if len(data) > PLEDGE_BYTES_MAX:
            raise InvalidInput("pledge.too_large", f"A pledge has at most {PLEDGE_BYTES_MAX} bytes, not {len(data)}.")
        return convert(decode(data), cls, "pledge.malformed")

    def encode(self) -> bytes:
        """Return the pledge as bytes."""
        return encode(to_builtins(self))

    @property
    def signer(self) -> Address:
        """Whose key signed it.

        Raises:
            InvalidInput: the signature does not hold.
        """
        return Address(signer_of_digest(pledge_digest(self.net, self.number, self.commitment), self.signature))


class Joint(NamedTuple):
    """A seed and how it came about: whose parts are in it, and who pledged one and did not show it in time."""

    value: bytes
    parts: dict[Address, bytes]
    silent: tuple[Address, ...]


def commitment_of(net: str, number: int, validator: bytes, part: bytes) -> bytes:
    """What a validator publishes of its part. It holds for this validator alone: a copy of another's opens nothing.

    Raises:
        InvalidInput: the part has another length.
    """
    if len(part) != PART_BYTES:
        raise InvalidInput("seed.part", f"A part of a seed has {PART_BYTES} bytes, not {len(part)}.")
    return tagged_hash("fallow/seed-part/1", encode([net, number, validator, part]))


def joint_seed(
    operator: Seed, net: str, validators: Collection[bytes], pledges: Collection[Pledge], shown: Mapping[bytes, bytes]
) -> Joint:
    """Make the seed of an epoch out of the operator's and of the parts that validators pledged and showed in time.

    Until a network has validators it is the operator's seed as it is. A part that fits no pledge does not count. A
    validator that keeps its part back does so blindly, for it does not know the operator's. The operator, who does, can
    leave parts out: whose part is missing is named here, and a validator that showed its part in time signs no epoch
    whose seed is without it.

    Raises:
        InvalidInput: a pledge is of another network or epoch, or by nobody who validates; or two are by one validator.
    """
    pledged: dict[Address, Pledge] = {}
    for pledge in pledges:
        signer = pledge.signer
        if (pledge.net, pledge.number) != (net, operator.number) or signer not in validators:
            raise InvalidInput("seed.pledge", f"The pledge of {address_text(signer)} does not belong to this seed.")
        if pledged.setdefault(signer, pledge).commitment != pledge.commitment:
            raise InvalidInput("seed.pledged_twice", f"{address_text(signer)} pledged two parts for one seed.")
    parts = {
        signer: shown[signer]
        for signer, pledge in sorted(pledged.items())
        if signer in shown and commitment_of(net, operator.number, signer, shown[signer]) == pledge.commitment
    }
    silent = tuple(signer for signer in sorted(pledged) if signer not in parts)
    if not parts:
        return Joint(operator.value, parts, silent)
    mixed = encode([net, operator.number, operator.value, [[signer, part] for signer, part in parts.items()]])
    return Joint(tagged_hash("fallow/joint-seed/1", mixed), parts, silent)


def joint_of(operator: Seed, net: str, added: Iterable[tuple[bytes, bytes | None]]) -> Joint:
    """Make a seed of the operator's part and what validators added: signed pledges, with the parts that were shown.

    Raises:
        InvalidInput: as `joint_seed`, or `pledge.malformed`.
    """
    pledges = [(Pledge.decode(data), part) for data, part in added]
    shown: dict[bytes, bytes] = {pledge.signer: part for pledge, part in pledges if part}
    made = [pledge for pledge, _ in pledges]
    return joint_seed(operator, net, [pledge.signer for pledge in made], made, shown)


def drawn_seed(drawn: SeedDrawn, net: str, network_key: bytes) -> Joint:
    """Make the seed of an epoch that is over again, from what the network says of it.

    Raises:
        InvalidInput: `seed.commitment`: the operator committed to something else; or as `joint_of`.
        NotAllowed: the commitment is not signed by the network.
    """
    operator = Seed(drawn.number, drawn.value)
    commitment = Commitment.open(drawn.commitment, network_key)
    if commitment != Commitment(net=net, number=drawn.number, commitment=operator.commitment):
        raise InvalidInput("seed.commitment", f"The operator committed to another seed of epoch {drawn.number}.")
    if len(drawn.pledges) != len(drawn.parts):
        raise InvalidInput("seed.pledge", f"Seed {drawn.number} has more pledges than parts, or the other way round.")
    return joint_of(operator, net, zip(drawn.pledges, drawn.parts, strict=True))


class Seeds:
    """What an epoch's records say of seeds. `seed` is the last one that was shown, nothing where it does not hold."""

    def __init__(self, net: str, network_key: bytes) -> None:
        self._net = net
        self._network_key = network_key
        self.seed = b""

    def verify(self, filed: Filed) -> Found:
        """Decide on a record; FallowError as `drawn_seed` where it does not hold."""
        if filed.node != self._network_key:
            return Found(Verdict.REJECTED, "seed.not_the_network")
        self.seed = b""
        self.seed = drawn_seed(filed.record.read(SeedDrawn), self._net, self._network_key).value
        return ACCEPTED


def pledge_digest(net: str, number: int, commitment: bytes) -> bytes:
    """Another first byte than EIP-712's 0x19, so that no pledge is a vote."""
    return keccak(b"fallow/seed-pledge/1\0" + encode([net, number, commitment]))
