"""Which nodes an order can run on, in which order, and for the others why not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from fallow.domain.orders import Requirements
from fallow.domain.resources import Resources, Terms

BUSY = "busy"
"""The obstacle of a node that fits, but not now."""


class Place(NamedTuple):
    """A node as the matcher sees it.

    `here` says that it is online and its offer open, `suspended` that it gave wrong results lately, `banned` that the
    operator shut it out. `network` is from where the network itself sees it connect (`fallow.domain.networks`); ""
    where that is not known.
    """

    node: bytes
    here: bool
    suspended: bool
    total: Resources
    free: Resources
    terms: Terms
    attributes: Mapping[str, str]
    country: str
    banned: bool = False
    network: str = ""


class Wish(NamedTuple):
    """What is to be placed: the buyer's requirements, what the work itself needs, and the highest price per hour."""

    requirements: Requirements
    attributes: Mapping[str, str]
    max_price_microusd_per_hour: int


def obstacles(place: Place, wish: Wish) -> tuple[str, ...]:
    """Names of all requirements that turn this node away; empty when it fits. BUSY comes alone."""
    requirements = wish.requirements
    resources = requirements.resources
    node = place.node.hex()
    wanted = {**requirements.attributes, **wish.attributes}
    price = place.terms.price_microusd_per_hour(resources)
    checks = (
        ("offline", place.here),
        ("suspended", not place.suspended),
        ("banned", not place.banned),
        ("cpu", resources.cpu_milli <= place.total.cpu_milli),
        ("memory", resources.memory_mib <= place.total.memory_mib),
        ("disk", resources.disk_mib <= place.total.disk_mib),
        ("country", not requirements.countries or place.country in requirements.countries),
        ("not_allowed", not requirements.nodes_allowed or node in requirements.nodes_allowed),
        ("denied", node not in requirements.nodes_denied),
        ("price", price <= wish.max_price_microusd_per_hour),
        *((f"attribute:{name}", place.attributes.get(name) == value) for name, value in sorted(wanted.items())),
    )
    failed = tuple(name for name, holds in checks if not holds)
    if not failed and not place.free.holds(resources):
        return (BUSY,)
    return failed


def candidates(places: Iterable[Place], wish: Wish) -> list[Place]:
    """Nodes that can take it now: cheapest first, then the tightest fit, so that large gaps stay whole."""
    resources = wish.requirements.resources
    fitting = [place for place in places if not obstacles(place, wish)]
    return sorted(
        fitting,
        key=lambda place: (
            place.terms.price_microusd_per_hour(resources),
            place.free.cpu_milli - resources.cpu_milli,
            place.free.memory_mib - resources.memory_mib,
            place.node,
        ),
    )


def why_not(places: Iterable[Place], wish: Wish) -> dict[str, int]:
    """How many nodes each requirement turns away; a node counts under every requirement that it fails."""
    counts: dict[str, int] = {}
    for place in places:
        for name in obstacles(place, wish):
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def room(place: Place, resources: Resources, shunned: Collection[bytes]) -> bool:
    """Whether one more lease of `resources` fits on a candidate."""
    return place.node not in shunned and place.free.holds(resources)
