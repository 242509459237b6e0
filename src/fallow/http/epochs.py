"""The archive over HTTP: what was signed, for everybody. An epoch shows when its statement is there."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from fallow.domain import calls
from fallow.domain.epochs.manifest import BATCHES, MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, path_of
from fallow.domain.epochs.network_line import network_line
from fallow.domain.epochs.statement import NONE, STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.domain.views.base import ErrorView
from fallow.domain.views.epochs import EpochEndView, EpochFileView, EpochView, PolicyView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, operator
from fallow.http.gateway import Gateway
from fallow.http.params import By, Parts
from fallow.ports.archive import Archive, whole
from fallow.ports.ingest_store import EpochEnd

EPOCHS = "epochs/"
SHOWN_KEPT = 200
"""Epochs: a page of the longest and some more, each of some kilobytes."""

UNREADABLE = "archive.unreadable"
BYTES = "application/octet-stream"
PART = ResponseSpec(bytes, description="The rest of the file.", media_type=BYTES, generate_examples=False)
FOR_EVER = "public, max-age=31536000, immutable"
_FROM = re.compile(r"bytes=(\d{1,18})-")

EpochNumber = Annotated[int, PathParameter(ge=0, le=2**53)]
Before = Annotated[int, QueryParameter(ge=0, le=2**53, description="Only epochs below this number.")]
After = Annotated[int | None, QueryParameter(ge=0, le=2**53, description="End the epoch after this one, and no other.")]
EpochLimit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]
Name = Annotated[str, PathParameter(pattern=r"^[a-z0-9_]+([.][a-z0-9_]+)*$(?!\n)", max_length=100)]


@get("/v1/epochs", guards=[anyone], responses=public(), tags=["epochs"])
async def epochs(gateway: Parts, before: Before = 2**53, limit: EpochLimit = 30) -> list[EpochView]:
    """Closed epochs, the latest first."""
    return await asyncio.to_thread(listed, gateway, before, limit)


@get("/v1/epochs/{epoch:int}", guards=[anyone], responses=public(404), tags=["epochs"])
async def epoch(gateway: Parts, epoch: EpochNumber) -> EpochView:
    """One closed epoch."""
    return await asyncio.to_thread(_view, gateway, epoch)


@get(
    "/v1/epochs/{epoch:int}/files/{name:str}",
    guards=[anyone],
    media_type=BYTES,
    responses={**public(404, 416), 206: PART},
    tags=["epochs"],
)
async def file(gateway: Parts, request: Request[Any, Any, Any], epoch: EpochNumber, name: Name) -> Response[Any]:
    """Read a file of an epoch: `statement`, `manifest`, `batches`... `Range: bytes=N-` goes on from byte N."""
    return await _sent(archive_of(gateway), request, epoch, name)


@get(
    "/v1/epochs/{epoch:int}/files/{folder:str}/{name:str}",
    guards=[anyone],
    media_type=BYTES,
    responses={**public(404, 416), 206: PART},
    tags=["epochs"],
)
async def file_below(
    gateway: Parts, request: Request[Any, Any, Any], epoch: EpochNumber, folder: Name, name: Name
) -> Response[Any]:
    """Read a file of an epoch that is in a folder, such as `records/usage.receipt`. Ranges are as above."""
    return await _sent(archive_of(gateway), request, epoch, f"{folder}/{name}")


@post("/v1/operator/epochs", guards=[operator], responses=keyed(409), tags=["operator"])
async def end_epoch(gateway: Parts, by: By, after: After = None) -> EpochEndView:
    """End the open epoch before its time. Asked again without `after`, the next one ends, too."""
    end = await gateway.ask(calls.epochs.END_NOW, calls.epochs.EndNow(after=after, by=by), EpochEnd)
    return EpochEndView(**end._asdict())


def listed(gateway: Gateway, before: int, limit: int) -> list[EpochView]:
    """Read closed epochs below a number, the latest first; of damaged ones only that. It blocks."""
    found = [int(name) for name in archive_of(gateway).folders(EPOCHS) if name.isdecimal()]
    views: list[EpochView] = []
    for number in sorted((number for number in found if number < before), reverse=True):
        if len(views) == limit:
            break
        try:
            views.append(_view(gateway, number))
        except NotFound:
            continue  # its closing is not over
        except Unavailable as error:
            if error.code != UNREADABLE:
                raise
            views.append(_damaged(number, error.message))
    return views


def _view(gateway: Gateway, epoch: int) -> EpochView:
    archive = archive_of(gateway)
    sealed = statement_of(archive, epoch)
    try:
        data = whole(archive, path_of(epoch, MANIFEST), MANIFEST_BYTES_MAX)
        return _shown(epoch, sealed, data, gateway.network.public_key)
    except Unavailable:
        raise
    except FallowError as error:
        raise Unavailable(UNREADABLE, f"The archive of epoch {epoch} is damaged: {error}") from error


@lru_cache(SHOWN_KEPT)
def _shown(epoch: int, sealed: bytes, data: bytes, network_key: str) -> EpochView:
    """Check the files of a statement and a manifest, and show what they say: the same bytes are checked once."""
    said = Statement.open(sealed, bytes.fromhex(network_key))
    said.check_is(epoch)
    manifest = said.check_manifest(data)
    return EpochView(
        epoch=epoch,
        from_ms=said.from_ms,
        until_ms=said.until_ms,
        statement=hashlib.sha256(sealed).hexdigest(),
        manifest=said.manifest.hex(),
        previous="" if said.previous == NONE else said.previous.hex(),
        root="" if said.root == NONE else said.root.hex(),
        batches=manifest.file(BATCHES).count,
        records=sum(file.count for file in manifest.record_files),
        files=[
            EpochFileView(name=file.name, size=file.size, sha256=file.sha256.hex(), count=file.count)
            for file in (*manifest.files, *said.files)
        ],
        network=network_line(said.totals) if said.policies else None,
        policies=[
            PolicyView(name=one.name, version=one.version, digest=one.digest.hex(), parameters=_as_text(one.parameters))
            for one in said.policies
        ],
    )


def _as_text(value: Any) -> Any:  # noqa: ANN401 - whatever a policy's parameters are
    """Write whole numbers as text, since tokens are too many for programs that read JSON; and bytes as hex."""
    match value:
        case dict():
            return {name: _as_text(each) for name, each in value.items()}
        case list():
            return [_as_text(each) for each in value]
        case bytes():
            return value.hex()
        case bool() | str() | None:
            return value
        case _:
            return str(value)


def _damaged(epoch: int, how: str) -> EpochView:
    return EpochView(
        epoch=epoch,
        from_ms=0,
        until_ms=0,
        statement="",
        manifest="",
        previous="",
        root="",
        batches=0,
        records=0,
        files=[],
        damaged=how,
    )


def statement_of(archive: Archive, epoch: int) -> bytes:
    """Return the file of an epoch's statement.

    Raises:
        NotFound: it is not closed (`epoch.not_closed`).
    """
    try:
        return whole(archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX)
    except NotFound:
        raise NotFound("epoch.not_closed", f"Epoch {epoch} is not closed.", "See which are: fallow epoch ls") from None


async def _sent(archive: Archive, request: Request[Any, Any, Any], epoch: int, name: str) -> Response[Any]:
    path = path_of(epoch, name)
    await asyncio.to_thread(statement_of, archive, epoch)
    size = await asyncio.to_thread(archive.size, path)
    headers = {"Accept-Ranges": "bytes", "Cache-Control": FOR_EVER, "Content-Disposition": "attachment"}
    asked = _FROM.fullmatch(request.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    if asked and start >= size:
        view = ErrorView(kind="InvalidInput", code="archive.range", message=f"The file has only {size} bytes.")
        return Response(
            view, status_code=416, media_type="application/json", headers={"Content-Range": f"bytes */{size}"}
        )
    if asked:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    headers["Content-Length"] = str(size - start)
    return Stream(_pieces(archive.read(path, start)), status_code=206 if asked else 200, headers=headers)


async def _pieces(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, chunks, None)) is not None:
        yield piece


def archive_of(gateway: Gateway) -> Archive:
    """Return the archive.

    Raises:
        NotFound: this gateway has none.
    """
    if gateway.archive is None:
        raise NotFound("archive.none", "This gateway has no archive.", "Ask the network's operator where it is.")
    return gateway.archive


PUBLIC_ROUTES = [epochs, epoch, file, file_below]
ROUTES = [end_epoch]
