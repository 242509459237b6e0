"""An HTTP gateway, put together from its parts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from fallow.adapters.blobs import FolderBlobs
from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.nats.tunnel import PATH as BUS_PATH
from fallow.adapters.nats.tunnel import BusTunnels
from fallow.adapters.streams.asgi import with_links
from fallow.adapters.streams.dialling import PATH as STREAMS_PATH
from fallow.adapters.streams.dialling import dial
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.contracts import read_contracts
from fallow.bootstrap.garbage import short_collections
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.install import read_installer
from fallow.bootstrap.keys import NetworkKeys, load_keys, signer
from fallow.bootstrap.latency import Latency
from fallow.bootstrap.listening import address_of, refuse_outside, url_of
from fallow.bootstrap.place import Place, bus_context, read_place
from fallow.bootstrap.plugins import load_verticals
from fallow.bootstrap.proxies import read_proxies
from fallow.bootstrap.rewards import fee_of
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.settling import open_archive
from fallow.bootstrap.telling import telling
from fallow.bootstrap.tls import own_context, server_context
from fallow.bootstrap.verticals import gateway_roles
from fallow.bootstrap.what_if import apart
from fallow.domain import calls
from fallow.domain.fees import Fees
from fallow.domain.views.network import NetworkView
from fallow.http.app import create_app
from fallow.http.console import built
from fallow.http.gateway import Gateway
from fallow.http.install import Installer
from fallow.ports.clock import Clock
from fallow.ports.rpc import Empty, call
from fallow.sdk.bills import offers
from fallow.services.relay.probing import Probes
from fallow.services.relay.service import Relay


async def _tell_tunnel(bus: NatsBus, nonce: str, address: str) -> None:
    await call(bus, calls.streams.TUNNEL, calls.streams.Tunnel(nonce=nonce, address=address), Empty)


@asynccontextmanager
async def run_gateway(data: Path, settings: Settings) -> AsyncIterator[str]:
    """Run an HTTP gateway while the context is open; yields its URL. It has no access to the database.

    Raises:
        InvalidInput: it would be reachable from outside without TLS.
        Unavailable: its port cannot be had.
    """
    place, keys, clock = read_place(data), load_keys(data), SystemClock()
    if place.tls is None:
        refuse_outside(settings.host)
    async with (
        connect_nats(
            place.bus_url,
            signer=signer(keys.gateway),
            name="gateway",
            tls=bus_context(place),
            inbox_prefix=inbox_prefix(bytes(keys.gateway.verify_key)),
        ) as bus,
        telling("gateway", ("gateway",), bus, clock) as watch,
        short_collections(clock),
    ):
        host = urlsplit(place.url).hostname or settings.host
        relay = Relay(
            net=place.net,
            network_key=bytes(keys.network.verify_key),
            bus=bus,
            clock=clock,
            random_bytes=secrets.token_bytes,
            dial=lambda url: dial(url, tls=own_context(place.tls)),
            probes=Probes(
                place.net,
                clock,
                network_host=await asyncio.to_thread(address_of, host),
                dial=dial_direct,
                random_bytes=secrets.token_bytes,
            ),
        )
        await asyncio.to_thread(built)  # else the first reader of a page waits, and everybody with him
        app = create_app(await asyncio.to_thread(_gateway, data, settings, bus, clock, relay))
        latency = Latency(clock)
        watch(latency.measure)
        tls = server_context(place.tls) if place.tls else None
        proxies = read_proxies(settings.proxies)
        tunnels = BusTunnels(place.bus_url, bus_context(place), partial(_tell_tunnel, bus))
        served = with_links(latency.of(app), {STREAMS_PATH: relay.attend, BUS_PATH: tunnels.attend}, clock)
        async with serving(served, settings.host, settings.http_port, tls, proxies) as port:
            scheme = "https" if tls else "http"
            async with relay.running(url_of(scheme, host, port)):
                yield url_of(scheme, settings.host, port)


def _gateway(data: Path, settings: Settings, bus: NatsBus, clock: Clock, relay: Relay) -> Gateway:
    """What the routes work with, by what the data folder says."""
    place, keys = read_place(data), load_keys(data)
    archive, installer = open_archive(data, settings), read_installer(data)
    return Gateway(
        bus=bus,
        blobs=FolderBlobs(data / "blobs"),
        network=_view(data, settings, place, keys, installer),
        clock=clock,
        verticals=load_verticals(),
        streams=relay,
        archive=archive,
        fees=Fees(fee_of(settings)),
        what_if=apart(archive, bytes(keys.network.verify_key)),
        any_host=place.any_host,
        names=place.names,
        ca_pem=place.tls.ca_pem() if place.tls else "",
        installer=installer,
        keep_days=settings.blob_days,
        roles=(*CORE, "gateway", *gateway_roles()),
        metrics_secret=keys.metrics_secret,
        offers=offers(),
    )


def _view(data: Path, settings: Settings, place: Place, keys: NetworkKeys, installer: Installer | None) -> NetworkView:
    return NetworkView(
        net=place.net,
        public_key=bytes(keys.network.verify_key).hex(),
        bus_url=place.bus_public_url,
        preset=settings.preset,
        version=version("fallow"),
        url=place.url,
        install_sha256=installer.sha256 if installer else "",
        chain_url=place.chain.url if place.chain else "",
        chain_id=place.chain.id if place.chain else 0,
        contracts=read_contracts(data) if place.chain else None,
        gateways=place.gateways,
    )
