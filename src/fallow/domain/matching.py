"""Which nodes an order can run on, in which order, and for the others why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from fallow.domain.orders import Requirements
from fallow.domain.resources import Resources, Terms

GPU_MODEL, GPU_VRAM_MIB = "gpu.model", "gpu.vram_mib"
"""Attributes of offers: what each of the node's graphics processors is. They are all alike."""

_WORD = re.compile("[a-z0-9]+")
_DIGITS = re.compile("[0-9]{1,9}")

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
        ("gpu", resources.gpus <= place.total.gpus),
        ("gpu_model", not requirements.gpu_model or same_model(requirements.gpu_model, place.attributes)),
        ("vram", requirements.vram_mib <= vram_mib(place.attributes)),
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


def same_model(wanted: str, attributes: Mapping[str, str]) -> bool:
    """Whether a node's graphics processors are of the wanted model.

    Makers' words may be left out at both ends, spaces and signs anywhere: `rtx4090` and `RTX 4090` are the NVIDIA
    GeForce RTX 4090, `a100` every A100; but `l4` is no L40S.
    """
    words = _words(attributes.get(GPU_MODEL, ""))
    joined = "".join(_words(wanted))
    spans = ("".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1))
    return bool(joined) and joined in spans


def vram_mib(attributes: Mapping[str, str]) -> int:
    """Memory of each of a node's graphics processors; 0 where it says nothing of it."""
    text = attributes.get(GPU_VRAM_MIB, "")
    return int(text) if _DIGITS.fullmatch(text) else 0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
