"""The network's verticals, for everybody: what each did in the latest epochs, by sums that the epochs' closer made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from fallow.domain.decoding import UNREADABLE
from fallow.domain.epochs.by_vertical import NETWORKS, NETWORKS_BYTES_MAX, VerticalSums
from fallow.domain.epochs.manifest import path_of
from fallow.domain.errors import NotFound
from fallow.domain.network_views import (
    RivalView,
    ShownNumberView,
    VerticalEpochView,
    VerticalView,
)
from fallow.domain.prices import (
    GB_BYTES,
    MONTH_HOURS,
    Delivered,
    Offer,
    cost_microusd,
    storage_cost_microusd,
)
from fallow.domain.views.epochs import EpochView
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.epochs import archive_of, listed
from fallow.http.gateway import Gateway
from fallow.http.params import Parts
from fallow.http.prices import meters_of, next_tariff
from fallow.http.shared import Ready
from fallow.ports.archive import Archive, whole
from fallow.ports.vertical.plugin import Vertical, takes_orders

EPOCHS_SHOWN: Final = 31
TERABYTE: Final = 1000 * GB_BYTES
NOTHING: Final = VerticalSums(vertical="", fees_microusd=0)

_log = logging.getLogger(__name__)


@get("/v1/networks", guards=[anyone], responses=public(404), tags=["network"])
async def networks(gateway: Parts, request: Request[Any, Any, Any]) -> Response[list[VerticalView]]:
    """The kinds of infrastructure of this network: what each did, what it costs, and what the same costs elsewhere."""
    return Ready(await gateway.shared.answer("/v1/networks", partial(_views, gateway)), request)


async def _views(gateway: Gateway) -> list[VerticalView]:
    epochs = await asyncio.to_thread(_added_up, gateway)
    return [_view(gateway, vertical, epochs) for _, vertical in sorted(gateway.verticals.items())]


Epochs = Sequence[tuple[EpochView, Mapping[str, VerticalSums] | None]]


def _added_up(gateway: Gateway) -> Epochs:
    archive = archive_of(gateway)
    shown = [one for one in listed(gateway, 2**53, EPOCHS_SHOWN) if not one.damaged]
    return [(one, _sums(archive, one.epoch)) for one in shown]


def _sums(archive: Archive, epoch: int) -> Mapping[str, VerticalSums] | None:
    try:
        return _read(whole(archive, path_of(epoch, NETWORKS), NETWORKS_BYTES_MAX))
    except NotFound:
        return None


@lru_cache(2 * EPOCHS_SHOWN)
def _read(data: bytes) -> Mapping[str, VerticalSums] | None:
    try:
        return {one.vertical: one for one in msgspec.json.decode(data, type=list[VerticalSums])}
    except UNREADABLE as error:  # nobody signs them: a page does without
        _log.warning("what an epoch's verticals did cannot be read: %s", error)
        return None


def _view(gateway: Gateway, vertical: Vertical, epochs: Epochs) -> VerticalView:
    name = vertical.name
    shown = [
        VerticalEpochView(
            epoch=one.epoch,
            from_ms=one.from_ms,
            until_ms=one.until_ms,
            sums=None if sums is None else sums.get(name, msgspec.structs.replace(NOTHING, vertical=name)),
            price_microusd=0 if one.network is None else one.network.price_microusd,
        )
        for one, sums in epochs
    ]
    known = [one.sums for one in shown if one.sums is not None]
    delivered = any(one.core_s for one in known)
    now = gateway.clock.now_ms()
    own = vertical.offered(gateway.tariffs.at(name, now))
    return VerticalView(
        name=name,
        leases=takes_orders(vertical),
        tariff=meters_of(gateway, name, now),
        next_tariff=next_tariff(gateway, name, now),
        numbers=_numbers(gateway, vertical),
        epochs=shown,
        basket="stored" if own is not None and own.sells_storage else "delivered" if delivered else "",
        rivals=_storing(own, gateway.offers) if own is not None else _computing(known, gateway.offers),
    )


def _numbers(gateway: Gateway, vertical: Vertical) -> list[ShownNumberView]:
    families = {family.name: family for one in gateway.processes.there() for family in one.families}
    return [
        ShownNumberView(name=each.name, says=family.says, labels=each.labels, value=each.value)
        for name, family in sorted(families.items())
        if name in vertical.shown
        for each in family.samples
    ]


def _storing(own: Offer, offers: Sequence[Offer]) -> list[RivalView]:
    if not own.sells_storage:
        return []
    basket = (TERABYTE * MONTH_HOURS, TERABYTE)
    here = storage_cost_microusd(own, *basket)
    return [rival(one, here, storage_cost_microusd(one, *basket)) for one in offers if one.sells_storage]


def _computing(sums: Sequence[VerticalSums], offers: Sequence[Offer]) -> list[RivalView]:
    """What the delivered cores and memory cost, and what was paid for all leases of the same epochs.

    Epochs in which nothing came to its end are among them: what failed there, or went on, was paid, too.
    """
    cores, memory = sum(one.core_s for one in sums), sum(one.gib_s for one in sums)
    delivered = Delivered(cores * 1_000_000, memory * 1024 * 1000)
    here = sum(one.leases_microusd for one in sums)
    if not cores:
        return []
    return [rival(one, here, cost_microusd(one, delivered)) for one in offers if one.sells_cores]


def rival(offer: Offer, here: int, there: int) -> RivalView:
    """Show what the same costs there beside what it cost here."""
    return RivalView(
        name=offer.name,
        kind=offer.kind,
        here_microusd=here,
        there_microusd=there,
        as_of=offer.as_of,
        source=offer.source,
        note=offer.note,
    )


ROUTES = [networks]
