"""Keeps one engine running until told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Self

from fallow.adapters.engines.process import Child, Steps
from fallow.domain.errors import FallowError

_logger = logging.getLogger(__name__)
_LONGEST_DELAY = 5.0
_SHORTEST_DELAY = 0.1
_STEADY = 30.0  # seconds after which a start counts as a success
LOG_LOOK_S = 60.0
"""How often its log is looked at: a program that runs for months must not fill the disk."""


class Supervisor:
    """While its context is open the engine runs; if it ends by itself it is started again, for as long as it takes.

    `start` launches the engine and returns when it is ready. Its first failure is raised to who opens the
    context; later ones are logged and tried again after a pause of at most five seconds.
    """

    def __init__(self, name: str, start: Callable[[], Awaitable[Child]], steps: Steps) -> None:
        self._name = name
        self._start = start
        self._steps = steps
        self._child: Child | None = None
        self._restarts = 0
        self._changed = asyncio.Condition()
        self._delay = 0.0
        self._stack = AsyncExitStack()

    @property
    def pid(self) -> int | None:
        """Process number of the running engine; None between its end and the next start."""
        return None if self._child is None or self._child.ended else self._child.pid

    @property
    def restarts(self) -> int:
        """How often it had to be started again, and was ready again."""
        return self._restarts

    async def wait_restarts(self, count: int) -> None:
        """Wait until it has been started again at least `count` times since the context was opened."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._restarts >= count)

    async def __aenter__(self) -> Self:
        child = self._child = await self._start()
        try:
            # Through a stack, so that an exception of the caller's block does not come back as a group.
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            tasks = [
                group.create_task(self._keep_running(child), name=f"keep {self._name} running"),
                group.create_task(self._keep_log_small()),
            ]
        except BaseException:
            await child.stop(self._steps)
            raise
        for task in tasks:
            self._stack.callback(task.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stack.aclose()
        finally:
            if self._child is not None and not self._child.ended:
                await self._child.stop(self._steps)

    async def _keep_running(self, child: Child) -> None:
        now = asyncio.get_running_loop().time
        while True:
            started = now()
            how = await child.wait()
            _logger.error("%s (process %d) ended by itself: %s; starting it again", self._name, child.pid, how)
            if now() - started > _STEADY:
                self._delay = 0.0
            child = self._child = await self._start_again()
            _logger.warning("%s runs again as process %d", self._name, child.pid)
            async with self._changed:
                self._restarts += 1
                self._changed.notify_all()

    async def _keep_log_small(self) -> None:
        while True:
            await asyncio.sleep(LOG_LOOK_S)
            try:
                if self._child is not None:
                    await self._child.bound_log()
            except OSError as error:
                _logger.error("the log of %s cannot be put aside: %s", self._name, error)  # noqa: TRY400 - a sentence

    async def _start_again(self) -> Child:
        while True:
            await asyncio.sleep(self._delay)
            self._delay = min(_LONGEST_DELAY, max(_SHORTEST_DELAY, self._delay * 2))
            try:
                return await self._start()
            except (FallowError, OSError) as error:
                _logger.error("%s could not be started again: %s", self._name, error)  # noqa: TRY400 - a sentence
