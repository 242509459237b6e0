"""How much is written, so that nobody is flooded and the operator's mail server stays trusted."""

from __future__ import annotations

from typing import Final

from fallow.domain.encoding import tagged_hash
from fallow.domain.errors import TooMuch
from fallow.ports.alert_store import AlertStore, Channel
from fallow.ports.database import Transaction

DAY_MS: Final = 86_400_000
ACCOUNT_A_DAY: Final = 100
NETWORK_A_DAY: Final = 20_000
FEW_A_DAY: Final = 5
"""Of one account. For these, and for the first of them, the network has as much left as for all later ones together:
else 200 accounts that are told as often as they may be would leave nothing for the rest, or some 2,000 more that are
told their few. So it takes some 6,000, whose addresses take three days to confirm."""

FEW_OF_ALL_A_DAY: Final = 15_000
"""Of the network, when an account was told its first."""

OFTEN_A_DAY: Final = 10_000
"""Of the network, when an account was told its few."""

CONFIRMATIONS_A_DAY: Final = 10
"""Of one account."""

ALL_CONFIRMATIONS_A_DAY: Final = 2_000
"""Of all accounts, so that whoever makes many of them cannot use up what alerts are told with."""

STRANGER_A_DAY: Final = 3
"""Confirmations to one address, whichever accounts name it: so many letters gets whom somebody names in spite."""

_NETWORK: Final = b"network"
_CONFIRMATIONS: Final = b"confirmations"


async def count_message(store: AlertStore, tx: Transaction, channel: Channel, now: int) -> None:
    """Count what is told to an account. On a refusal the transaction must end.

    Raises:
        TooMuch: the account, or the network, has had enough today (`alerts.many`).
    """
    first = await store.count(tx, b"first" + channel.account, now // DAY_MS, 1)
    few = await store.count(tx, b"few" + channel.account, now // DAY_MS, FEW_A_DAY)
    await _count(store, tx, channel.account, ACCOUNT_A_DAY, now)
    await _count_all(store, tx, NETWORK_A_DAY if first else FEW_OF_ALL_A_DAY if few else OFTEN_A_DAY, now)


async def count_confirmation(store: AlertStore, tx: Transaction, channel: Channel, now: int) -> None:
    """Count a request to confirm an address; raises as `count_message`."""
    await _count(store, tx, b"confirm" + channel.account, CONFIRMATIONS_A_DAY, now)
    stranger = tagged_hash("fallow/alerts-address/1", _reader(channel).encode())
    await _count(store, tx, stranger, STRANGER_A_DAY, now)
    await _count(store, tx, _CONFIRMATIONS, ALL_CONFIRMATIONS_A_DAY, now)
    await _count_all(store, tx, NETWORK_A_DAY, now)


def _reader(channel: Channel) -> str:
    """Who reads that: what follows a plus in a mail address leads nowhere else (RFC 5233)."""
    user, at, domain = channel.address.casefold().rpartition("@")
    return user.partition("+")[0] + at + domain if channel.kind == "email" else channel.address.casefold()


async def _count_all(store: AlertStore, tx: Transaction, most: int, now: int) -> None:
    """Count it for the network, last: whoever forgets holds that count's row, so that no two wait for each other."""
    await _count(store, tx, _NETWORK, most, now)
    await store.forget_counts(tx, now // DAY_MS - 1)


async def _count(store: AlertStore, tx: Transaction, key: bytes, most: int, now: int) -> None:
    if not await store.count(tx, key, now // DAY_MS, most):
        raise TooMuch("alerts.many", "So much was written today that no more is.", "Try again tomorrow.")
