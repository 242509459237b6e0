"""How a client meets a network that is away: it asks again, with growing pauses, until its patience ends."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import httpx2

from fallow.domain.errors import FallowError, NotAllowed, TooMuch, Unavailable
from fallow.sdk.trust import is_untrusted

PATIENCE_S = 60.0
"""A gateway that was killed, or a machine that starts anew, is back within this time."""

BACKOFF_S = 0.2
BACKOFF_S_MAX = 10.0
FAILURES_TOLD = 3
"""The failure in a row with which it is said that the client waits: a hiccup is over before."""

NOBODY_HEARD = "bus.no_responders"
"""What would do it is being started anew."""

PASSING = (httpx2.TransportError, Unavailable, TooMuch)
"""What may be otherwise at the next attempt; `Outage.pause` decides."""

Sleep = Callable[[float], Awaitable[None]]
Told = Callable[[FallowError], None]

_RANDOM = secrets.SystemRandom()


def nobody(_: FallowError) -> None:
    """Tell nobody."""


class Patience:
    """For how many seconds a client asks a network again that does not answer, and who is told that it waits.

    `sleep` and `now` (seconds) are for tests.
    """

    def __init__(
        self, limit_s: float, told: Told, sleep: Sleep = asyncio.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s = limit_s
        self.told = told
        self.sleep = sleep
        self.now = now


class Outage:
    """Failures in a row of one request."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._since = 0.0

    def over(self) -> None:
        """Note that the request moved on: only standstill wears patience out."""
        self._failures = 0

    async def pause(self, error: Exception) -> None:
        """Wait before the next attempt, as long as the network asks for at least.

        Raises:
            FallowError: what the failure means, when another attempt cannot help or patience has ended.
        """
        seen = fallow_error(error)
        if not self._failures:
            self._since = self._patience.now()
        left_s = self._since + self._patience.limit_s - self._patience.now()
        asked_s = getattr(seen, "wait_s", 0.0)
        if left_s <= 0 or asked_s > left_s or not worth_another_try(seen):
            raise seen from error
        pause_s = max(asked_s, backoff_s(self._failures))
        self._failures += 1
        if self._failures == FAILURES_TOLD:
            self._patience.told(seen)
        await self._patience.sleep(min(pause_s, left_s))


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures: doubling, and by chance, so that clients do not come back all at once."""
    return _RANDOM.uniform(0.5, 1.0) * min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(failures, 30))


def worth_another_try(error: FallowError) -> bool:
    """Whether the same request can succeed later."""
    return (error.retryable and error.code != "internal") or error.code.startswith("rate.")


def never_began(error: Exception) -> bool:
    """Whether the network has surely not begun with the request, so that sending it again does nothing twice."""
    refused = isinstance(error, TooMuch) and error.code.startswith("rate.")
    unheard = isinstance(error, Unavailable) and error.code == NOBODY_HEARD
    return refused or unheard or isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)


def fallow_error(error: Exception) -> FallowError:
    """Return what a failed attempt means."""
    if isinstance(error, FallowError):
        return error
    if is_untrusted(error):
        return NotAllowed(
            "tls.untrusted",
            f"The network cannot show that it is the one it should be, so nothing was sent to it: {error}.",
            "If it has a certificate authority of its own: fallow login URL --ca sha256:PIN",
        )
    return Unavailable(
        "sdk.unreachable", f"The network cannot be reached: {str(error) or type(error).__name__}.", "Check the URL."
    )
