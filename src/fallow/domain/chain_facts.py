"""What the network has seen on its chain, as records: whoever has the archive needs no node of the chain.

Each stands for one event of the network's contracts. `block` and `place` (the log's number in its block) order them as
the chain did, and ascend from record to record: a reader knows by that one that is there twice. Amounts, and what the
contracts count in more than 64 bits, have 32 bytes, most significant first.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from msgspec import Meta

from fallow.domain.records import Body, Count

DEPOSIT_MIN: Final = 10_000
"""The least deposit, in units of the settlement asset: `Distributor.DEPOSIT_MIN`. Each is a record for ever."""

TOKENS_MIN: Final = 10**16
"""The least burn and the least stake, in units of the token: `FallowToken.BURN_MIN`, `StakeVault.STAKE_MIN`."""

Holder = Annotated[bytes, Meta(min_length=20, max_length=20)]
Word = Annotated[bytes, Meta(min_length=32, max_length=32)]


class ChainFact(Body, frozen=True, kw_only=True):
    """An event. `contract` is the contract's name, `event` as Solidity has it; the fields are its, in their order."""

    version: ClassVar[int] = 1
    contract: ClassVar[str]
    event: ClassVar[str]
    block: Count
    place: Count
    transaction: Word

    @property
    def position(self) -> tuple[int, int]:
        """Where it stands in the chain."""
        return self.block, self.place


class ChainDeposited(ChainFact, frozen=True, kw_only=True):
    """Units of the settlement asset came in for paid credits of `account`."""

    kind: ClassVar[str] = "chain.deposited"
    contract: ClassVar[str] = "distributor"
    event: ClassVar[str] = "Deposited(address,address,uint256)"
    sender: Holder
    account: Holder
    amount: Word


class ChainRootSubmitted(ChainFact, frozen=True, kw_only=True):
    """A quorum's root of an epoch; claims count on it from `activates_at_s` (seconds since 1970) on."""

    kind: ClassVar[str] = "chain.root_submitted"
    contract: ClassVar[str] = "distributor"
    event: ClassVar[str] = "RootSubmitted(uint64,bytes32,bytes32,uint96,uint96,uint40)"
    epoch: Count
    root: Word
    archive: Word
    settlement_total: Word
    token_total: Word
    activates_at_s: Count


class ChainRootsWithdrawn(ChainFact, frozen=True, kw_only=True):
    """Roots of epochs `from_epoch` to `to_epoch` are void."""

    kind: ClassVar[str] = "chain.roots_withdrawn"
    contract: ClassVar[str] = "distributor"
    event: ClassVar[str] = "RootsWithdrawn(uint64,uint64,uint64)"
    from_epoch: Count
    to_epoch: Count
    revision: Count


class ChainClaimed(ChainFact, frozen=True, kw_only=True):
    """An account has got `cumulative` units of an asset since the beginning."""

    kind: ClassVar[str] = "chain.claimed"
    contract: ClassVar[str] = "distributor"
    event: ClassVar[str] = "Claimed(address,address,uint256)"
    account: Holder
    asset: Holder
    cumulative: Word


class ChainBurned(ChainFact, frozen=True, kw_only=True):
    """`sender` has burned units of the token for credits of `account`."""

    kind: ClassVar[str] = "chain.burned"
    contract: ClassVar[str] = "token"
    event: ClassVar[str] = "BurnedForCredits(address,address,uint256)"
    sender: Holder
    account: Holder
    amount: Word


class ChainStaked(ChainFact, frozen=True, kw_only=True):
    """`holder` has staked with `operator`, and got shares of that pool: a delegation, unless both are the same."""

    kind: ClassVar[str] = "chain.staked"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "Staked(address,address,uint256,uint256)"
    operator: Holder
    holder: Holder
    amount: Word
    shares: Word


class ChainUnbonded(ChainFact, frozen=True, kw_only=True):
    """`shares` were worth `amount` and count as stake no more; they can be taken from `released_at_s` on."""

    kind: ClassVar[str] = "chain.unbonded"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "Unbonded(address,address,uint256,uint256,uint64)"
    operator: Holder
    holder: Holder
    amount: Word
    shares: Word
    released_at_s: Count


class ChainReleased(ChainFact, frozen=True, kw_only=True):
    """What was unbonding was taken."""

    kind: ClassVar[str] = "chain.released"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "Released(address,address,uint256)"
    operator: Holder
    holder: Holder
    amount: Word


class ChainSlashAnnounced(ChainFact, frozen=True, kw_only=True):
    """`share_ppm` of an operator's pool will be taken, unless the guardian stops it before `takes_effect_at_s`."""

    kind: ClassVar[str] = "chain.slash_announced"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "SlashAnnounced(uint256,address,uint32,bytes32,bytes32,uint64)"
    slash: Word
    operator: Holder
    share_ppm: Count
    reason: Word
    evidence: Word
    takes_effect_at_s: Count


class ChainSlashStopped(ChainFact, frozen=True, kw_only=True):
    """The guardian has stopped a slash."""

    kind: ClassVar[str] = "chain.slash_stopped"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "SlashStopped(uint256)"
    slash: Word


class ChainSlashed(ChainFact, frozen=True, kw_only=True):
    """A slash was taken: from what was at stake with an operator, and from what was unbonding there."""

    kind: ClassVar[str] = "chain.slashed"
    contract: ClassVar[str] = "vault"
    event: ClassVar[str] = "SlashTaken(uint256,address,uint256,uint256)"
    slash: Word
    operator: Holder
    from_staked: Word
    from_leaving: Word


CHAIN_FACTS: tuple[type[ChainFact], ...] = (
    ChainDeposited,
    ChainRootSubmitted,
    ChainRootsWithdrawn,
    ChainClaimed,
    ChainBurned,
    ChainStaked,
    ChainUnbonded,
    ChainReleased,
    ChainSlashAnnounced,
    ChainSlashStopped,
    ChainSlashed,
)
