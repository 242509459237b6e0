"""The control API: a gateway without a vertical. It is only put together here; the bootstrap runs it."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler, Message, Scope

from fallow.domain.views.network import NetworkView
from fallow.http import (
    accounts,
    alerts,
    alerts_stop,
    blobs,
    checks,
    commands,
    console,
    epochs,
    events,
    happenings,
    jobs,
    links,
    logs,
    metrics,
    networks,
    operators,
    prices,
    proofs,
    providers,
    public,
    reach,
    sign_in,
    signing,
    stakes,
    verticals,
    votes,
    what_if,
)
from fallow.http.auth import anyone, provide_account, provide_person
from fallow.http.errors import HANDLERS
from fallow.http.gateway import Gateway
from fallow.http.params import refuse_unknown_query
from fallow.http.sessions import cookie_name
from fallow.ports.words import following

HTTPS_ONLY_S = 365 * 86_400
"""How long a browser that came by https never comes without it."""


def create_app(gateway: Gateway) -> Litestar:
    """Make the ASGI application. Its OpenAPI 3.1 document is at /schema/openapi.json."""
    return Litestar(
        route_handlers=ROUTES,
        dependencies={
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "payer": Provide(provide_account, sync_to_thread=False),
            "by": Provide(provide_person, sync_to_thread=False),
        },
        state=State({"gateway": gateway}),
        exception_handlers={**HANDLERS, NotFoundException: console.no_such_page},
        request_max_body_size=gateway.limits.json_bytes_max,
        before_request=refuse_unknown_query,
        before_send=[_harden],
        openapi_config=_openapi(gateway.network),
        logging_config=None,
        lifespan=[
            gateway.nodes.hearing(),
            gateway.collector.running(),
            gateway.processes.hearing(),
            gateway.onlookers.hearing(),
            following("fees", gateway.fees, gateway.fee_words, gateway.clock),
            following("tariffs", gateway.tariffs, gateway.tariff_words, gateway.clock),
        ],
    )


def _openapi(network: NetworkView) -> OpenAPIConfig:
    key = SecurityScheme(type="http", scheme="bearer", description="An API key.")
    session = SecurityScheme(
        type="apiKey",
        name=cookie_name(network.net, "https"),
        security_scheme_in="cookie",
        description="A browser's session; what changes something needs its token in the header `Fallow-CSRF` besides.",
    )
    return OpenAPIConfig(
        title="Fallow control API",
        version=network.version,
        components=Components(security_schemes={"apiKey": key, "session": session}),
        render_plugins=[JsonRenderPlugin()],
        openapi_router=Router(
            path="/schema",
            route_handlers=[],
            guards=[anyone],
            include_in_schema=False,
            before_request=_document_alone,
        ),
    )


async def _document_alone(request: Request[Any, Any, Any]) -> None:
    """Say as everywhere what is not there: below this address the framework would show a page of its own."""
    if "path" in request.path_params:
        raise NotFoundException
    await refuse_unknown_query(request)


async def _harden(message: Message, scope: Scope) -> None:
    """Set the headers that every answer has. What is about an account stays out of caches."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        headers.setdefault("Cache-Control", "no-store")
        if scope["scheme"] == "https":
            headers["Strict-Transport-Security"] = f"max-age={HTTPS_ONLY_S}"


ROUTES: list[ControllerRouterHandler] = [
    *console.ROUTES,
    *metrics.ROUTES,
    *public.ROUTES,
    *sign_in.PUBLIC_ROUTES,
    *happenings.ROUTES,
    *networks.ROUTES,
    *checks.PUBLIC_ROUTES,
    *epochs.PUBLIC_ROUTES,
    *votes.PUBLIC_ROUTES,
    *prices.PUBLIC_ROUTES,
    *proofs.PUBLIC_ROUTES,
    *providers.PUBLIC_ROUTES,
    *alerts_stop.ROUTES,
    Router(
        path="/",
        route_handlers=[
            *jobs.ROUTES,
            *events.ROUTES,
            *logs.ROUTES,
            *reach.ROUTES,
            *commands.ROUTES,
            *blobs.ROUTES,
            *accounts.ROUTES,
            *alerts.ROUTES,
            *sign_in.ROUTES,
            *signing.ROUTES,
            *links.ROUTES,
            *providers.ROUTES,
            *operators.ROUTES,
            *checks.ROUTES,
            *epochs.ROUTES,
            *prices.ROUTES,
            *stakes.ROUTES,
            *verticals.ROUTES,
            *what_if.ROUTES,
        ],
        security=[{"apiKey": []}, {"session": []}],
    ),
]
