"""The plugin of storage, as the network and the agent find it."""

from __future__ import annotations

from fallow.domain.epochs.metering import Metering
from fallow.ports.vertical import Vertical, Worker, WorkerGround
from fallow.verticals.storage.core.lending import read_lending, size_text


class Storage(Vertical):
    """The plugin that the entry point names."""

    name = "storage"
    metering: Metering | None = None

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
        )

    def worker(self, ground: WorkerGround) -> Worker:
        """Make the provider's side. Imported here, since only agents have what it needs installed."""
        from fallow.verticals.storage.worker.worker import StorageWorker  # noqa: PLC0415

        return StorageWorker(ground)


VERTICAL: Vertical = Storage()
