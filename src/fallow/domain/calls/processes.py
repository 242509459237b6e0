"""What the network's processes tell without being asked."""

from __future__ import annotations

HAPPENINGS = "events.public"
"""Where services tell what happens (`fallow.domain.happenings`), as JSON."""

LAG_BOUNDS_MS = (1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 200, 500, 1000, 5000)
"""Upper bounds of the classes in which a process counts how late its event loop is; a last class is above them all."""


def lag(role: str) -> str:
    """Where a process tells how late its loop was since its start: how many looks fell into each class."""
    return f"lag.{role}"


def mishaps(role: str) -> str:
    """Where a process tells what failed in it that should not have: how often, by place."""
    return f"mishaps.{role}"
