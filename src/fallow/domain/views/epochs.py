"""Closed epochs. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any

from fallow.domain.views.base import View


class EpochFileView(View, frozen=True, kw_only=True):
    """A file of an epoch: bytes, SHA-256 (hex), and how many batches or records are in it."""

    name: str
    size: int
    sha256: str
    count: int


class NetworkLineView(View, frozen=True, kw_only=True):
    """The network's own line of an epoch: usage and incentives apart, what it earned and what it issued for that.

    Amounts of the token are texts, in its smallest unit: `minted` for providers, `burned`, `net` of both, and the
    `supply` after it. `revenue_microusd` are fees in credits that somebody paid for; `coverage_ppm` is that over what
    was minted, at `price_microusd` for 10^18 units; None where nothing was. `held`, `vesting` and `forfeited` are sums
    until then. Of burned credits, `unsound_microusd` follow from no burn at a price that held: there must be none.
    Buyers paid `bought_microusd` in credits that are worth something, fees included, and `test_microusd` in TEST ones.
    """

    usage_microusd: int
    revenue_microusd: int
    minted: str
    burned: str
    net: str
    supply: str
    price_microusd: int
    coverage_ppm: int | None
    held_usage_microusd: int
    forfeited_usage_microusd: int
    held: str
    vesting: str
    forfeited: str
    delegated: str = "0"
    burned_credits_microusd: int = 0
    unsound_microusd: int = 0
    bought_microusd: int = 0
    test_microusd: int = 0


class PolicyView(View, frozen=True, kw_only=True):
    """A rule that an epoch was closed under. `digest` fits one released version of its code and no other.

    Numbers among its `parameters` are text.
    """

    name: str
    version: int
    digest: str
    parameters: dict[str, Any] = {}


class EpochView(View, frozen=True, kw_only=True):
    """A closed epoch. Hashes are in hex: `statement` of its signed statement, `previous` of the one before.

    `previous` is "" where there is none, `root` where nobody is owed anything by it; `network` is the network's own
    line. All of this is a convenience: what counts is the statement itself.
    Where that or the manifest is damaged (`archive.unreadable`), `damaged` says how, and nothing else is said.
    """

    epoch: int
    from_ms: int
    until_ms: int
    statement: str
    manifest: str
    previous: str
    root: str
    batches: int
    records: int
    files: list[EpochFileView]
    damaged: str = ""
    network: NetworkLineView | None = None
    policies: list[PolicyView] = []


class EpochEndView(View, frozen=True, kw_only=True):
    """An epoch that is over, and its real bounds. Its closing goes on by itself."""

    epoch: int
    from_ms: int
    until_ms: int


class ProofView(View, frozen=True, kw_only=True):
    """What an account is owed of an asset since the beginning, in its smallest unit, and the way to the root (hex)."""

    asset: str
    cumulative: str
    proof: list[str]
