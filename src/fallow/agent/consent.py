"""What the owner agreed to: shown before the machine joins, signed, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fallow.agent.home import Settings
from fallow.domain.resources import GIB_MIB
from fallow.domain.signing import Signed
from fallow.ports.vertical.plugin import Vertical, borrows, takes_orders

MICROUSD_PER_USD = 1_000_000


class Consent(Signed, frozen=True, kw_only=True):
    """The owner's yes to `text`, word by word, signed with the node's key. It stays on the machine."""

    tag: ClassVar[str] = "fallow/consent/1"
    net: str
    node: bytes
    at: int
    text: str


def consent_text(
    *, url: str, net: str, home: str, verticals: Mapping[str, Vertical], settings: Settings, lent: Sequence[str] = ()
) -> str:
    """What will run, what it may use, what is `lent` beside, and what leaves through the owner's line."""
    programs = [name for name, vertical in verticals.items() if takes_orders(vertical)]
    others = [
        name
        for name, vertical in verticals.items()
        if name not in programs and (name in settings.lends or not borrows(vertical))
    ]
    offer = settings.total
    price = settings.terms.price_microusd_per_core_hour / MICROUSD_PER_USD
    gpus = f", and {offer.gpus} graphics processors" if offer.gpus else ""
    gpu_usd = settings.terms.price_microusd_per_gpu_hour / MICROUSD_PER_USD
    gpu_price = f", {gpu_usd:g} for each graphics processor" if offer.gpus else ""
    return "\n".join(
        [
            f"This machine joins the network {net!r} at {url}.",
            "",
            f"What will run: programs of the network's buyers ({', '.join(programs) or 'none yet'}),",
            "  each in a sandbox: no network, none of your files, a folder of its own that is wiped afterwards.",
            *([f"What runs beside, and is no buyer's: {', '.join(others)}."] if others else []),
            f"What it may use: up to {offer.cpu_milli / 1000:g} cores, {_gib(offer.memory_mib)} of memory",
            f"  and {_gib(offer.disk_mib)} of disk under {home}{gpus}.",
            *(f"What is lent beside: {sentence}" for sentence in lent),
            "What leaves through your line: what programs compute, write and save, also while they run, and what their",
            "  buyers exchange with them; signed records (what you offer, work done, when); a sign of life every few",
            f"  seconds; this machine's {_of_the_machine(settings)}.",
            f"  The network sees the address of your line.{_place(settings)}",
            "Connections are made from here to the network, and to public registries for the images of containers that",
            f"  buyers name. {_listens(settings.direct)}",
            f"What you ask: {price:g} US dollars an hour for each core{gpu_price}{_spot(settings)}.",
            "You can end it at any time: fallow agent pause, drain, or leave.",
        ]
    )


def _gib(mib: int) -> str:
    return f"{round(mib / GIB_MIB, 1):g} GiB"


def _of_the_machine(settings: Settings) -> str:
    named = f"label {settings.label!r}, " if settings.label else ""
    return f"{named}size, kind, processor, system, versions and a benchmark"


def _place(settings: Settings) -> str:
    """Where the machine is, as far as its owner tells it."""
    country = f"country {settings.country}" if settings.country else ""
    cell = f"H3 cell {settings.cell} (250 km2 or more)" if settings.cell else ""
    told = " and ".join(filter(None, (country, cell)))
    return f" Anybody can read its {told}." if told else ""


def _spot(settings: Settings) -> str:
    if settings.spot is None:
        return ""
    price = settings.spot.price_microusd_per_core_hour / MICROUSD_PER_USD
    return f", or {price:g} for work that may be ended for work at the full price"


def _listens(direct: str) -> str:
    if not direct:
        return "Nothing listens here."
    return (
        f"This machine listens at {direct}:\n"
        "  buyers whose work runs here, or who use what is lent, learn its address, so that bytes need no detour.\n"
        "  Who shows no ticket of the network for this machine is refused."
    )
