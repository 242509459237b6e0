"""What operators see of nodes and accounts, and of what was done to them. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class EnrolledView(View, frozen=True, kw_only=True):
    """An enrolled node as the operator sees it.

    `banned_reason` is empty unless it, or its account, is banned, `vouched_reason` unless its owner is vouched for.
    """

    node: str
    label: str
    account: str
    enrolled_at: int
    banned_reason: str
    vouched_reason: str = ""


class BanView(View, frozen=True, kw_only=True):
    """A node (its id) or an account (0x...) that is banned itself, and why. An account's machines are, with it."""

    subject: str
    reason: str


class ActionView(View, frozen=True, kw_only=True):
    """What a person did: the account that acted, by which of its API keys, to which node or account, and why.

    `subject` is empty where it was done to neither. `about` is what else it was about: a key's public part, the
    beginning of a join token's SHA-256, an epoch, micro-US-dollars, a job.
    """

    id: str
    at: int
    account: str
    key_id: str
    what: str
    subject: str
    reason: str
    about: str = ""
