"""What waits for the market's next round, and how those who sent it are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from fallow.domain.calls.base import Person
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.jobs import Job, Needs
from fallow.domain.orders import Order
from fallow.services.market.brain import Brain, same_order

INPUTS_A_ROUND_MAX = 256
INPUTS_WAITING_MAX = 10_000

Input = Callable[[Brain, int], Any]
"""Changes the brain at a time (milliseconds since 1970); returns what its sender gets to hear."""


class Submission(NamedTuple):
    """An order to take, already checked by its vertical; `locked` are its secret values, encrypted.

    What is `planted` is an operator's: `by` says whose, for the log.
    """

    order: Order
    account: bytes
    needs: Needs
    planted: bool = False
    locked: bytes | None = None
    by: Person | None = None


class Waiting(NamedTuple):
    """An input, and who waits for its answer, if anybody does."""

    what: Input | Submission
    answer: asyncio.Future[Any] | None


class Inputs:
    """Those that wait, in their order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(INPUTS_WAITING_MAX)

    def __len__(self) -> int:
        return self._queue.qsize()

    def empty(self) -> bool:
        """Whether none waits."""
        return self._queue.empty()

    def full(self) -> bool:
        """Whether no further one is taken."""
        return self._queue.full()

    def put(self, waiting: Waiting) -> None:
        """Have one wait.

        Raises:
            Unavailable: too many do.
        """
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise Unavailable("market.busy", "Too many requests wait for the market.", "Try again.") from error

    def take(self) -> list[Waiting]:
        """Take out what one round applies."""
        return [self._queue.get_nowait() for _ in range(min(self._queue.qsize(), INPUTS_A_ROUND_MAX))]

    def fail(self) -> None:
        """Tell all who wait that the market begins anew."""
        error = Unavailable("market.restarting", "The market is loading again.", "Try again in a moment.")
        while not self._queue.empty():
            answer_all([self._queue.get_nowait()], [error])


def apply(brain: Brain, waiting: Waiting, ended: dict[str, Job], now: int) -> Any:  # noqa: ANN401 - as `Input`
    """Apply one input; an error of its own is its answer."""
    try:
        if not isinstance(waiting.what, Submission):
            return waiting.what(brain, now)
        order, account, needs, planted, locked, _ = waiting.what
        if order.id in ended:
            return same_order(ended[order.id], order, account)
        return brain.submit(order, account, needs, now, planted=planted, locked=locked)
    except FallowError as error:
        return error


def answer_all(group: list[Waiting], answers: list[Any]) -> None:
    """Tell those who wait what became of their inputs; an error is raised where they wait."""
    for waiting, told in zip(group, answers, strict=True):
        if waiting.answer is None or waiting.answer.done():
            continue
        if isinstance(told, FallowError):
            waiting.answer.set_exception(told)
        else:
            waiting.answer.set_result(told)
