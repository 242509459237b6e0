"""The network's side of storage, as it answers over the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from fallow.domain.calls.verticals import GRANTED, Granted
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.rpc import serve
from fallow.ports.signing_secrets import SigningSecrets
from fallow.verticals.storage.control.buckets import Buckets
from fallow.verticals.storage.control.buckets_port import BucketRow
from fallow.verticals.storage.control.deleting import Deleting
from fallow.verticals.storage.control.grants import Grants
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.listing import Listing
from fallow.verticals.storage.control.stale import Stale
from fallow.verticals.storage.control.uploads import Uploads
from fallow.verticals.storage.control.usage import Used
from fallow.verticals.storage.control.versions import Versions
from fallow.verticals.storage.core.billing import BUYERS_CALLS, GetBill
from fallow.verticals.storage.core.calls.accounts import RevokeGrant, Usage
from fallow.verticals.storage.core.calls.base import SUBJECT, Call
from fallow.verticals.storage.core.calls.buckets import DropBucket, GetBucket, ListBuckets, MakeBucket, SetBucket
from fallow.verticals.storage.core.calls.objects import DeleteObjects, GetObject, ListObjects, PutObject, SetObject
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)
from fallow.verticals.storage.core.lenders import PROVIDERS_CALLS
from fallow.verticals.storage.core.upkeep import GATEWAY_CALLS, OPERATOR_CALLS, TakeDue

QUEUE: Final = "storage"

Handler = Callable[[Any], Awaitable[Any]]
Handlers = Mapping[type[Call[Any]], Handler]


class Objects:
    """Buckets, versions, lists and uploads. It is the `Buckets` of those who keep segments.

    `stale` gives up what nobody goes on with.
    """

    def __init__(self, ground: Ground) -> None:
        self._buckets = Buckets(ground)
        self._versions = Versions(ground, self._buckets)
        self._deleting = Deleting(ground, self._buckets)
        self._listing = Listing(ground, self._buckets)
        self._uploads = Uploads(ground, self._buckets)
        self._used = Used(ground.database, ground.offers)
        self.stale = Stale(ground, self._buckets)

    def handlers(self) -> Handlers:
        """What answers each call that is of objects."""
        return {
            MakeBucket: self._buckets.make,
            GetBucket: self._buckets.get,
            ListBuckets: self._buckets.list,
            SetBucket: self._buckets.set,
            DropBucket: self._buckets.drop,
            PutObject: self._versions.put,
            GetObject: self._versions.get,
            SetObject: self._versions.set,
            DeleteObjects: self._deleting.delete,
            ListObjects: self._listing.list,
            BeginUpload: self._uploads.begin,
            GetUpload: self._uploads.get,
            PutPart: self._uploads.put_part,
            ListParts: self._uploads.parts,
            ListUploads: self._uploads.list,
            CompleteUpload: self._uploads.complete,
            AbortUpload: self._uploads.abort,
            Usage: self._used.usage,
            GetBill: self._used.bill,
            TakeDue: self.stale.take,
        }

    async def bucket_of(self, tx: Transaction, account: str, name: str) -> BucketRow:
        """See the port."""
        return await self._buckets.bucket_of(tx, account, name)

    async def version_stream(
        self, tx: Transaction, bucket_id: int, sealed_name: bytes, version: bytes
    ) -> tuple[bytes, int, Sequence[tuple[int, int]]]:
        """See the port."""
        return await self._versions.version_stream(tx, bucket_id, sealed_name, version)


class Control:
    """Serves all calls, by grants, too; `others` answer those that are not of objects."""

    def __init__(self, bus: Bus, clock: Clock, database: Database, objects: Objects, others: Handlers) -> None:
        self._bus = bus
        self._grants = Grants(SigningSecrets(bus, clock), clock, database, self._do)
        self._handlers: Handlers = {**objects.handlers(), **others, RevokeGrant: self._grants.revoke}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer while the context is open."""
        async with AsyncExitStack() as stack:
            for call in (*BUYERS_CALLS, *PROVIDERS_CALLS, *GATEWAY_CALLS, *OPERATOR_CALLS):
                serving = serve(self._bus, f"{SUBJECT}.{call.name}", call, self._handlers[call], queue=QUEUE)
                await stack.enter_async_context(serving)
            granted = serve(self._bus, f"{SUBJECT}.{GRANTED}", Granted, self._grants.ask, queue=QUEUE)
            await stack.enter_async_context(granted)
            yield

    async def _do(self, call: Call[Any]) -> Any:  # noqa: ANN401 - whatever the call is answered with
        return await self._handlers[type(call)](call)
