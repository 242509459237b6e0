"""Requests for what operators do to nodes and accounts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.orders import Id

ACT = "registry.act"
ACTIONS = "registry.actions"
BANS = "registry.bans"

BANNED = "registry.banned"
"""Published after a node or an account was banned, or let in again: whoever cares may look now.

It holds a list of nodes (hex) that are banned by it; of a very large account not all.
"""

ERASE = "openings.erase"

Subject = Annotated[str, Meta(pattern="^([0-9a-f]{64}|0x[0-9a-f]{40})$", max_length=64)]
"""A node's id, or an account's address."""

What = Literal["ban", "unban", "vouch", "unvouch", "erase"]


class Action(Request, frozen=True, kw_only=True):
    """What an operator does to a node or an account. `id` (32 hex digits) makes the same action count once.

    He vouches for accounts alone, and erases what is known of them beside their addresses: their owners are people or
    organisations.
    """

    id: Id
    what: What
    subject: Subject
    reason: Annotated[str, Meta(max_length=200, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]+$(?!\n)")]


class Act(Request, frozen=True, kw_only=True):
    """An action in the name of the account whose API key was used. Answered with `ActionView`."""

    account: str
    key_id: str
    action: Action


class Erased(Request, frozen=True, kw_only=True):
    """How many private values were deleted, of an account and so many nodes."""

    values: int
    nodes: int
