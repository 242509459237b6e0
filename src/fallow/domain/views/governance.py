"""The contracts' parameters, and who can change them. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class ChangeView(View, frozen=True, kw_only=True):
    """A call that waits in the contracts' timelock, and from when it can be carried out (milliseconds since 1970)."""

    id: str
    ready_at: int
    contract: str
    call: str
    data: str


class GovernanceView(View, frozen=True, kw_only=True):
    """Parameters of the contracts by contract and name, as the chain has them, and what is about to change."""

    parameters: dict[str, dict[str, str]]
    pending: list[ChangeView]


class HolderView(View, frozen=True, kw_only=True):
    """An account that holds some of the network's token: `amount` in its smallest unit, as text."""

    account: str
    amount: str


class GovernedView(GovernanceView, frozen=True, kw_only=True):
    """The same for everybody, as it was `at` a moment (milliseconds since 1970), with who holds most of the token.

    `holders_total` accounts hold some.
    """

    at: int
    holders: list[HolderView]
    holders_total: int
