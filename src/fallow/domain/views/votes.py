"""How validators voted about an epoch, and what became of its root. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class RootView(View, frozen=True, kw_only=True):
    """What became of a closed epoch's root. `root` is "" while it is not on the chain; `code` and `why` say why.

    Claims count on it from `active_at` (milliseconds since 1970) on. `transaction` is "" where others have sent it.
    """

    root: str
    active_at: int = 0
    transaction: str = ""
    code: str = ""
    why: str = ""


class WrongVoteView(View, frozen=True, kw_only=True):
    """A validator that signed another root than the one that is stated, and how they differ."""

    validator: str
    differences: list[str]


class VotesView(View, frozen=True, kw_only=True):
    """How validators voted about an epoch. `decided` says that a `quorum` signed the root that is stated.

    Who `equivocated` signed two roots, and counts for neither; both are in the file `evidence/<address>`. `published`
    says what became of the root on the network's chain, where it has one.
    """

    epoch: int
    validators: list[str]
    quorum: int
    signed: list[str]
    wrong: list[WrongVoteView]
    equivocated: list[str]
    decided: bool
    published: RootView | None = None
