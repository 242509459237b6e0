"""Keys that sign for a buyer, and the receipts that they sign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta

from fallow.domain import calls
from fallow.domain.delegations import MUTUAL, RECEIPTS_MAX, PublicKey, Receipt, Signature
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.orders import Order
from fallow.domain.views.jobs import LeaseView
from fallow.domain.views.keys import DelegationView
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.errors import AnyRequest
from fallow.http.gateway import Gateway
from fallow.http.params import Account, JobId, Limit, Parts
from fallow.ports.rpc import Empty

KEY_HEADER, SIGNATURE_HEADER = "Fallow-Key", "Fallow-Signature"
LEASES_PAGE = 1000

KeyName = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{64}$", max_length=64, description="A public key.")]


class NewDelegation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that is to sign for the account; `proof` is its signature over what `consent_message` says.

    With `account_signature` (hex), over `delegation_text` until `expires_s`, for an account that keeps its own key.
    """

    key: PublicKey
    proof: Signature
    valid_s: Annotated[int, Meta(ge=60, le=calls.delegations.DELEGATION_S_MAX)] = calls.delegations.DELEGATION_S
    expires_s: Annotated[int, Meta(ge=0, le=1 << 43)] = 0
    account_signature: calls.base.AccountSignature = ""


class Receipts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A buyer's receipts for items of one job, signed once: see `receipts_message`."""

    key: PublicKey
    signature: Signature
    receipts: Annotated[list[Receipt], Meta(min_length=1, max_length=RECEIPTS_MAX)]


@post("/v1/account/keys", guards=[buyer], responses=keyed(409, 413), tags=["account"])
async def delegate(gateway: Parts, payer: Account, data: JSONBody[NewDelegation]) -> DelegationView:
    """Let a key sign orders and receipts for your account. The same key again gets the same answer."""
    request = calls.delegations.Delegate(account=payer, **msgspec.structs.asdict(data))
    return await gateway.ask(calls.delegations.DELEGATE, request, DelegationView)


@get("/v1/account/keys", guards=[buyer], responses=keyed(), tags=["account"])
async def delegations(gateway: Parts, payer: Account, limit: Limit = 200) -> list[DelegationView]:
    """Keys that sign for your account, the latest first."""
    return await gateway.ask(
        calls.delegations.DELEGATIONS, calls.base.AccountRef(account=payer, limit=limit), list[DelegationView]
    )


@delete("/v1/account/keys/{key:str}", guards=[buyer], status_code=200, responses=keyed(404), tags=["account"])
async def revoke(gateway: Parts, payer: Account, key: KeyName) -> DelegationView:
    """End the delegation to a key. What it signed until then stays signed."""
    return await gateway.ask(
        calls.delegations.REVOKE_DELEGATION, calls.delegations.DelegationRef(account=payer, key=key), DelegationView
    )


@post("/v1/jobs/{job_id:str}/receipts", guards=[buyer], status_code=200, responses=keyed(404, 409, 413), tags=["jobs"])
async def countersign(gateway: Parts, payer: Account, job_id: JobId, data: JSONBody[Receipts]) -> Empty:
    """Say what you got: receipts that agree with the market's make the use of their leases *mutual*."""
    leases = {lease.id: lease async for lease in _leases(gateway, payer, job_id)}
    for receipt in data.receipts:
        _check_agrees(receipt, leases.get(receipt.lease))
    request = calls.delegations.Countersign(
        account=payer, job=job_id, key=data.key, signature=data.signature, receipts=data.receipts
    )
    return await gateway.ask(calls.delegations.COUNTERSIGN, request, Empty)


async def check_order_signature(gateway: Gateway, payer: str, order: Order, request: AnyRequest) -> None:
    """Check an order's signature, if it has one, and have it kept with what it is over.

    Raises:
        InvalidInput: half of a signature, or a malformed one.
        NotAllowed, Conflict: see the registry's `sign_order`.
    """
    key, signature = request.headers.get(KEY_HEADER), request.headers.get(SIGNATURE_HEADER)
    if key is None and signature is None:
        return
    body = order_bytes(await request.body())
    try:
        asked = msgspec.convert(
            {"account": payer, "order": order.id, "key": key, "signature": signature, "body": body},
            calls.delegations.SignOrder,
        )
    except msgspec.ValidationError as error:
        raise InvalidInput("delegation.malformed", f"The order's signature is malformed: {error}.") from error
    await gateway.ask(calls.delegations.SIGN_ORDER, asked, Empty)


def order_bytes(body: bytes) -> bytes:
    """Return what of a body is signed and kept: all of it, but for the values of secrets, which nobody keeps."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if members.pop("secrets", None) is None:
        return body
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in members.items())


async def with_receipts(gateway: Gateway, leases: list[LeaseView]) -> list[LeaseView]:
    """Say of each lease whether its buyer has signed for it."""
    asked = calls.delegations.MutualRef(leases=[lease.id for lease in leases])
    signed = set(await gateway.ask(calls.delegations.MUTUAL, asked, list[str])) if leases else set()
    return [msgspec.structs.replace(lease, receipt=MUTUAL) if lease.id in signed else lease for lease in leases]


async def _leases(gateway: Gateway, payer: str, job_id: str) -> AsyncIterator[LeaseView]:
    seen = 0
    while True:
        request = calls.jobs.JobRef(account=payer, job=job_id, after=seen - 1, limit=LEASES_PAGE)
        page = await gateway.ask(calls.jobs.LEASES, request, list[LeaseView])
        for lease in page:
            yield lease
        seen += len(page)
        if len(page) < LEASES_PAGE:
            return


def _check_agrees(receipt: Receipt, lease: LeaseView | None) -> None:
    """Raise Conflict unless the market says the same of the lease, whose use is settled."""
    if lease is None or lease.ended_at is None:
        raise Conflict("receipt.lease", f"The job has no lease {receipt.lease} that has ended.")
    said = (receipt.item, receipt.node, receipt.used_ms)
    if said != (lease.item, lease.node, lease.used_ms):
        raise Conflict("receipt.differs", f"The receipt for lease {receipt.lease} differs from what was settled.")


ROUTES = [delegate, delegations, revoke, countersign]
