"""The console: pages for people, at the address that programs use, too. Its files are built from `web/` (ADR 46)."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, PathParameter

import fallow
from fallow.domain.errors import NotFound
from fallow.http.auth import anyone
from fallow.http.epochs import FOR_EVER
from fallow.http.errors import on_http_error
from fallow.http.gateway import Gateway
from fallow.http.links import gateway_url
from fallow.http.params import Parts
from fallow.http.shared import has

FOLDER = Path(fallow.__file__).with_name("web")
PAGE = "index.html"
PAGES = (
    "/",
    "/nodes",
    "/earnings",
    "/map",
    "/sector",
    "/governance",
    "/networks",
    "/epochs",
    "/sign-in",
    "/account",
    "/bills",
    "/jobs",
    "/provider",
    "/storage",
    "/operate",
)
"""What has an address of its own. One program shows all of them."""

NAMED_PAGES = {
    "/nodes": "[0-9a-f]{64}",
    "/accounts": "0x[0-9a-fA-F]{40}",
    "/networks": ".+",
    "/epochs": "[0-9]{1,15}",
    "/jobs": "new|[0-9a-f]{32}",
    "/storage": ".+",
    "/operate": "refused|rules|what-if|doors|log",
}
"""The same for one of many, and what its name looks like: the program shows of no other that there is such a thing."""

PROGRAMS = ("/v1/", "/schema/", "/install/", "/assets/")
"""Below these only programs ask: what is not there is told to them, whatever they take."""

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
RPC = "rpc"
_ORIGIN = re.compile(r"(https://[A-Za-z0-9.-]{1,253}|http://(?:localhost|127\.0\.0\.1))(:[0-9]{1,5})?(?=/|\Z)")

AssetName = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$(?!\n)", max_length=100)]


class Asset(NamedTuple):
    """A built file, as it is and compressed."""

    media_type: str
    data: bytes
    packed: bytes
    etag: str


@cache
def built() -> Mapping[str, Asset]:
    """Return the page and what it loads, by their path below the folder. The first call takes a moment to pack them."""
    paths = (FOLDER / PAGE, *sorted((FOLDER / "assets").iterdir()))
    return {path.relative_to(FOLDER).as_posix(): _asset(path) for path in paths}


def policy(rpc: str = "", gateways: Iterable[str] = ()) -> str:
    """What a page may load, and from where: from here alone.

    It may also ask the network's own `gateways` (URLs), and the chain through the JSON-RPC that the reader has named in
    the page's address, if that is one.
    """
    origins = [found[0] for url in (*gateways, rpc) if (found := _ORIGIN.match(url))]
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "worker-src 'self'",  # the map's, which reads shapes
            "style-src 'self'",
            "img-src 'self' blob:",  # pictures that scripts of the page have looked at first
            " ".join(("connect-src 'self'", *origins)),
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types svelte-trusted-html default",  # the map's page lets that one file become a worker
        )
    )


async def _any_query(_: Request[Any, Any, Any]) -> None:
    """Take whatever stands behind a `?`: links to pages get such additions, and a program's mistakes are not here."""


@get(list(PAGES), guards=[anyone], include_in_schema=False, before_request=_any_query)
async def page(gateway: Parts, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show the console."""
    return _sent(request, built()[PAGE], _headers(gateway, request))


@get(
    [f"{folder}/{{name:str}}" for folder in NAMED_PAGES],
    guards=[anyone],
    include_in_schema=False,
    before_request=_any_query,
)
async def named_page(gateway: Parts, request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    """Show the console, where the name is one that something could have."""
    folder, _, _ = request.scope["path_template"].rpartition("/")
    if not re.fullmatch(NAMED_PAGES[folder], name):
        raise NotFoundException
    return _sent(request, built()[PAGE], _headers(gateway, request))


def no_such_page(request: Request[Any, Any, Any], error: NotFoundException) -> Response[Any]:
    """Show the console, which says that there is no such page, to who typed an address; programs are told as ever."""
    typed = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if not typed or f"{request.url.path}/".startswith(PROGRAMS):
        return on_http_error(request, error)
    headers = _headers(request.app.state.gateway, request) | {"Vary": "Accept"}
    return Response(built()[PAGE].data, status_code=404, headers=headers, media_type=MEDIA_TYPES[".html"])


@get("/assets/{name:str}", guards=[anyone], include_in_schema=False)
async def asset(request: Request[Any, Any, Any], name: AssetName) -> Response[bytes]:
    """Hand out a file of the console. Its name holds a hash of what is in it."""
    found = built().get(f"assets/{name}")
    if found is None:
        raise NotFound("console.no_such_file", f"The console has no file {name}.", "Load the page again.")
    return _sent(request, found, {"Cache-Control": FOR_EVER})


def _headers(gateway: Gateway, request: Request[Any, Any, Any]) -> dict[str, str]:
    """Those of a page."""
    network, host = gateway.network, request.headers.get("Host", "")
    gateways = [gateway_url(network, role, host) for role in network.gateways]
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy(request.query_params.get(RPC, ""), gateways),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }


def _sent(request: Request[Any, Any, Any], file: Asset, headers: Mapping[str, str]) -> Response[bytes]:
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    etag = f'"{file.etag}{"-gz" if packed else ""}"'
    shared = {**headers, "ETag": etag, "Vary": "Accept-Encoding"}
    if has(request, etag):
        return Response(b"", status_code=304, headers=shared, media_type=file.media_type)
    if packed:
        shared["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.data, headers=shared, media_type=file.media_type)


def _asset(path: Path) -> Asset:
    data = path.read_bytes()
    return Asset(MEDIA_TYPES[path.suffix], data, gzip.compress(data, mtime=0), hashlib.sha256(data).hexdigest()[:32])


ROUTES = [page, named_page, asset]
