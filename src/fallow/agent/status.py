"""How an agent is doing, and why it is idle."""

from __future__ import annotations

import msgspec

from fallow.agent.owner import OwnerView
from fallow.domain.resources import Resources


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `fallow agent status` shows.

    `kinds` are those of work that run here; `missing` says which do not, and why. `owner` is how his rules stand.
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
    owner: OwnerView | None = None


def why_idle(status: Status) -> list[str]:
    """Sentences on what keeps work away, the strongest first."""
    reasons = {
        "It is paused. Run: fallow agent resume": status.mode == "paused",
        "It finishes what runs and takes nothing new. Run: fallow agent resume": status.mode == "draining",
        f"The network cannot be reached: {status.link_trouble}": bool(status.link_trouble),
        f"Records cannot be written ({status.disk_trouble}), so nothing can be accepted.": bool(status.disk_trouble),
        f"The network refused {len(status.records_refused)} batches of records; the offer may be among them.": bool(
            status.records_refused
        ),
        "Nothing that is offered is free: it is not idle.": bool(status.leases) and status.free.cpu_milli <= 0,
        "No kind of work can run here; see `missing` in the status.": not any(
            "." in name for name in status.attributes
        ),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if status.owner is not None:
        rules = [f"{sentence} [{code}]" for code, sentence in status.owner.reasons]
        found = [*rules, *found, *([status.owner.trouble] if status.owner.trouble else [])]
    if found or status.leases:
        return found
    return ["Nothing is in the way here: the network has no work that fits this machine's offer and price now."]
