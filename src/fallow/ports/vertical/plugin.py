"""What a plugin is. Entry point group: `fallow.verticals`, each value a `Vertical`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from fallow.domain.epochs.metering import Metering, Recount
from fallow.domain.epochs.reading import Place
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.prices import Offer
from fallow.domain.subscriptions import MeterName, Tariff
from fallow.domain.tariffs import Tariffs, Unit
from fallow.ports.blobs import Blobs
from fallow.ports.vertical.capacity import Capacity
from fallow.ports.vertical.control import Comparer, ControlGround
from fallow.ports.vertical.gateway import Asgi, GatewayGround, SignedRequest, Signer
from fallow.ports.vertical.work import WorkNeeds
from fallow.ports.vertical.worker import Worker, WorkerGround


class Vertical(Protocol):
    """A kind of infrastructure. Who derives from it need not say what it does not have."""

    name: str
    metering: Metering | None
    """What its records are worth in an epoch; None: nothing, it is not paid by the network."""
    capacity: Capacity | None = None
    """How its nodes show in roll calls what they have; None: they cannot."""

    tariff: Tariff | None = None
    """What its shared service costs by the meter, until operators say otherwise; None: it is bought otherwise."""
    units: Mapping[MeterName, Unit] = MappingProxyType({})
    """How people speak of its meters, in which prices are shown and set."""
    migrations: Path | None = None
    """The folder of its schema's migrations, for what its network's side keeps; None: it keeps nothing."""
    gateways: tuple[str, ...] = ()
    """Roles by which buyers reach it in its field's own protocol, each an HTTP server with a process of its own."""
    calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """What buyers may ask its network's side by HTTP (`/v1/verticals/NAME/CALL`), by the end of its subject.

    Each has a field `account`, where the control API puts the asking key's account; "" is kept for gateways.
    """
    provider_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """The same for accounts that provide (`/v1/account/verticals/NAME/CALL`): they look on what is theirs."""
    operator_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """The same for the network's operators (`/v1/operator/verticals/NAME/CALL`).

    Each has a field `by`, too, where the control API puts who asks: what it changes goes into the log of actions.
    """
    shown: frozenset[str] = frozenset()
    """Names of those of its measures (`ControlGround.watch`) that everybody may see, on its page of the explorer."""
    tells_alerts: bool = False
    """Whether its side answers `ALERTS` (`fallow.domain.calls.verticals`), too: what its owners should look at."""
    takes_grants: bool = False
    """Whether its side answers `GRANTED`, too: calls of those who show a grant, which it checks itself."""

    def offered(self, tariff: Tariff) -> Offer | None:
        """Say what its shared service costs here at a tariff, in the terms of the price file; None: not in them."""
        return None

    def check_work(self, work: Mapping[str, Any], item: str | None) -> WorkNeeds:
        """Check an order's work at the door; `item` is the input of a map, if it is one.

        Raises:
            InvalidInput: it is malformed, or nothing is ordered of this kind.
        """
        raise InvalidInput("order.none", f"Nothing is ordered of {self.name}.")

    def hand_back_text(self, lends: str) -> str:
        """What an owner agrees to who hands back what he lends."""
        raise NotFound("agent.not_lent", f"Nothing that is lent to {self.name} has to be handed back.")

    def check_lending(self, lends: str) -> str:
        """Check what an owner wants to lend beside leases, on his machine; returns what he thereby agrees to.

        Raises:
            InvalidInput: it is malformed, or this vertical takes nothing.
        """
        raise InvalidInput("agent.lends", f"Nothing is lent to {self.name} beside leases.")

    def lent_folder(self, lends: str) -> str:
        """Which folder an owner lends by these words, which were checked; empty: none."""
        return ""

    def worker(self, ground: WorkerGround) -> Worker:
        """Make the provider's side."""
        ...

    def control(self, ground: ControlGround) -> AbstractAsyncContextManager[None] | None:
        """Make the network's side, which runs while the context is open; None: there is none."""
        return None

    def gateway(self, role: str, ground: GatewayGround) -> AbstractAsyncContextManager[Asgi]:
        """Make a gateway, which runs while the context is open. `role` is one of `gateways`."""
        raise NotFound("serve.role", f"{self.name} has no gateway {role}.")

    def link(self, role: str, url: str, signer: Signer, request: SignedRequest, at_ms: int) -> str:
        """Sign a request to the gateway at `url`, as it counts from `at_ms` on, and return its address.

        Raises:
            NotFound: this gateway takes no signed addresses (`link.none`).
        """
        raise NotFound("link.none", f"The gateway {role} takes no signed addresses.")

    def recount(
        self, net: str, network_key: bytes, since_ms: int, places: Mapping[bytes, Place] | None = None
    ) -> Recount | None:
        """Make what adds up again, from records since a time (0: from all), what its side tells in sums; None: nothing.

        `network_key` is that of the network, `net` its id. Where `places` are given, each node's records were read from
        there on, and those of a node that has none there from its first.
        """
        return None

    def limit_made(self, net: str, network_key: bytes, gateway_key: bytes, limit: bytes, order: bytes) -> int:
        """Say when the network made a limit that an order by one of its gateways goes beyond: see `LimitMade`.

        Raises:
            FallowError: the two do not show that.
        """
        raise InvalidInput("order.none", f"Gateways of {self.name} order nothing.")

    def comparer(self, blobs: Blobs, folder: Path) -> Comparer | None:
        """Make what compares results by a tolerance, if any are; `folder` is one that it may keep things in."""
        return None


def tariffs_of(verticals: Mapping[str, Vertical]) -> Tariffs:
    """What their versions have shared services cost, before operators say anything."""
    return Tariffs({name: vertical.tariff for name, vertical in verticals.items() if vertical.tariff is not None})


def borrows(vertical: Vertical) -> bool:
    """Whether owners may lend it something: it serves that, and has nothing to do on a machine that lends nothing."""
    return getattr(type(vertical), "check_lending", None) is not Vertical.check_lending


def takes_orders(vertical: Vertical) -> bool:
    """Whether it may run programs of buyers: a vertical that says nothing of `check_work` refuses every order."""
    return getattr(type(vertical), "check_work", None) is not Vertical.check_work
