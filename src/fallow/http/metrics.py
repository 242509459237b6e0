"""`/metrics`: what all processes of the network have told of themselves, in Prometheus' text (ADR 61)."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping, Sequence

from litestar import Response, get
from litestar.handlers import BaseRouteHandler
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from fallow.http.auth import operator
from fallow.http.params import Parts
from fallow.http.processes import Process
from fallow.http.sessions import Connection


class _Heard(Collector):
    """What was heard, as Prometheus' client hands it on."""

    def __init__(self, processes: Sequence[Process], running: Mapping[str, int]) -> None:
        self._processes = processes
        self._running = running

    def collect(self) -> list[Metric]:
        roles = Metric("fallow_role_processes", "Processes that run a role, as heard over the bus.", "gauge")
        for role, count in self._running.items():
            roles.add_sample("fallow_role_processes", {"role": role}, count)
        metrics = {roles.name: roles}
        for process in self._processes:
            own = {"process": process.name, "copy": str(process.copy)}
            for family in process.families:
                metric = metrics.setdefault(family.name, Metric(family.name, family.says, family.kind))
                for sample in family.samples:
                    metric.add_sample(sample.name, {**own, **sample.labels}, sample.value)
        return list(metrics.values())


def text_of(processes: Sequence[Process], running: Mapping[str, int]) -> bytes:
    """Write it down; this is arithmetic, for a thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Heard(processes, running))
    return generate_latest(registry)


async def scraper(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let in who shows the network's own secret for this, which holds while everything else is down; or an operator.

    Being on this machine is no right: behind a proxy everybody is.
    """
    secret = connection.app.state.gateway.metrics_secret
    shown = connection.headers.get("Authorization", "").removeprefix("Bearer ")
    if not (secret and hmac.compare_digest(shown.encode(), secret.encode())):
        await operator(connection, handler)


@get("/metrics", guards=[scraper], include_in_schema=False, media_type="text/plain")
async def metrics(gateway: Parts) -> Response[bytes]:
    """Show the numbers of all processes of the network, for Prometheus."""
    processes = gateway.processes
    text = await asyncio.to_thread(text_of, processes.there(), processes.running())
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


ROUTES = [metrics]
