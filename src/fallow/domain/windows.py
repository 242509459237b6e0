"""Windows of a lease: at most so long, and cut a moment before an epoch ends. Pure.

What is used in an epoch is to be settled in it. A record counts in the epoch in which ingest writes it, so a window is
over early enough for its receipt, and the settlement that follows from it, to be there in time. The node cuts, for it
alone knows when the program began; whoever pays only sees windows that are shorter than they could be.
"""

from __future__ import annotations

from typing import Final

CUT_AHEAD_MS: Final = 30_000
"""How long before an epoch's end a window is over, at least: agents that cannot reach the network try every second."""

CUT_SPREAD_MS: Final = 30_000
"""Leases are cut at different moments, so that not all of a network's receipts come at once."""


def cut_in_ms(now: int, epoch_ms: int, lease: bytes) -> int:
    """In how long a lease's window is to be over, before the epoch of the calendar ends; then in each epoch again."""
    ahead_ms = CUT_AHEAD_MS + int.from_bytes(lease[:4]) % CUT_SPREAD_MS
    return (-now - ahead_ms) % epoch_ms


def length_ms(window_ms: int, until_cut_ms: int, cuts_apart_ms: int) -> int:
    """How long the window is that begins now. Cuts come every `cuts_apart_ms`, one of them in `until_cut_ms`.

    That one may be over already (negative); without cuts (`cuts_apart_ms` 0) a window is just as long as it may be.
    """
    if not cuts_apart_ms:
        return window_ms
    return min(window_ms, until_cut_ms % cuts_apart_ms or cuts_apart_ms)


def windows_max(limit_ms: int, window_ms: int) -> int:
    """How many windows a lease can have. An epoch is no shorter than a window: no more are cut short than are whole."""
    return 2 * -(-limit_ms // window_ms) + 1
