"""Windows are cut before an epoch ends, so that what is used in an epoch is settled in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.subscriptions import Subscription
from fallow.domain.windows import CUT_AHEAD_MS, CUT_SPREAD_MS, cut_in_ms, length_ms, windows_max

HOUR_MS = 3_600_000
LATE_MS = 20_000
"""How long a receipt and the settlement that follows take at most, here."""

epochs = st.sampled_from([HOUR_MS, 5 * HOUR_MS, 24 * HOUR_MS])
lengths = st.sampled_from([10_000, 600_000, 3_500_000, HOUR_MS])
leases = st.binary(min_size=16, max_size=16)


class Window(NamedTuple):
    """From when until when a window was open, in the network's time."""

    from_ms: int
    until_ms: int


def windows(lease: bytes, told_at: int, begun_at: int, ran_ms: int, window_ms: int, epoch_ms: int) -> Iterator[Window]:
    """The windows of a program that ran for a while, as its node cuts them."""
    cut_at, now = told_at + cut_in_ms(told_at, epoch_ms, lease), begun_at
    while now < begun_at + ran_ms:
        over = min(now + length_ms(window_ms, cut_at - now, epoch_ms), begun_at + ran_ms)
        yield Window(now, over)
        now = over


@given(
    lease=leases,
    told_at=st.integers(0, 400 * HOUR_MS),
    prepared_ms=st.integers(0, 3 * HOUR_MS),
    ran_ms=st.integers(1, 60 * HOUR_MS),
    window_ms=st.sampled_from([600_000, 3_500_000, HOUR_MS]),
    epoch_ms=epochs,
)
def test_what_is_used_in_an_epoch_is_settled_in_it(
    lease: bytes, told_at: int, prepared_ms: int, ran_ms: int, window_ms: int, epoch_ms: int
) -> None:
    begun_at = told_at + prepared_ms
    found = list(windows(lease, told_at, begun_at, ran_ms, window_ms, epoch_ms))
    assert sum(one.until_ms - one.from_ms for one in found) == ran_ms
    assert all(0 < one.until_ms - one.from_ms <= window_ms for one in found)
    for one in found:
        settled_in = (one.until_ms + LATE_MS) // epoch_ms
        elsewhere_ms = max(0, settled_in * epoch_ms - one.from_ms)
        assert elsewhere_ms <= CUT_AHEAD_MS + CUT_SPREAD_MS, "only what was used in the last minute of an epoch"
    assert len(found) <= windows_max(ran_ms, window_ms)


@given(lease=leases, now=st.integers(0, 1 << 45), epoch_ms=epochs)
def test_a_cut_comes_before_an_epoch_ends_and_for_not_all_at_once(lease: bytes, now: int, epoch_ms: int) -> None:
    cut_at = now + cut_in_ms(now, epoch_ms, lease)
    assert now <= cut_at < now + epoch_ms
    assert CUT_AHEAD_MS <= -cut_at % epoch_ms < CUT_AHEAD_MS + CUT_SPREAD_MS


@given(begun_at=st.integers(0, 400 * HOUR_MS), key=leases, window_ms=lengths, epoch_ms=epochs)
def test_a_subscriptions_windows_are_cut_as_those_of_leases(
    begun_at: int, key: bytes, window_ms: int, epoch_ms: int
) -> None:
    fields: dict[str, Any] = {"id": "", "account": b"", "vertical": "storage", "tariff": {}, "limit_microusd": 1}
    open_ = Subscription(key=key, window_ms=window_ms, opened_at=0, window_at=begun_at, epoch_ms=epoch_ms, **fields)
    assert begun_at < open_.due_at <= begun_at + window_ms
    (window,) = windows(key, begun_at, begun_at, open_.due_at - begun_at, window_ms, epoch_ms)
    assert window.until_ms == open_.due_at


@given(window_ms=lengths, until_ms=st.integers(-(1 << 40), 1 << 40))
def test_a_network_that_cuts_nothing_has_whole_windows(window_ms: int, until_ms: int) -> None:
    assert length_ms(window_ms, until_ms, 0) == window_ms
