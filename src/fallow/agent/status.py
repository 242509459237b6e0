"""How an agent is doing, and why it is idle."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from fallow.agent.consent import MICROUSD_PER_USD
from fallow.agent.owner import OwnerView
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.nodes import StandingView


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `fallow agent status` shows, but for the owner's rules.

    `kinds` are those of work that run here; `missing` says which do not, and why.
    `closed_for` are the codes of all that keeps new work away now, and `uploads_waiting` the finished leases that wait
    for the network; `asked` are the terms as the owner set them, `terms` what is asked in fact. `standing` is how the
    network sees this node; where it does not say so, `standing_trouble` tells why not. `roll_call` says
    that it shows the network just now what it has free.
    `direct` says whether buyers reach this machine itself; "" where they are not let in. `lent` says by vertical how it
    goes with what is lent beside leases, `lent_trouble` what is wrong there.
    """

    node: str
    net: str
    account: str
    mode: str
    boot: int
    offered: Resources
    free: Resources
    leases: list[str]
    records_waiting: int
    records_refused: list[str]
    link_trouble: str
    disk_trouble: str
    attributes: dict[str, str]
    kinds: list[str]
    missing: dict[str, str]
    closed_for: list[str] = []
    uploads_waiting: list[str] = []
    asked: Terms | None = None
    terms: Terms | None = None
    standing: StandingView | None = None
    standing_trouble: str = ""
    roll_call: bool = False
    direct: str = ""
    lent: dict[str, str] = {}
    lent_trouble: dict[str, str] = {}


class Status(Facts, frozen=True, kw_only=True):
    """All of it. `owner` is how his rules stand."""

    owner: OwnerView | None = None


def why_idle(status: Status, now: int) -> list[str]:
    """Sentences on what keeps work away, the strongest first. `now` is in milliseconds since 1970."""
    reasons = {
        "It is paused. Run: fallow agent resume": status.mode == "paused",
        "It finishes what runs and takes nothing new. Run: fallow agent resume": status.mode == "draining",
        f"The network cannot be reached: {status.link_trouble}": bool(status.link_trouble),
        f"Records cannot be written ({status.disk_trouble}), so nothing can be accepted.": bool(status.disk_trouble),
        f"The network refused {len(status.records_refused)} batches of records; the offer may be among them.": bool(
            status.records_refused
        ),
        "So many records wait for the network that nothing new is taken.": "agent.outbox_full" in status.closed_for,
        f"Too much finished work waits for the network: {len(status.uploads_waiting)} leases.": (
            "agent.uploads_full" in status.closed_for
        ),
        "The disk is full, so that nothing new is taken. Free some space.": "agent.disk_full" in status.closed_for,
        "Nothing that is offered is free: it is not idle.": bool(status.leases) and status.free.cpu_milli <= 0,
        "No kind of work can run here; see `missing` in the status.": not any(
            "." in name for name in status.attributes
        ),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if status.owner is not None:
        rules = [f"{sentence} [{code}]" for code, sentence in status.owner.reasons]
        found = [*rules, *found, *([status.owner.trouble] if status.owner.trouble else [])]
    found += _network_says(status, now)
    if not found and status.leases:
        return []
    if status.roll_call:
        found = ["The network checks for a second what this machine has free; paid work comes before that.", *found]
    if not found:
        found = ["Nothing is in the way here: the network has no work that fits this machine's offer and price now."]
    return [*found, *_dearer(status)]


def _network_says(status: Status, now: int) -> list[str]:
    """What keeps work away on the network's side, or that it does not say so."""
    standing = status.standing
    if standing is None:
        return [f"How the network sees this machine is not known: {status.standing_trouble}"] * (
            not status.link_trouble and bool(status.standing_trouble)
        )
    found = {
        "Its operator has banned this machine, or the account that it earns for.": standing.state == "banned",
        "The network has not taken an offer of this machine yet.": standing.state == "unknown",
        "The network has not heard of this machine for a while.": standing.state == "offline",
        f"It was found wrong ({standing.why}); work comes again at {_when(standing.suspended_until)}.": (
            standing.suspended_until > now
        ),
        f"It turned work down; it is asked again at {_when(standing.left_alone_until)}.": (
            standing.left_alone_until > now
        ),
    }
    refused = ", ".join(sorted({one.code for one in standing.refused if one.boot == status.boot}))
    told = [f"The network refused records of this run: {refused}."] if refused else []
    return [*(sentence for sentence, holds in found.items() if holds), *told]


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S UTC")


def _dearer(status: Status) -> list[str]:
    """What the owner's figures for electricity and wear do to the price."""
    if status.asked is None or status.terms is None or status.asked == status.terms:
        return []
    asked, fact = (terms.price_microusd_per_core_hour / MICROUSD_PER_USD for terms in (status.asked, status.terms))
    return [f"You ask {asked:g} US dollars for a core and hour, but electricity and wear cost more: {fact:g} is asked."]
