"""All nodes and open jobs together, and where the nodes are. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class AmountView(View, frozen=True, kw_only=True):
    """What many machines have together: thousandths of a core, MiB, and whole graphics processors."""

    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0


class SoldView(View, frozen=True, kw_only=True):
    """What one vertical holds of the capacity of all: on how many `nodes`, by how many `leases`, and how much."""

    nodes: int
    leases: int
    sold: AmountView


class EndedView(View, frozen=True, kw_only=True):
    """How many jobs ended with one outcome: `ever`, in the 720 hours of the last `month`, and in 24 of the last `day`.

    Hours are whole ones; the last of them is the one that runs.
    """

    ever: int
    month: int
    day: int


class NodesOnDayView(View, frozen=True, kw_only=True):
    """The most nodes that were busy or idle at once on a day (UTC) that began `at`, milliseconds since 1970."""

    at: int
    nodes: int


class MarketView(View, frozen=True, kw_only=True):
    """All nodes and open jobs together, as the market sees them `at` a moment (milliseconds since 1970).

    `nodes` counts them by state, as in `NodeView`. The rest is about those that are busy or idle: how many `owners`
    (accounts) they have, how many say which country (two letters, their owners' word) they are in, what they have
    `offered`, and what of it is `sold`: held by `leases_open`. A machine's offer is to all verticals that take orders;
    `sold_to` says which of them holds what of it. `jobs_ended` are by outcome: done, failed, cancelled. As in all that
    is told of jobs, checks that the network orders are among them, so that nobody can tell them apart. `nodes_by_day`
    are of the last 30 days; of one that is not there nothing is known.
    """

    at: int
    nodes: dict[str, int]
    owners: int
    countries: dict[str, int]
    offered: AmountView
    sold: AmountView
    jobs_open: int
    leases_open: int
    sold_to: dict[str, SoldView] = {}
    jobs_ended: dict[str, EndedView] = {}
    nodes_by_day: list[NodesOnDayView] = []


class CellView(View, frozen=True, kw_only=True):
    """Nodes in a cell of H3: how many are `open` for work, how many are `busy` with it, and thousandths of cores."""

    cell: str
    nodes: int
    open: int
    busy: int
    cpu_milli: int
    sold_milli: int


class MapView(View, frozen=True, kw_only=True):
    """Where the nodes are that can be reached `at` a moment (milliseconds since 1970), as their owners say.

    `cells` are of `resolution`, or coarser where fewer than `owners_min` accounts have nodes. The `rest` is on no cell:
    they tell no place, or are too few anywhere. `countries` is how many of the rest say which country they are in.
    """

    at: int
    resolution: int
    owners_min: int
    cells: list[CellView]
    rest: int
    countries: dict[str, int]


class NodesAtView(View, frozen=True, kw_only=True):
    """How many nodes were in each state at a time (milliseconds since 1970)."""

    at: int
    states: dict[str, int]
