"""What everybody may ask."""

from __future__ import annotations

from litestar import get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.views import NetworkView, NodeView
from fallow.http.auth import anyone
from fallow.http.params import Parts


@get("/healthz", tags=["network"])
async def health() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "ok"}


@get("/v1/network", tags=["network"])
async def network(gateway: Parts) -> NetworkView:
    """How to reach the network, and the key that signs for it."""
    return gateway.network


@post("/v1/join", guards=[anyone], tags=["network"])
async def join(gateway: Parts, data: JSONBody[calls.Join]) -> calls.Joined:
    """Make a machine a node, with a join token."""
    return await gateway.ask(calls.JOIN, data, calls.Joined)


@get("/v1/nodes", guards=[anyone], tags=["network"])
async def nodes(gateway: Parts) -> list[NodeView]:
    """All enrolled nodes and what they offer."""
    return await gateway.ask(calls.OFFERS, {}, list[NodeView])


ROUTES = [health, network, join, nodes]
