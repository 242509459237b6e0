"""What a settled window of a subscription was, as records: terms, what each payee delivered, how money moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from fallow.domain.chart import Kind, Purpose, account_id
from fallow.domain.ledger import Transfer
from fallow.domain.network_facts import Earned, SubscriptionSettled, Tariffed
from fallow.domain.subscriptions import DeliveryKey, Meter, Subscription

METERS_A_RECORD: Final = 80
"""Of one meter each, with the longest names, so many payees all but fill a record."""

Moved = Mapping[tuple[Kind, bytes], dict[str, int]]


def settled(
    subscription: Subscription, window: int, meters: Mapping[DeliveryKey, Meter], transfers: Sequence[Transfer], at: int
) -> Iterator[SubscriptionSettled]:
    """Tell of a window, `subscription` as it was when the window was over, in as many records as its payees need."""
    payees = sorted({payee for payee, _ in meters})
    moved = _moved(transfers, payees)
    for part, some in enumerate(_parts(payees, meters)):
        whole = part == 0
        yield SubscriptionSettled(
            vertical=subscription.vertical,
            subscription=subscription.key,
            window=window,
            part=part,
            from_ms=subscription.window_at,
            until_ms=at,
            tariff=subscription.tariff,
            earned=[
                Earned(payee=one, used=_used(one, meters), income=moved.get((Kind.INCOME, one), {})) for one in some
            ],
            fee=moved.get((Kind.FEE, b""), {}) if whole else {},
            reserve=moved.get((Kind.RESERVE, b""), {}) if whole else {},
            payer=subscription.account,
        )


def _parts(payees: Iterable[bytes], meters: Mapping[DeliveryKey, Meter]) -> Iterator[list[bytes]]:
    counts = Counter(payee for payee, _ in meters)
    part: list[bytes] = []
    size = 0
    for payee in payees:
        if part and size + counts[payee] > METERS_A_RECORD:
            yield part
            part, size = [], 0
        part.append(payee)
        size += counts[payee]
    if part:
        yield part


def _used(payee: bytes, meters: Mapping[DeliveryKey, Meter]) -> list[Tariffed]:
    return [
        Tariffed(meter=name, before=meter.settled.to_bytes(32), after=meter.quantity.to_bytes(32))
        for (to, name), meter in sorted(meters.items())
        if to == payee
    ]


def _moved(transfers: Iterable[Transfer], payees: Iterable[bytes]) -> Moved:
    """What for, and to whom (nobody for fee and reserve): micro-US-dollars by class, as the ledger moved them."""
    whose = {(account_id(Purpose.EARNED, credit, payee)): payee for payee in payees for credit in (1, 2, 3)}
    moved: dict[tuple[Kind, bytes], dict[str, int]] = {}
    for transfer in transfers:
        if transfer.code in {Kind.INCOME, Kind.FEE, Kind.RESERVE} and transfer.amount:
            to = whose[transfer.credit] if transfer.code == Kind.INCOME else b""
            by_class = moved.setdefault((Kind(transfer.code), to), {})
            name = str(transfer.ledger)
            by_class[name] = by_class.get(name, 0) + transfer.amount
    return moved
