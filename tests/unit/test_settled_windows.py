"""A settled window of a subscription is told in records that have room for it, whatever was delivered to whom."""

from __future__ import annotations

import pytest

from fallow.domain.billing import Charge
from fallow.domain.chart import collect
from fallow.domain.records import RECORD_BYTES_MAX, make_record
from fallow.domain.resources import PRICE_MICROUSD_MAX
from fallow.domain.subscriptions import QUANTITY_MAX, TARIFF_METERS_MAX, Meter, Price, Subscription, held
from fallow.services.settle.settled import METERS_A_RECORD, settled

NAMES = [chr(ord("a") + number) + "m" * 39 for number in range(TARIFF_METERS_MAX)]
A_CLASS = 10**12


@pytest.mark.parametrize("each", [1, 2, TARIFF_METERS_MAX - 1, TARIFF_METERS_MAX])
def test_the_longest_window_fits_into_its_records(each: int) -> None:
    """All names and numbers are the longest; a payee has `each` meters, and three classes of credits pay."""
    payees = [bytes([number]) * 20 for number in range(1, 2 * METERS_A_RECORD // each + 2)]
    subscription = Subscription(
        id="a" * 32,
        key=bytes(16),
        account=bytes(20),
        vertical="v" * 20,
        tariff={name: Price(microusd=PRICE_MICROUSD_MAX, per=1 << 62) for name in NAMES},
        limit_microusd=PRICE_MICROUSD_MAX,
        window_ms=1_000,
        opened_at=1,
        window_at=1 << 42,
        window=1 << 33,
    )
    begun = held(subscription, tuple((credit, A_CLASS) for credit in (1, 2, 3)))
    meters = {(payee, name): Meter(QUANTITY_MAX, QUANTITY_MAX - 1) for payee in payees for name in NAMES[:each]}
    share = A_CLASS // len(payees)
    moved = collect(begun.key, begun.window, begun.held, [(payee, Charge(share, share, share)) for payee in payees])
    told = list(settled(begun, begun.window, meters, moved, 1 << 42))
    assert [one.payee for body in told for one in body.earned] == payees
    for body in told:
        record, _ = make_record(
            body, net="n" * 64, node=bytes(32), boot=1 << 40, seq=1 << 40, at=1 << 42, new_salt=lambda: bytes(32)
        )
        assert len(record.encode()) <= RECORD_BYTES_MAX
