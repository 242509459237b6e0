"""The plugin of compute, as the network and the agent find it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fallow.domain.epochs.metering import Metering
from fallow.ports.blobs import Blobs
from fallow.ports.vertical.capacity import Capacity
from fallow.ports.vertical.control import Comparer
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.work import WorkNeeds
from fallow.ports.vertical.worker import Worker, WorkerGround
from fallow.verticals.compute.core.capacity import StepCapacity
from fallow.verticals.compute.core.metering import ComputeMetering
from fallow.verticals.compute.core.work import ContainerWork, read_work


class Compute(Vertical):
    """The plugin that the entry point names."""

    name = "compute"
    metering: Metering | None = ComputeMetering()
    capacity: Capacity | None = StepCapacity()

    def check_work(self, work: Mapping[str, Any], item: str | None) -> WorkNeeds:
        """Check an order's work; see `Vertical.check_work`."""
        checked = read_work(work)
        image = checked.image if isinstance(checked, ContainerWork) else ""
        blobs = checked.blobs | ({item} if item else set())
        return WorkNeeds(
            frozenset(blobs),
            checked.attributes,
            checked.output_mib << 20,
            compares=checked.compares,
            checkpoints=checked.checkpoints,
            secrets=checked.secrets,
            near=True,
            program=checked.what,
            fetched=frozenset({image} if image else ()),
        )

    def worker(self, ground: WorkerGround) -> Worker:
        """Make the provider's side. Imported here, since only agents have what it needs installed."""
        from fallow.verticals.compute.worker.worker import ComputeWorker  # noqa: PLC0415

        return ComputeWorker(ground.cache)

    def comparer(self, blobs: Blobs, folder: Path) -> Comparer:
        """Make what compares results. Imported here, since only the network's side has a use for it."""
        from fallow.verticals.compute.control.comparing import ToleranceComparer  # noqa: PLC0415

        return ToleranceComparer(blobs, folder)


VERTICAL: Vertical = Compute()
