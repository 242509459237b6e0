"""An event loop in which time is a number and chance comes from a seed: the same seed gives the same run.

Time jumps to the next timer when nothing else is to be done. What is ready runs in an order that the seed shuffles.
A process that is `stopped` does nothing until it goes on, as after SIGSTOP: what it was about to do waits, its timers
run out unnoticed, and what others send it piles up. There are no threads: what is given to an executor runs on the
loop, after a moment, in the executor's own order.
"""

# ruff: noqa: D102 - asyncio's own names

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

STEPS_AT_ONCE_MAX = 100_000
DISK_S = 0.004
LIFE_S = 2_000.0
PROCESS: ContextVar[str] = ContextVar("process", default="")
"""Which process the running task belongs to; "" is the world."""


T = TypeVar("T")
Args = TypeVarTuple("Args")


class Stuck(Exception):
    """Nothing will ever happen again, or everything happens at once for ever."""


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    def __init__(self, number: int, coroutine: Any, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """`trouble` collects what tasks raised and nobody awaited."""

    _ready: deque[Any]  # what asyncio says of itself to nobody: what can run, and a heap of timers
    _scheduled: list[Any]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.trouble: list[str] = []
        self.steps = 0
        self._chance = random.Random(f"{seed}/loop")
        self._now = 0.0
        self._since_time_moved = 0
        self._busy_until: dict[int, float] = {}
        self._stopped: dict[str, list[Any]] = {}
        numbers = itertools.count()
        self.set_task_factory(lambda loop, coro, **options: _Task(next(numbers), coro, loop=loop, **options))
        self.set_exception_handler(lambda _, context: self.trouble.append(_told(context)))

    def time(self) -> float:
        return self._now

    def stop_process(self, name: str) -> None:
        """Let a process do nothing more until it goes on."""
        self._stopped.setdefault(name, [])

    def continue_process(self, name: str) -> bool:
        """Let it do what it was kept from; returns whether it was stopped."""
        was_stopped = name in self._stopped
        self._ready.extend(self._stopped.pop(name, ()))
        return was_stopped

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> asyncio.Future[T]:
        """Run it here: at once and tell later, or later; so that a crash can come in between, and before."""
        answer = self.create_future()
        at = self._now + DISK_S * self._chance.random()
        if executor is not None:  # it does one thing after the other
            at = max(at, self._busy_until.get(id(executor), 0.0) + 1e-6)
            self._busy_until[id(executor)] = at
        if executor is None and self._chance.random() < 0.5:
            self.call_at(at, partial(_tell, answer, _outcome(func, args)))
        else:
            self.call_at(at, lambda: None if answer.done() else _tell(answer, _outcome(func, args)))
        return answer

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck("nobody is ready, and nobody waits for a time")
            if scheduled[0].when() > self._now:
                self._now, self._since_time_moved = scheduled[0].when(), 0
            if self._now > LIFE_S:
                raise Stuck(f"no end after {LIFE_S} s")
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        batch = list(ready)
        ready.clear()
        self._chance.shuffle(batch)
        self.steps += len(batch)
        self._since_time_moved += len(batch)
        if self._since_time_moved > STEPS_AT_ONCE_MAX:
            raise Stuck(f"{STEPS_AT_ONCE_MAX} steps, and no time has passed")
        for handle in batch:
            if not handle.cancelled():
                self._run(handle)

    def _run(self, handle: Any) -> None:
        name = handle._context.get(PROCESS) if self._stopped else ""
        if name in self._stopped:
            self._stopped[name].append(handle)
        else:
            handle._run()

    def _process_events(self, _: Any) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


Outcome = tuple[Any, BaseException | None]


def _outcome(func: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    try:
        return func(*args), None
    except Exception as error:  # noqa: BLE001 - handed on
        return None, error


def _tell(answer: asyncio.Future[Any], outcome: Outcome) -> None:
    result, error = outcome
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"


class SimClock:
    """The clock port on the running loop; `skew_ms` is how wrong this machine's wall clock is."""

    START_MS = 1_700_000_000_000

    def __init__(self, skew_ms: int = 0) -> None:
        self._skew_ms = skew_ms

    def step(self, ms: int) -> None:
        """Set the wall clock forward, or back."""
        self._skew_ms += ms

    def now_ms(self) -> int:
        return self.START_MS + self._skew_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
