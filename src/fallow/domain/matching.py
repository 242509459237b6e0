"""Which nodes an order can run on, in which order, and for the others why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fallow.domain.identity import address_text
from fallow.domain.orders import Requirements
from fallow.domain.places import is_near
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import LEVELS, NEW, OWN

GPU_MODEL, GPU_VRAM_MIB = "gpu.model", "gpu.vram_mib"
"""Attributes of offers: what each of the node's graphics processors is. They are all alike."""

_WORD = re.compile("[a-z0-9]+")
_DIGITS = re.compile("[0-9]{1,9}")

BUSY = "busy"
"""The obstacle of a node that fits, but not now."""


class Place(NamedTuple):
    """A node as the matcher sees it.

    `here` says that it is online and its offer open, `suspended` that it gave wrong results lately, `banned` that the
    operator shut it out, and `trust` what it is to everybody (one of `LEVELS`, never OWN). It earns for `account`.
    `network` is from where the network itself sees it connect (`fallow.domain.networks`); "" where that is not known.
    `holds` says that it has the inputs of what is to be placed already, and `spot` are its terms for leases that may be
    ended for others. `cell` is where its owner says that it is; "" where he does not.
    """

    node: bytes
    here: bool
    suspended: bool
    total: Resources
    free: Resources
    terms: Terms
    attributes: Mapping[str, str]
    country: str
    trust: str
    banned: bool = False
    account: bytes = b""
    network: str = ""
    holds: bool = False
    spot: Terms | None = None
    cell: str = ""


class Wish(NamedTuple):
    """What is to be placed: the buyer's requirements, what the work itself needs, and the highest price per hour.

    `buyer` is whose own nodes count as such. It is empty where no level is asked for, so that buyers who wish the same
    share one look at the nodes.
    """

    requirements: Requirements
    attributes: Mapping[str, str]
    max_price_microusd_per_hour: int
    trust_min: str = NEW
    spot: bool = False
    buyer: bytes = b""


def price_of(place: Place, wish: Wish) -> int:
    """What a node asks per hour for what is wished, on demand or as spot."""
    terms = place.spot if wish.spot and place.spot is not None else place.terms
    return terms.price_microusd_per_hour(wish.requirements.resources)


def trust_for(place: Place, wish: Wish) -> str:
    """What a node is to who wishes: OWN where it earns for his own account."""
    return OWN if wish.buyer and place.account == wish.buyer else place.trust


def obstacles(place: Place, wish: Wish) -> tuple[str, ...]:
    """Names of all requirements that turn this node away; empty when it fits. BUSY comes alone."""
    failed = (*_of_the_moment(place, wish), *_of_the_offer(place, wish))
    if not failed and not place.free.holds(wish.requirements.resources):
        return (BUSY,)
    return failed


def fits(place: Place, wish: Wish) -> bool:
    """Whether there are no obstacles; cheaper than naming them all."""
    return (
        not any(_of_the_moment(place, wish))
        and place.free.holds(wish.requirements.resources)
        and not any(_of_the_offer(place, wish))
    )


def _of_the_moment(place: Place, wish: Wish) -> Iterator[str]:
    if not place.here:
        yield "offline"
    if place.suspended:
        yield "suspended"
    if place.banned:
        yield "banned"
    if LEVELS.index(trust_for(place, wish)) < LEVELS.index(wish.trust_min):
        yield "trust"


def _of_the_offer(place: Place, wish: Wish) -> Iterator[str]:
    requirements, total = wish.requirements, place.total
    if requirements.cpu_milli > total.cpu_milli:
        yield "cpu"
    if requirements.memory_mib > total.memory_mib:
        yield "memory"
    if requirements.disk_mib > total.disk_mib:
        yield "disk"
    yield from _of_its_gpus(place, requirements)
    if requirements.countries and place.country not in requirements.countries:
        yield "country"
    if requirements.near and not is_near(place.cell, requirements.near, requirements.within_km):
        yield "near"
    yield from _of_the_node(place, requirements)
    wanted = {**requirements.attributes, **wish.attributes}
    if not wanted.items() <= place.attributes.items():
        yield from (f"attribute:{name}" for name in sorted(wanted) if place.attributes.get(name) != wanted[name])
    if wish.spot and place.spot is None:
        yield "spot"
    if price_of(place, wish) > wish.max_price_microusd_per_hour:
        yield "price"


def _of_its_gpus(place: Place, requirements: Requirements) -> Iterator[str]:
    if requirements.gpus > place.total.gpus:
        yield "gpu"
    if requirements.gpu_model and not same_model(requirements.gpu_model, place.attributes):
        yield "gpu_model"
    if requirements.vram_mib and requirements.vram_mib > vram_mib(place.attributes):
        yield "vram"


def _of_the_node(place: Place, requirements: Requirements) -> Iterator[str]:
    if not requirements.nodes_allowed and not requirements.nodes_denied:
        return
    names = {place.node.hex(), address_text(place.account)}
    if requirements.nodes_allowed and names.isdisjoint(requirements.nodes_allowed):
        yield "not_allowed"
    if not names.isdisjoint(requirements.nodes_denied):
        yield "denied"


Rank = tuple[int, int, bool, int, int, int, bytes]


def rank(place: Place, wish: Wish) -> Rank:
    """Where a node stands among those that fit; the lowest is asked first, and no two nodes have the same.

    The price decides alone: a buyer who wants more than that asks for it (`trust_min`), and does not pay for it
    unasked. At one price those that have shown more come first, then those that need not fetch the inputs, then the
    tightest fit, so that large gaps stay whole. (Decision: docs/adr/0017-who-gets-an-order.md.)
    """
    resources = wish.requirements.resources
    return (
        price_of(place, wish),
        -LEVELS.index(place.trust),
        not place.holds,
        place.free.gpus - resources.gpus,
        place.free.cpu_milli - resources.cpu_milli,
        place.free.memory_mib - resources.memory_mib,
        place.node,
    )


def candidates(places: Iterable[Place], wish: Wish) -> list[Place]:
    """Nodes that can take it now, in the order of their rank."""
    fitting = [place for place in places if fits(place, wish)]
    return sorted(fitting, key=lambda place: rank(place, wish))


def why_not(places: Iterable[Place], wish: Wish) -> dict[str, int]:
    """How many nodes each requirement turns away; a node counts under every requirement that it fails."""
    counts: dict[str, int] = {}
    for place in places:
        for name in obstacles(place, wish):
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


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
