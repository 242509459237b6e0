"""How results are checked: evidence, draws and their seeds, roll calls. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class VoteView(View, frozen=True, kw_only=True):
    """One node's word on what an item gives; `result` is the hash (hex) of its outcome document."""

    lease: str
    node: str
    account: str
    ok: bool
    reason: str
    result: str | None


class EvidenceView(View, frozen=True, kw_only=True):
    """Why a node was refused its pay: what it said, and beside it what the others said of the same item."""

    lease: str
    node: str
    at: int
    code: str
    votes: list[VoteView]


class RerunView(View, frozen=True, kw_only=True):
    """What running an item again has shown: two nodes gave the same bytes, or did not, which proves nothing.

    `lease` is the first node's. `program` names what an `account` had run. `suspects` are those of the two nodes at
    which all re-runs of the program hint now.
    """

    lease: str
    at: int
    account: str
    program: str
    nodes: list[str]
    same: bool
    suspects: list[str]


class SeedPartView(View, frozen=True, kw_only=True):
    """What a validator adds to a seed: its signed `pledge` (hex), and its `part` (hex) once it has shown it."""

    validator: str
    pledge: str
    part: str | None


class SeedPartsView(View, frozen=True, kw_only=True):
    """Who adds to the seed of an epoch of draws. A part is shown before the epoch begins, or does not count."""

    number: int
    parts: list[SeedPartView]


class SeedView(View, frozen=True, kw_only=True):
    """An epoch of draws.

    `commitment` (hex) is a `Commitment`, signed by the network's key. `seed` (hex) is the operator's part, shown once
    the epoch is over: all that is drawn from, unless validators added parts.
    """

    number: int
    commitment: str
    opened_at: int | None
    closed_at: int | None
    seed: str | None


class DrawView(View, frozen=True, kw_only=True):
    """One draw about a lease: whether its result is checked, or whether its node is given known work next."""

    number: int
    lease: str
    purpose: str
    node: str
    at: int
    one_in: int
    hit: bool


class SaidView(View, frozen=True, kw_only=True):
    """What came of one node's part in a roll call.

    `reason` is empty when it answered well, `answer` is what it signed (hex). `per_mille` is how fast it was, where a
    thousand is what it does alone.
    """

    node: str
    cpu_milli: int
    reason: str
    units: int
    elapsed_ms: int
    per_mille: int | None
    answer: str


class RollCallView(View, frozen=True, kw_only=True):
    """A moment at which nodes had to show what they have free. `found` are nodes that it convicts, with the code.

    `kind`: `group` was drawn, `again` are those who were slow in one, `alone` is a node by itself.
    """

    id: str
    at: int
    kind: str
    said: list[SaidView]
    found: dict[str, str]
