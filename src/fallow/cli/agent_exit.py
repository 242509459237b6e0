"""A bar for what is handed back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fallow.cli.show import clean, err
from fallow.ports.vertical.worker import HandBack


@contextmanager
def shown(first: HandBack) -> Iterator[Callable[[HandBack], None]]:
    """Show on a terminal how far it is; elsewhere nothing."""
    console = err()
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(clean(first.says), total=first.total or None, completed=first.done)

        def show(now: HandBack) -> None:
            bar.update(task, description=clean(now.says), total=now.total or None, completed=now.done)

        yield show
