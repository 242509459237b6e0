"""Whether an account may use storage: what settlement says of its subscription, remembered for some seconds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.subscriptions import SUBSCRIPTIONS
from fallow.domain.errors import InsufficientFunds
from fallow.domain.subscriptions import SubscriptionState
from fallow.domain.views.money import SubscriptionView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call
from fallow.verticals.storage.core.tariff import VERTICAL

REMEMBERED_MS: Final = 10_000
ACCOUNTS_MAX: Final = 100_000
PAGE: Final = 1000


class Paying:
    """Knows accounts' open subscriptions to storage.

    `behind` are the accounts that used more than a window could cost, and wait for the next one to pay for it.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known: dict[str, tuple[int, SubscriptionView | None]] = {}
        self.behind: Collection[str] = frozenset()

    async def may_open(self, account: str) -> None:
        """Let an account make a bucket.

        Raises:
            InsufficientFunds: `storage.no_subscription`.
        """
        await self._open(account)

    async def may_use(self, account: str) -> None:
        """Let an account store and read.

        Raises:
            InsufficientFunds: `storage.no_subscription`, `storage.suspended`.
        """
        subscription = await self._open(account)
        if subscription.state == SubscriptionState.SUSPENDED:
            raise InsufficientFunds(
                "storage.suspended",
                "The account, or its budget of the month, does not cover storage now.",
                "Add credits, or raise the budget: it goes on by itself.",
            )
        if subscription.left_microusd == 0 or account in self.behind:
            raise InsufficientFunds(
                "storage.suspended",
                "What the subscription may cost in this window is used up.",
                "Wait for the next window, or subscribe anew with a higher limit.",
            )

    async def subscription(self, account: str, *, fresh: bool = False) -> SubscriptionView | None:
        """The account's subscription to storage that is not over, if there is one; of several, the one with most left.

        Raises:
            Unavailable: settlement does not answer.
        """
        now = self._clock.monotonic_ms()
        until, known = self._known.get(account, (0, None))
        if now >= until or fresh:
            known = await self._ask(account)
            if len(self._known) >= ACCOUNTS_MAX:
                self._known.clear()
            self._known[account] = now + REMEMBERED_MS, known
        return known

    async def _open(self, account: str) -> SubscriptionView:
        subscription = await self.subscription(account)
        if subscription is None:
            raise InsufficientFunds(
                "storage.no_subscription",
                "The account has no subscription to storage.",
                "Open one, with a limit for what it may cost in an hour.",
            )
        return subscription

    async def _ask(self, account: str) -> SubscriptionView | None:
        after, found = "", list[SubscriptionView]()
        while True:
            request = AccountRef(account=account, after=after, limit=PAGE)
            page = await call(self._bus, SUBSCRIPTIONS, request, list[SubscriptionView])
            found += [one for one in page if one.vertical == VERTICAL and one.state != SubscriptionState.ENDED]
            if len(page) < PAGE:
                return max(found, key=_worth, default=None)
            after = page[-1].id


def _worth(one: SubscriptionView) -> tuple[bool, int]:
    return one.state == SubscriptionState.ACTIVE, one.left_microusd
