"""What `fallow agent status` says to people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fallow.agent.policy import Unknown
from fallow.agent.policy_text import said
from fallow.agent.status import Facts
from fallow.cli.show import clean, credit_name
from fallow.cli.units import size, usd
from fallow.domain.idle_rules import RulesAsked
from fallow.domain.resources import GIB_MIB, Terms

LEASE_DIGITS = 12


class _Owner(msgspec.Struct, frozen=True):
    """Of `fallow.agent.owner.OwnerView`, what is said here."""

    reasons: list[tuple[str, str]]
    unseen: list[str]
    trouble: str
    readings: _Readings
    policy: list[str] = []
    asked: RulesAsked | None = None
    held_back: list[str] = []


class _Readings(msgspec.Struct, frozen=True):
    """Of `fallow.agent.policy.Reading`, what is said here."""

    data_bytes: int
    power_w: float | Unknown = Unknown("")


class _Status(Facts, frozen=True, kw_only=True):
    owner: _Owner | None = None


def status_text(answer: object) -> str:
    """One line a fact, of what the agent answered; what there is nothing to say of is left out."""
    status = msgspec.convert(answer, _Status)
    facts = [(name, value) for name, value in (*_machine(status), *_network(status)) if value]
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:{width}}  {clean(' '.join(value.splitlines()))}" for name, value in facts)


def _machine(status: _Status) -> Iterator[tuple[str, str]]:
    yield "node", status.node
    yield "mode", status.mode
    if status.owner is not None:
        yield "its owner's rules", " ".join([*(says for _, says in status.owner.reasons), status.owner.trouble]).strip()
        yield "in force", " ".join(status.owner.policy)
        asked = status.owner.asked
        yield "from the console", said(asked, status.owner.held_back) if asked else ""
        yield "not to be seen", " ".join(status.owner.unseen)
        power_w = status.owner.readings.power_w
        yield "draws", "" if isinstance(power_w, Unknown) else f"{power_w:.0f} W, processors and NVIDIA's cards"
        yield "moved this month", f"{status.owner.readings.data_bytes / (1 << 20):,.1f} MiB, up and down"
    yield "offered", f"{size(status.offered)}, {status.offered.disk_mib / GIB_MIB:.1f} GiB of disk"
    yield "free", f"{size(status.free)}, {status.free.disk_mib / GIB_MIB:.1f} GiB of disk"
    yield "asked", _price(status.terms) if status.terms else ""
    yield "what runs here", ", ".join(f"{name} {status.attributes[name]}" for name in status.kinds)
    yield "what does not", "; ".join(f"{name}: {why}" for name, why in status.missing.items())
    yield "roll call", "it shows the network now what it has free" if status.roll_call else ""
    yield "direct", status.direct
    yield "lent", "; ".join(f"{name}: {says}" for name, says in status.lent.items())
    yield "works on", ", ".join(lease[:LEASE_DIGITS] for lease in status.leases)
    yield "closed for", ", ".join(status.closed_for)
    if status.uploads_waiting or status.records_waiting:
        yield "to hand in", f"{len(status.uploads_waiting)} leases, {status.records_waiting} batches of records"
    yield "not taken", ", ".join(status.records_refused)
    yield "trouble", " ".join(filter(None, (status.link_trouble, status.disk_trouble, *status.lent_trouble.values())))


def _network(status: _Status) -> Iterator[tuple[str, str]]:
    yield "network", status.net
    yield "account", status.account
    if status.standing is None:
        yield "the network says", f"nothing. {status.standing_trouble}"
        return
    says = status.standing
    yield "the network says", f"{says.state}; {says.trust}, {says.confirmed} results confirmed, {says.wrong} wrong"
    yield "records refused", ", ".join(f"{one.boot}/{one.seq} {one.code}" for one in says.refused)
    earned = [f"{usd(amount)} {credit_name(name)}" for name, amount in says.usage_microusd.items() if amount]
    yield "earned by usage", ", ".join(earned) or usd(0)
    yield "earned incentive", f"in closed epochs, where tokens are minted: fallow claim --account {status.account}"


def _price(terms: Terms) -> str:
    gpu = terms.price_microusd_per_gpu_hour
    return f"{usd(terms.price_microusd_per_core_hour)} a core and hour{f', {usd(gpu)} a GPU and hour' if gpu else ''}"
