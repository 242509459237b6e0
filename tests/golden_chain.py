"""Golden records of what happened on a chain: one of each kind."""

from __future__ import annotations

from typing import Any

from fallow.domain.chain_facts import (
    ChainBurned,
    ChainClaimed,
    ChainDeposited,
    ChainFact,
    ChainReleased,
    ChainRootSubmitted,
    ChainRootsWithdrawn,
    ChainSlashAnnounced,
    ChainSlashed,
    ChainSlashStopped,
    ChainStaked,
    ChainUnbonded,
)
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported
from fallow.domain.records import Body
from fallow.domain.stake_facts import StakeTake

ONE, OTHER, TOKENS = bytes(range(20)), bytes(range(1, 21)), (10**27).to_bytes(32)
WHERE: dict[str, Any] = {"block": 1234, "place": 5, "transaction": bytes(range(32))}
POOL: dict[str, Any] = {"operator": ONE, "holder": OTHER, "amount": TOKENS, **WHERE}
CHAIN_BODIES: tuple[ChainFact, ...] = (
    ChainDeposited(sender=ONE, account=OTHER, amount=(25_000_000).to_bytes(32), **WHERE),
    ChainRootSubmitted(
        epoch=7,
        root=bytes(range(32)),
        archive=bytes(range(1, 33)),
        settlement_total=(25_000_000).to_bytes(32),
        token_total=TOKENS,
        activates_at_s=1_800_000_000,
        **WHERE,
    ),
    ChainRootsWithdrawn(from_epoch=7, to_epoch=8, revision=1, **WHERE),
    ChainClaimed(account=ONE, asset=OTHER, cumulative=TOKENS, **WHERE),
    ChainBurned(sender=ONE, account=OTHER, amount=TOKENS, **WHERE),
    ChainStaked(shares=TOKENS, **POOL),
    ChainUnbonded(shares=TOKENS, released_at_s=1_800_000_000, **POOL),
    ChainReleased(**POOL),
    ChainSlashAnnounced(
        slash=bytes(32),
        operator=ONE,
        share_ppm=50_000,
        reason=b"validator.equivocated".ljust(32, b"\0"),
        evidence=bytes(range(32)),
        takes_effect_at_s=1_800_000_000,
        **WHERE,
    ),
    ChainSlashStopped(slash=bytes(32), **WHERE),
    ChainSlashed(slash=bytes(32), operator=ONE, from_staked=TOKENS, from_leaving=bytes(32), **WHERE),
)
PRICE_BODIES: tuple[Body, ...] = (
    PriceReported(
        feed=ONE, price_microusd=250_000, doubt_microusd=125, at_ms=1_800_000_000_000, signature=bytes(range(65))
    ),
    PriceAccepted(price_microusd=125_000),
    BurnCredited(
        transaction=bytes(range(32)),
        place=5,
        account=OTHER,
        burned=TOKENS,
        price_microusd=250_000,
        credit_microusd=250_000_000_000_000,
    ),
)
STAKE_TAKE = StakeTake(account=ONE, take_ppm=180_000, at_ms=1_800_000_000_000, signature=bytes(range(65)))
