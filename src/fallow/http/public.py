"""What everybody may ask."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response, get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.errors import NotFound
from fallow.domain.views.governance import GovernedView
from fallow.domain.views.market import MapView, MarketView
from fallow.domain.views.network import NetworkView
from fallow.domain.views.nodes import NodeView
from fallow.http.answers import public
from fallow.http.auth import anyone, anyone_or_member
from fallow.http.gateway import Gateway
from fallow.http.install import Installer
from fallow.http.params import AfterNode, Around, Limit, NodeId, Parts, Resolution, WheelName
from fallow.http.prices import meters, next_fee, next_tariffs
from fallow.http.shared import Ready

SCRIPT, WHEEL, PEM = "text/x-shellscript", "application/zip", "application/x-pem-file"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


@get("/healthz", guards=[anyone], responses=public(), tags=["network"])
async def health() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "ok"}


@get("/v1/network", guards=[anyone], responses=public(), tags=["network"])
async def network(gateway: Parts, request: Request[Any, Any, Any]) -> NetworkView:
    """How to reach the network, and the key that signs for it."""
    now = gateway.clock.now_ms()
    view = msgspec.structs.replace(
        gateway.network,
        fee_ppm=gateway.fees.at(now).fee_ppm,
        next_fee=next_fee(gateway.fees, now),
        meters=meters(gateway, now),
        next_tariffs=next_tariffs(gateway, now),
    )
    host = host_of(request.headers.get("Host", "")) if gateway.any_host else ""
    if not host:
        return view
    bus = urlsplit(view.bus_url)
    return msgspec.structs.replace(view, bus_url=f"{bus.scheme}://{host}:{bus.port}")


@get("/v1/ca.pem", guards=[anyone], media_type=PEM, responses=public(404), tags=["network"])
async def authority(gateway: Parts) -> Response[str]:
    """Certificate of the network's own authority (PEM). Check it against the pin that you were told."""
    if not gateway.ca_pem:
        raise NotFound("tls.no_ca", "This network has no certificate authority of its own.")
    return Response(gateway.ca_pem)


@get("/install.sh", guards=[anyone], media_type=SCRIPT, responses=public(404), tags=["network"])
async def install_script(gateway: Parts) -> Response[bytes]:
    """Script that installs an agent. Compare its hash with the one in the join line before you run it."""
    return Response(_installer(gateway).script)


@get("/install/{name:str}", guards=[anyone], media_type=WHEEL, responses=public(404), tags=["network"])
async def install_wheel(gateway: Parts, name: WheelName) -> Response[bytes]:
    """Wheel of the code that the network runs."""
    installer = _installer(gateway)
    if name != installer.wheel_name:
        raise NotFound("install.no_such_wheel", f"There is no {name} here.", "Ask for /install.sh again.")
    return Response(installer.wheel)


@post("/v1/join", guards=[anyone], responses=public(403, 409, 413), tags=["network"])
async def join(gateway: Parts, data: JSONBody[calls.nodes.Join]) -> calls.nodes.Joined:
    """Make a machine a node, with a join token."""
    return await gateway.ask(calls.nodes.JOIN, data, calls.nodes.Joined)


@get("/v1/nodes", guards=[anyone_or_member], responses=public(401), tags=["network"])
async def nodes(
    gateway: Parts, request: Request[Any, Any, Any], after: AfterNode = "", limit: Limit = 200
) -> Response[list[NodeView]]:
    """Nodes by id and what they offer: at most so many, and fewer where they say much. The last page is empty.

    What their owners call them, and in which cell they are, is told to whoever has an API key, and to no stranger.
    """
    page = calls.market.OffersRef(after=after, limit=limit)
    if _is_member(request):
        return Response(await _offers(gateway, page))
    address = f"/v1/nodes?after={after}&limit={limit}"
    return Ready(await gateway.shared.answer(address, partial(_offers_to_strangers, gateway, page)), request)


