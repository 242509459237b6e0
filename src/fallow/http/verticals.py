"""What buyers ask of the network's side of a vertical: its own calls, which are none of the control API's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.grants import key_id_of, refused
from fallow.http.answers import keyed
from fallow.http.auth import GrantShown, buyer_or_holder, grant_digest, operator, provider
from fallow.http.blobs import BYTES, TakesBytes
from fallow.http.gateway import Gateway
from fallow.http.params import Account, By, Parts

VerticalName = Annotated[str, PathParameter(max_length=64, description="A vertical's name.")]
CallName = Annotated[str, PathParameter(max_length=64, description="A call's name, as the vertical gives it.")]
AskRequest = Request[Any, calls.keys.KeyInfo | GrantShown, Any]
JSON = "application/json"
ANSWER = ResponseSpec(bytes, description="The answer, as msgpack.", media_type=BYTES, generate_examples=False)


@post(
    "/v1/verticals/{vertical:str}/{call:str}",
    guards=[buyer_or_holder],
    status_code=200,
    media_type=BYTES,
    operation_class=TakesBytes,
    responses={**keyed(402, 404, 409, 413), 200: ANSWER},
    tags=["verticals"],
)
async def ask(gateway: Parts, request: AskRequest, vertical: VerticalName, call: CallName) -> Response[bytes]:
    """Ask the network's side of a vertical for your account. The body is the call as msgpack, and so is the answer.

    With a body of the type `application/json` both are JSON, whose bytes are in base64.
    Whatever account the body names, yours is put in its place. A key has the same rate here as everywhere. In place of
    an API key storage takes a grant, too: then the account is that of whoever gave it, and what it does not allow is
    refused.
    """
    plugin = gateway.verticals.get(vertical)
    asked = await _read(plugin.calls if plugin is not None else {}, request, vertical, call)
    if not isinstance(request.auth, GrantShown):
        theirs = msgspec.structs.replace(asked, account=request.auth.account)
        return await _answer(gateway, request, theirs, vertical, call)
    if plugin is None or not plugin.takes_grants:
        raise refused()
    return await _by_grant(gateway, request, request.auth, msgspec.structs.replace(asked, account=""), vertical, call)


@post(
    "/v1/account/verticals/{vertical:str}/{call:str}",
    guards=[provider],
    status_code=200,
    media_type=BYTES,
    operation_class=TakesBytes,
    responses={**keyed(404, 413), 200: ANSWER},
    tags=["account"],
)
async def ask_as_provider(
    gateway: Parts, payer: Account, request: AskRequest, vertical: VerticalName, call: CallName
) -> Response[bytes]:
    """Ask the network's side of a vertical about what your machines lend it; as above."""
    plugin = gateway.verticals.get(vertical)
    asked = await _read(plugin.provider_calls if plugin is not None else {}, request, vertical, call)
    return await _answer(gateway, request, msgspec.structs.replace(asked, account=payer), vertical, call)


@post(
    "/v1/operator/verticals/{vertical:str}/{call:str}",
    guards=[operator],
    status_code=200,
    media_type=BYTES,
    operation_class=TakesBytes,
    responses={**keyed(404, 409, 413), 200: ANSWER},
    tags=["operator"],
)
async def ask_as_operator(
    gateway: Parts, by: By, request: AskRequest, vertical: VerticalName, call: CallName
) -> Response[bytes]:
    """Ask the network's side of a vertical what its operators alone may ask; as above. It is told who asks."""
    plugin = gateway.verticals.get(vertical)
    asked = await _read(plugin.operator_calls if plugin is not None else {}, request, vertical, call)
    return await _answer(gateway, request, msgspec.structs.replace(asked, account=by.account, by=by), vertical, call)


async def _read(
    kinds: Mapping[str, type[msgspec.Struct]], request: AskRequest, vertical: str, call: str
) -> msgspec.Struct:
    kind = kinds.get(call)
    if kind is None:
        raise NotFound("vertical.no_call", f"This network has no call {call[:64]!r} of {vertical[:64]!r}.")
    body = await request.body()
    try:
        if _in_json(request):
            return msgspec.json.decode(body, type=kind)
        return msgspec.msgpack.decode(body, type=kind)
    except UNREADABLE as error:
        raise InvalidInput("vertical.malformed", f"The body is no {call}: {error}.") from error


async def _answer(
    gateway: Gateway, request: AskRequest, asked: msgspec.Struct, vertical: str, call: str
) -> Response[bytes]:
    answer = await gateway.ask(calls.verticals.vertical_call(vertical, call), asked, msgspec.Raw)
    if _in_json(request):
        return Response(msgspec.json.encode(msgspec.msgpack.decode(answer)), media_type=JSON)
    return Response(bytes(answer), media_type=BYTES)


async def _by_grant(
    gateway: Gateway, request: AskRequest, shown: GrantShown, asked: msgspec.Struct, vertical: str, call: str
) -> Response[bytes]:
    """Ask by a grant, which the other side checks; one that was good counts by its API key for a moment."""
    key_id = key_id_of(shown.grant)
    body = msgspec.Raw(msgspec.msgpack.encode(asked))
    granted = calls.verticals.Granted(grant=shown.grant, call=call, body=body)
    answer = await _answer(gateway, request, granted, vertical, calls.verticals.GRANTED)
    gateway.grants.keep(grant_digest(shown.grant), key_id)
    return answer


def _in_json(request: AskRequest) -> bool:
    return request.content_type[0] == JSON


ROUTES = [ask, ask_as_provider, ask_as_operator]
