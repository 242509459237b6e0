"""A bar for jobs of many items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from fallow.cli.show import err
from fallow.cli.units import usd
from fallow.domain.jobs import FINAL, ItemState
from fallow.domain.views.jobs import JobView
from fallow.sdk.jobs import Event
from fallow.sdk.sync_results import SyncItemResult


class Progress:
    """Counts items by their state and adds up what they cost. It shows nothing where there is no terminal."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._states = dict.fromkeys(range(total), str(ItemState.WAITING))
        self._counts = Counter(self._states.values())
        self._owed_microusd = 0
        console = err()
        self._bar = Bar(
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not shown or not console.is_terminal,
        )
        self._task = self._bar.add_task(self.line, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def line(self) -> str:
        """What there is to say beside the bar."""
        running = self._counts[ItemState.RUNNING]
        waiting = len(self._states) - self.done - running
        return f"{running} running, {waiting} waiting, {usd(self._owed_microusd)}"

    @property
    def done(self) -> int:
        """How many items have ended."""
        return sum(self._counts[state] for state in FINAL)

    def event(self, event: Event) -> None:
        """Take in a change."""
        if not isinstance(event, JobView) and event.item in self._states:
            self._change(event.item, event.state)

    def result(self, result: SyncItemResult) -> None:
        """Take in what an item came to."""
        self._owed_microusd += result.item.owed_microusd
        self._change(result.index, result.item.state)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while something else is printed."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def _change(self, item: int, state: str) -> None:
        # Counted as they change: to look at all of them each time takes half a minute for a map of thousands.
        self._counts[self._states[item]] -= 1
        self._counts[state] += 1
        self._states[item] = state
        self._bar.update(self._task, completed=self.done, description=self.line)
