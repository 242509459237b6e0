"""What the same work costs elsewhere: prices with their source and date, and the arithmetic, pure.

The comparison is per delivered unit: what was done and can be used, whatever was bought besides to get it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import ItemState
from fallow.domain.orders import Order
from fallow.domain.resources import GIB_MIB
from fallow.domain.views import ItemView, LeaseView

HOUR_MS = 3_600_000
NANOUSD = 10**9
NANO_DIGITS = 9

Kind = Literal["on-demand", "spot", "market"]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody else asks, as the price file has it: US dollars as text.

    `as_of` (YYYY-MM-DD) is the day of `source`; `market` prices are what owners ask, `spot` may be taken away.
    """

    name: str
    kind: Kind
    source: str
    as_of: str
    note: str = ""
    vcpu_hour_usd: str = ""
    gib_hour_usd: str = ""
    gpu_hour_usd: dict[str, str] = {}
    storage_gb_month_usd: str = ""
    egress_gb_usd: str = ""

    @property
    def sells_cores(self) -> bool:
        """Whether it sells cores and memory one by one, and not only by the graphics card."""
        return bool(self.vcpu_hour_usd and self.gib_hour_usd)


class Delivered(NamedTuple):
    """Core-milliseconds (of a thousandth of a core) and MiB-milliseconds of work that was done and can be used."""

    cpu_milli_ms: int = 0
    mib_ms: int = 0

    def plus(self, other: Delivered) -> Delivered:
        """Return the sum."""
        return Delivered(self.cpu_milli_ms + other.cpu_milli_ms, self.mib_ms + other.mib_ms)


def read_offers(data: Mapping[str, Any]) -> list[Offer]:
    """Read a decoded price file.

    Raises:
        InvalidInput: it is malformed, or an amount is no number of US dollars.
    """
    try:
        offers = msgspec.convert(data.get("offer", []), list[Offer])
    except msgspec.ValidationError as error:
        raise InvalidInput("prices.malformed", f"The price file is not valid: {error}.") from error
    for offer in offers:
        amounts = (offer.vcpu_hour_usd, offer.gib_hour_usd, offer.storage_gb_month_usd, offer.egress_gb_usd)
        for amount in (*offer.gpu_hour_usd.values(), *filter(None, amounts)):
            nanousd(amount)
    return offers


def nanousd(text: str) -> int:
    """Billionths of a US dollar in an amount like `0.0013335`.

    Raises:
        InvalidInput: it is none, or finer than a billionth.
    """
    whole, _, rest = text.partition(".")
    if not (whole + rest).isdecimal() or not whole or len(rest) > NANO_DIGITS:
        raise InvalidInput("prices.amount", f"{text[:40]!r} is no amount of US dollars.")
    return int(whole) * NANOUSD + int(rest.ljust(NANO_DIGITS, "0"))


def cost_microusd(offer: Offer, delivered: Delivered) -> int:
    """What the same core-time and memory-time costs there, in micro-US-dollars, rounded up once."""
    cores = nanousd(offer.vcpu_hour_usd) * delivered.cpu_milli_ms * GIB_MIB
    memory = nanousd(offer.gib_hour_usd) * delivered.mib_ms * 1000
    return -(-(cores + memory) // (1000 * GIB_MIB * HOUR_MS * 1000))


def delivered_by(order: Order, items: Iterable[ItemView], leases: Iterable[LeaseView]) -> Delivered:
    """What a job delivered, by its items and leases.

    Of an item that is done it is the lease whose result is the item's, and what earlier ones had saved in checkpoints;
    replicas, checks, and time that was lost or led to no result are none. A process that runs until it is stopped
    delivers all of its time.
    """
    nodes = {item.index: item.node for item in items if item.state == ItemState.DONE}
    ms = dict.fromkeys(nodes, 0)
    saved_ms = dict.fromkeys(nodes, 0)
    for lease in leases:
        if lease.item not in nodes:
            continue
        if order.until_stopped:
            ms[lease.item] += lease.used_ms
        elif lease.node == nodes[lease.item] and not lease.reason:
            ms[lease.item] = max(ms[lease.item], lease.used_ms)
        else:
            saved_ms[lease.item] += lease.saved_ms
    total_ms = sum(ms.values()) + sum(saved_ms.values())
    return Delivered(order.requirements.cpu_milli * total_ms, order.requirements.memory_mib * total_ms)
