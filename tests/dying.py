"""`fallow` that dies at named steps, by SIGKILL, in the middle of the production code.

    command("dying_agent", folder)  # and then what would be typed after `fallow`

The process kills itself when it comes to a step whose name is that of a file in the folder; the file goes first, so
that each step kills once. Nothing of this is in the product: `tests/dying_agent.py` and `tests/dying_roles.py` wrap
the functions between which the steps lie, before anything runs. A function that is not there any more is an error, and
a step that no process comes to leaves its file.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORDS = ("accept", "checkpoint", "window", "final")
"""What an agent records of a lease."""

MOVES = ("reserve", "post and reserve", "post", "void", "make good")
"""What a market has the ledger do."""

CLOSING = (
    "epoch unended",
    "epoch ended",
    "files written",
    "files archived",
    "fold archived",
    "statement said",
    "closing noted",
)
"""Of closing an epoch; the first is within the transaction that ends it."""

SENDING = ("root voted", "root signed", "root mined", "root said")
"""Of bringing a root to the chain: signed is the transaction, mined what the sender has noted."""

STEPS = (
    "proposal heard",
    "work begins",
    "program runs",
    "checkpoint made",
    "checkpoint uploaded",
    "work ended",
    "result uploaded",
    *(f"{record} {step}" for record in RECORDS for step in ("unwritten", "written", "taken", "promised")),
    "batch uncommitted",
    "batch committed",
    *(f"{move} {step}" for move in MOVES for step in ("uncommitted", "committed")),
    "judged",
    *CLOSING,
    *SENDING,
)
"""Of an agent, of ingest, of a market, of a closing, of the chain's process.

A record is `taken` when the network has it and its node does not know yet.
"""


def command(module: str, folder: Path | str) -> tuple[str, ...]:
    """What starts such a process, wherever it stands and whatever its environment is."""
    code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.{module} import main; main()"
    return sys.executable, "-P", "-c", code, str(folder)


class Killer:
    """Kills this process at the steps that are named in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def reached(self, steps: Iterable[str]) -> None:
        """Die here if one of the steps is to kill."""
        for step in steps:
            try:
                (self._folder / step).unlink()
            except FileNotFoundError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(
        self,
        owner: type,
        name: str,
        *,
        before: Callable[..., Iterable[str]] = lambda *_, **__: (),
        after: Callable[..., Iterable[str]] = lambda *_, **__: (),
    ) -> None:
        """Have a method come to the steps that `before` and `after` make of its arguments."""
        original = inspect.getattr_static(owner, name)

        @wraps(original)
        def wrapped(*given: Any, **named: Any) -> Any:
            self.reached(before(*given, **named))
            answer = original(*given, **named)
            self.reached(after(*given, **named))
            return answer

        @wraps(original)
        async def wrapped_async(*given: Any, **named: Any) -> Any:
            self.reached(before(*given, **named))
            answer = await original(*given, **named)
            self.reached(after(*given, **named))
            return answer

        setattr(owner, name, wrapped_async if inspect.iscoroutinefunction(original) else wrapped)
