"""The network's own processes. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class BlobsView(View, frozen=True, kw_only=True):
    """What this gateway last found when it looked for blobs that nobody needs: times in milliseconds since 1970.

    `kept` and `kept_bytes` stayed, `removed` and `removed_bytes` went. `looked_at` is None before the first look is
    over; `trouble` says why the latest one came to nothing.
    """

    keep_days: int
    looked_at: int | None = None
    kept: int = 0
    kept_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    trouble: str = ""


class MishapView(View, frozen=True, kw_only=True):
    """How often something failed unexpectedly at a place in a role's process, since that started: each is a bug."""

    role: str
    place: str
    count: int


class ProcessView(View, frozen=True, kw_only=True):
    """A process of the network that is heard, the roles that it runs, and how long ago it was heard (milliseconds).

    In 99 of 100 looks since its start its event loop was at most `late_ms` late; None where that is not told.
    """

    name: str
    copy: int
    roles: list[str]
    silent_ms: int
    late_ms: int | None = None


class NumberView(View, frozen=True, kw_only=True):
    """A number that a process tells of itself, named as at `/metrics`; `process` has its copy behind it."""

    name: str
    process: str
    labels: dict[str, str]
    value: float


class RunningView(View, frozen=True, kw_only=True):
    """Which roles run, in how many processes each (0: one that should and does not), and what these tell of themselves.

    Histograms are at `/metrics` alone.
    """

    roles: dict[str, int]
    processes: list[ProcessView]
    numbers: list[NumberView]
