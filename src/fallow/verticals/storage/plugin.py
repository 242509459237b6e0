"""The plugin of storage, as the network and the agent find it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from fallow.domain.epochs.metering import Metering, Recount
from fallow.domain.epochs.reading import Place
from fallow.domain.errors import NotFound
from fallow.domain.prices import Offer
from fallow.domain.subscriptions import MeterName, Tariff
from fallow.domain.tariffs import Unit
from fallow.ports.vertical.control import ControlGround
from fallow.ports.vertical.gateway import Asgi, GatewayGround, SignedRequest, Signer
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.worker import Worker, WorkerGround
from fallow.verticals.storage.core.billing import BUYERS_CALLS
from fallow.verticals.storage.core.exiting import SUCCESS_SAYS
from fallow.verticals.storage.core.lenders import PROVIDERS_CALLS
from fallow.verticals.storage.core.lending import read_lending, size_text
from fallow.verticals.storage.core.metering import StorageMetering
from fallow.verticals.storage.core.profiles import WIDE
from fallow.verticals.storage.core.tariff import TARIFF, UNITS, offered
from fallow.verticals.storage.core.upkeep import OPERATOR_CALLS

S3: Final = "s3"
CACHED_SAYS: Final = (
    "They are acknowledged before the disk has them: a power failure takes those of the last half minute."
)


class Storage(Vertical):
    """The plugin that the entry point names."""

    name = "storage"
    metering: Metering | None = StorageMetering()
    tariff: Tariff | None = TARIFF
    units: Mapping[MeterName, Unit] = UNITS
    migrations: Path | None = Path(__file__).with_name("control") / "schema"
    gateways: tuple[str, ...] = (S3,)
    calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({call.name: call for call in BUYERS_CALLS})
    provider_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({call.name: call for call in PROVIDERS_CALLS})
    operator_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({call.name: call for call in OPERATOR_CALLS})
    shown = frozenset(
        {
            "fallow_storage_nodes",
            "fallow_storage_lent_bytes",
            "fallow_storage_objects",
            "fallow_storage_object_bytes",
            "fallow_storage_gateway_staked_tokens",
        }
    )
    tells_alerts = True
    takes_grants = True

    def offered(self, tariff: Tariff) -> Offer | None:
        """See `Vertical.offered`; for objects as most are: in 80 pieces, of which 29 are needed."""
        return offered(tariff, WIDE.expansion)

    def check_lending(self, lends: str) -> str:
        """Check a folder and a size; see `Vertical.check_lending`. Imported here, since only agents have the rest."""
        from fallow.verticals.storage.worker.folder import check_lendable  # noqa: PLC0415

        lending = read_lending(lends)
        check_lendable(lending)
        return (
            f"up to {size_text(lending.size_bytes)} of disk in {lending.folder},\n"
            "  which is this node's alone. Pieces of others' files, sealed so that nobody can read them here, are put\n"
            "  there, read, checked and deleted over your line, also while you use the machine, until you pause it.\n"
            "  They are counted on: who takes the disk back, or is away for long, is trusted with less."
            + ("" if lending.durable else f"\n  {CACHED_SAYS}")
        )

    def lent_folder(self, lends: str) -> str:
        """See `Vertical.lent_folder`."""
        return read_lending(lends).folder

    def hand_back_text(self, lends: str) -> str:
        """See `Vertical.hand_back_text`."""
        return (
            f"The network moves what lies in {read_lending(lends).folder} to other machines, and signs a receipt\n"
            "  in the end, after which the folder may be deleted. This cannot be taken back: nothing new is put here\n"
            "  any more, and this machine can lend a disk again only if it joins anew. Leave it running until then,\n"
            f"  thirty days at most. It counts as a success {SUCCESS_SAYS}."
        )

    def recount(
        self, net: str, network_key: bytes, since_ms: int, places: Mapping[bytes, Place] | None = None
    ) -> Recount | None:
        """Add up again what nodes served, from the orders that they handed in."""
        from fallow.verticals.storage.core.recounting import Recount as Orders  # noqa: PLC0415 - for auditors and validators alone

        return Orders(net, network_key, since_ms, places)

    def limit_made(self, net: str, network_key: bytes, gateway_key: bytes, limit: bytes, order: bytes) -> int:
        """Check both: see `Vertical.limit_made`."""
        from fallow.verticals.storage.core.orders import overstated_limit  # noqa: PLC0415 - for who slashes alone

        return overstated_limit(net, network_key, gateway_key, limit, order).made_ms

    def worker(self, ground: WorkerGround) -> Worker:
        """Make the provider's side. Imported here, since only agents have what it needs installed."""
        from fallow.verticals.storage.worker.worker import StorageWorker  # noqa: PLC0415

        return StorageWorker(ground)

    def control(self, ground: ControlGround) -> AbstractAsyncContextManager[None]:
        """Make the network's side. Imported here, since only networks have what it needs installed."""
        from fallow.verticals.storage.control.running import running  # noqa: PLC0415

        return running(ground)

    def gateway(self, role: str, ground: GatewayGround) -> AbstractAsyncContextManager[Asgi]:
        """Make the S3 gateway. Imported here, since only networks have what it needs installed."""
        if role != S3:
            raise NotFound("serve.role", f"Storage has no gateway {role}.")
        from fallow.verticals.storage.gateway.running import running  # noqa: PLC0415

        return running(ground)

    def link(self, role: str, url: str, signer: Signer, request: SignedRequest, at_ms: int) -> str:
        """Sign a request in the query of its address, as S3 has it."""
        if role != S3:
            return super().link(role, url, signer, request, at_ms)
        from fallow.verticals.storage.gateway.auth.links import signed_link  # noqa: PLC0415 - agents need it not

        return signed_link(url, signer, request, at_ms)


VERTICAL: Vertical = Storage()
