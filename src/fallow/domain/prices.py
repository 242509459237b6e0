"""What the same work costs elsewhere: prices with their source and date, and the arithmetic, pure.

The comparison is per delivered unit: what was done and can be used, whatever was bought besides to get it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import ItemState
from fallow.domain.leases import WORK_DONE
from fallow.domain.orders import Order
from fallow.domain.resources import GIB_MIB
from fallow.domain.views.jobs import ItemView, LeaseView

HOUR_MS = 3_600_000
MONTH_HOURS = 730
GB_BYTES = 10**9
GIB_BYTES = 1 << 30
NANOUSD = 10**9
NANO_DIGITS = 9

Kind = Literal["on-demand", "spot", "market"]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody else asks, as the price file has it: US dollars as text.

    `as_of` (YYYY-MM-DD) is the day of `source`; `market` prices are what owners ask, `spot` may be taken away.
    `binary_gb`: its GB of storage and traffic are of 2**30 bytes. `egress_free_times_stored`: so many times what is
    stored can be sent out a month without a charge.
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
    binary_gb: bool = False
    egress_free_times_stored: int = 0

    @property
    def sells_cores(self) -> bool:
        """Whether it sells cores and memory one by one, and not only by the graphics card."""
        return bool(self.vcpu_hour_usd and self.gib_hour_usd)

    @property
    def sells_storage(self) -> bool:
        """Whether what is stored there, and read from there, has a price."""
        return bool(self.storage_gb_month_usd and self.egress_gb_usd)

    @property
    def by_model(self) -> dict[str, str]:
        """Price of a graphics processor and hour, by the plain name of its model."""
        return {plain_model(model): amount for model, amount in self.gpu_hour_usd.items()}

    def sells(self, delivered: Delivered) -> bool:
        """Whether all of it can be had there."""
        cores = self.sells_cores or not delivered.cpu_milli_ms
        return cores and all(model in self.by_model for model, _ in delivered.gpu_ms)


class Delivered(NamedTuple):
    """Work that was done and can be used: milliseconds of a thousandth of a core, of a MiB, of a graphics processor.

    Where graphics processors (by the plain name of their model) did it, cores and memory are not counted besides: they
    are part of the price wherever such processors are let.
    """

    cpu_milli_ms: int = 0
    mib_ms: int = 0
    gpu_ms: tuple[tuple[str, int], ...] = ()

    def plus(self, other: Delivered) -> Delivered:
        """Return the sum."""
        gpus: dict[str, int] = {}
        for model, ms in (*self.gpu_ms, *other.gpu_ms):
            gpus[model] = gpus.get(model, 0) + ms
        cores, memory = self.cpu_milli_ms + other.cpu_milli_ms, self.mib_ms + other.mib_ms
        return Delivered(cores, memory, tuple(sorted(gpus.items())))


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
    """What the same costs there, in micro-US-dollars, rounded up once.

    Raises:
        InvalidInput: it does not sell all of that.
    """
    if not offer.sells(delivered):
        raise InvalidInput("prices.not_sold", f"{offer.name} does not sell all of this.")
    cores = nanousd(offer.vcpu_hour_usd or "0") * delivered.cpu_milli_ms * GIB_MIB
    memory = nanousd(offer.gib_hour_usd or "0") * delivered.mib_ms * 1000
    gpus = sum(nanousd(offer.by_model[model]) * ms for model, ms in delivered.gpu_ms) * 1000 * GIB_MIB
    return -(-(cores + memory + gpus) // (1000 * GIB_MIB * HOUR_MS * 1000))


def storage_cost_microusd(offer: Offer, stored_byte_hours: int, egress_bytes: int) -> int:
    """What storing and reading so many bytes costs there, in micro-US-dollars, rounded up once.

    A month is a twelfth of a year. Requests, least times and least sizes are not counted.

    Raises:
        InvalidInput: it sells no storage.
    """
    if not offer.sells_storage:
        raise InvalidInput("prices.not_sold", f"{offer.name} does not sell all of this.")
    paid = max(0, egress_bytes * MONTH_HOURS - offer.egress_free_times_stored * stored_byte_hours)
    nano = nanousd(offer.storage_gb_month_usd) * stored_byte_hours + nanousd(offer.egress_gb_usd) * paid
    return -(-nano // (MONTH_HOURS * (GIB_BYTES if offer.binary_gb else GB_BYTES) * 1000))


def plain_model(model: str) -> str:
    """Return a model's name without its maker's words, spaces and signs: `NVIDIA GeForce RTX 4090` is `rtx4090`."""
    letters = "".join(letter for letter in model.lower() if letter.isalnum())
    return letters.removeprefix("nvidia").removeprefix("geforce")


def delivered_by(order: Order, items: Iterable[ItemView], leases: Iterable[LeaseView]) -> Delivered:
    """What a job delivered, by its items and leases.

    Of an item that is done it is the lease whose result is the item's, and what earlier ones had saved in checkpoints;
    replicas, checks, and time that was lost or led to no result are none, nor is more than the buyer pays for: where
    the result is a checking node's, its time was the network's. A process that runs until it is stopped delivers all of
    its time.
    """
    done = [item for item in items if item.state == ItemState.DONE]
    nodes = {item.index: item.node for item in done}
    ms = dict.fromkeys(nodes, 0)
    saved_ms = dict.fromkeys(nodes, 0)
    for lease in leases:
        if lease.item not in nodes:
            continue
        if order.until_stopped:
            ms[lease.item] += lease.used_ms
        elif lease.node == nodes[lease.item] and lease.reason == WORK_DONE:
            ms[lease.item] = max(ms[lease.item], lease.used_ms)
        else:
            saved_ms[lease.item] += lease.saved_ms
    total_ms = sum(min(item.used_ms, ms[item.index] + saved_ms[item.index]) for item in done)
    needs = order.requirements
    if needs.gpus:
        return Delivered(gpu_ms=((plain_model(needs.gpu_model), needs.gpus * total_ms),))
    return Delivered(needs.cpu_milli * total_ms, needs.memory_mib * total_ms)
