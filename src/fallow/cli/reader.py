"""Who reads what a command prints."""

from __future__ import annotations

from rich.console import Console


class Reader(Console):
    """Who reads results. One that reads no more ends the command as `main` says, not as rich does."""

    def on_broken_pipe(self) -> None:
        """Say it as what is printed without rich does."""
        raise BrokenPipeError