@get("/v1/nodes/{node:str}", guards=[anyone_or_member], responses=public(401, 404), tags=["network"])
async def node(gateway: Parts, request: Request[Any, Any, Any], node: NodeId) -> Response[NodeView]:
    """One node and what it offers; its owner's name for it and its cell are told as in the list of all."""
    before = f"{int(node, 16) - 1:064x}" if int(node, 16) else ""
    page = calls.market.OffersRef(after=before, limit=1)
    if _is_member(request):
        return Response(_only(await _offers(gateway, page), node))

    async def ask() -> NodeView:
        return _only(await _offers_to_strangers(gateway, page), node)

    return Ready(await gateway.shared.answer(f"/v1/nodes/{node}", ask), request)


@get("/v1/market", guards=[anyone], responses=public(), tags=["network"])
async def market(gateway: Parts, request: Request[Any, Any, Any]) -> Response[MarketView]:
    """All nodes and open jobs together, as of a moment ago, which `at` tells."""
    return Ready(
        await gateway.shared.answer("/v1/market", gateway.asking(calls.market.TOTALS, {}, MarketView)), request
    )


@get("/v1/map", guards=[anyone], responses=public(), tags=["network"])
async def field_map(
    gateway: Parts, request: Request[Any, Any, Any], resolution: Resolution = 3, around: Around = ""
) -> Response[MapView]:
    """Where nodes are, as of a moment ago: counts in cells of H3, each with nodes of several owners, 3,000 at most.

    The whole Earth is shown in coarser cells than asked for where there would be more. `around` a cell of a resolution
    up to 2 the finest are shown: three resolutions finer, in it and in those next to it.
    """
    ask = gateway.asking(calls.market.MAP, calls.market.MapRef(resolution=resolution, around=around), MapView)
    address = f"/v1/map?around={around}" if around else f"/v1/map?resolution={resolution}"
    return Ready(await gateway.shared.answer(address, ask), request)


@get("/v1/governance", guards=[anyone], responses=public(404), tags=["network"])
async def governance(gateway: Parts, request: Request[Any, Any, Any]) -> Response[GovernedView]:
    """Who governs the network's contracts, what is about to change and when, the token's supply and its holders."""
    if not gateway.network.chain_id:
        raise NotFound("chain.none", "This network has no chain.", "Those of the preset public have one.")
    ask = gateway.asking(calls.tokens.GOVERNED, {}, GovernedView)
    return Ready(await gateway.shared.answer("/v1/governance", ask), request)


def _is_member(request: Request[Any, Any, Any]) -> bool:
    return request.scope.get("auth") is not None


async def _offers(gateway: Gateway, page: calls.market.OffersRef) -> list[NodeView]:
    return await gateway.ask(calls.market.OFFERS, page, list[NodeView])


async def _offers_to_strangers(gateway: Gateway, page: calls.market.OffersRef) -> list[NodeView]:
    found = await _offers(gateway, msgspec.structs.replace(page, labels=False))
    return [msgspec.structs.replace(node, label="", cell="") for node in found]


def _only(found: list[NodeView], node: str) -> NodeView:
    """Return the one node that was found, if it is this one.

    Raises:
        NotFound: it is another one, or there is none.
    """
    if not found or found[0].node != node:
        raise NotFound("node.unknown", "No node of this id is on the market.", "See which are: fallow nodes")
    return found[0]


def host_of(header: str) -> str:
    """Return the host in a Host header as it stands in a URL, without its port; "" if it is no name or address."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
    try:
        address = ip_address(host)
    except ValueError:
        return host if _NAME.fullmatch(host) else ""
    return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6


def _installer(gateway: Gateway) -> Installer:
    if gateway.installer is None:
        raise NotFound("install.none", "This gateway hands out no agent.", "Ask the network's operator how to get it.")
    return gateway.installer


ROUTES = [health, network, authority, install_script, install_wheel, join, nodes, node, market, field_map, governance]
