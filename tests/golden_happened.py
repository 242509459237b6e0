"""What happens on the chain and to the token's price in the golden epochs, honest and not."""

from __future__ import annotations

from typing import Any

from coincurve import PrivateKey

from fallow.domain.chain_facts import ChainBurned, ChainFact, ChainSlashed, ChainStaked, ChainUnbonded
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.rewards.oracle import credits_for
from fallow.domain.stake_facts import StakeTake, take_text
from fallow.domain.wallets import address_of, sign_text
from tests.epoch_files import NET
from tests.epoch_world import ACCOUNTS, KEYS

PRICE, BURNED, STAKE = 3_000_000, 10**13, 10**18
DELEGATOR = b"\xde" * 20


def on_first_day(at: int) -> list[Body]:
    """Feeds agree, one lies; three operators have stake and say what they keep; a burn is credited."""
    said = [_quote(key, PRICE + off, at) for key, off in zip(KEYS, (0, 5, 10**8), strict=True)]
    return [
        *said,
        PriceAccepted(price_microusd=PRICE + 1),
        _quote(PrivateKey(b"\x99" * 32), 1, at),
        _staked(0, ACCOUNTS[0], DELEGATOR),
        _staked(1, ACCOUNTS[1], ACCOUNTS[1]),
        _staked(2, ACCOUNTS[1], DELEGATOR),
        _staked(3, ACCOUNTS[2], DELEGATOR),
        _staked(3, ACCOUNTS[2], DELEGATOR),
        *(_take(key, 200_000, at) for key in KEYS),
        StakeTake(account=ACCOUNTS[0], take_ppm=0, at_ms=at + 1, signature=_take(KEYS[1], 0, at + 1).signature),
        _burned(4),
        _credited(4, PRICE + 5),
    ]


def on_second_day(at: int) -> list[Body]:
    """Stake leaves and is slashed, more than there is once; what was credited is credited again."""
    left, more = STAKE // 4, 9 * STAKE
    return [
        *(_quote(key, PRICE + 7, at) for key in KEYS),
        ChainUnbonded(
            operator=ACCOUNTS[1], holder=DELEGATOR, amount=_word(left), shares=_word(left * 10**6), released_at_s=0,
            **_at(5),
        ),
        ChainSlashed(slash=_word(0), operator=ACCOUNTS[1], from_staked=_word(left), from_leaving=_word(7), **_at(6)),
        ChainSlashed(slash=_word(1), operator=ACCOUNTS[1], from_staked=_word(more), from_leaving=_word(0), **_at(7)),
        _credited(4, PRICE + 5),
        _burned(8),
    ]  # fmt: skip


def _at(place: int) -> dict[str, Any]:
    return {"block": place if place < 5 else 100 + place, "place": place, "transaction": bytes(31) + bytes([place])}


def _word(value: int) -> bytes:
    return value.to_bytes(32)


def _quote(key: PrivateKey, price: int, at: int) -> PriceReported:
    signature = sign_text(key, price_text(NET, price, 0, at))
    return PriceReported(feed=address_of(key), price_microusd=price, doubt_microusd=0, at_ms=at, signature=signature)


def _take(key: PrivateKey, ppm: int, at: int) -> StakeTake:
    account = address_of(key)
    return StakeTake(
        account=account, take_ppm=ppm, at_ms=at, signature=sign_text(key, take_text(NET, account, ppm, at))
    )


def _staked(place: int, operator: bytes, holder: bytes) -> ChainFact:
    words: dict[str, Any] = {"amount": _word(STAKE), "shares": _word(STAKE * 10**6)}
    return ChainStaked(operator=operator, holder=holder, **words, **_at(place))


def _burned(place: int) -> ChainFact:
    return ChainBurned(sender=DELEGATOR, account=DELEGATOR, amount=_word(BURNED), **_at(place))


def _credited(place: int, price: int) -> BurnCredited:
    return BurnCredited(
        transaction=bytes(31) + bytes([place]),
        place=place,
        account=DELEGATOR,
        burned=_word(BURNED),
        price_microusd=price,
        credit_microusd=credits_for(BURNED, price),
    )
