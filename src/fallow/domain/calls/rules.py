"""Requests for an owner's rules of a node."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.idle_rules import IdleRules, RulesAsked
from fallow.domain.orders import Id

RULES = "registry.rules"
ASK_RULES = "registry.rules.ask"


class AskRules(Request, frozen=True, kw_only=True):
    """An account asks for rules of its node, by one of its keys ("": a wallet). The same `id` again changes nothing."""

    id: Id
    account: str
    key_id: Annotated[str, Meta(max_length=100)]
    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    rules: IdleRules


class NewRules(Request, frozen=True, kw_only=True):
    """What an owner asks for in the console."""

    id: Id
    rules: IdleRules


class RulesRef(Request, frozen=True, kw_only=True):
    """The rules of a node of an account."""

    account: str
    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class TellRules(Request, frozen=True, kw_only=True):
    """The network asks a node for its rules, and hands on what its account `asked`, if anything."""

    asked: RulesAsked | None = None


def rules_of(node: str) -> str:
    """Subject on which a node answers `TellRules` with its `RulesStanding`."""
    return f"node.{node}.rules"
