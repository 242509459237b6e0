"""Which operation a request asks for: by its method, what it names, and a word in its query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.respond import Response
from fallow.verticals.storage.gateway.routes import (
    browsers,
    buckets,
    copying,
    deleting,
    expiring,
    lists,
    marks,
    multipart,
    objects,
    posting,
    settings,
)

Handler = Callable[[Exchange], Awaitable[Response]]


class Operation(NamedTuple):
    """What is done. `makes`: the bucket that is named need not be there."""

    handler: Handler
    changes: bool
    makes: bool = False


async def not_implemented(_x: Exchange) -> Response:
    """What is not offered.

    Raises:
        S3Error: NotImplemented.
    """
    raise S3Error("NotImplemented")


async def not_allowed(_x: Exchange) -> Response:
    """What another method might do.

    Raises:
        S3Error: MethodNotAllowed.
    """
    raise S3Error("MethodNotAllowed")


_BUCKET: Final[dict[str, dict[str, Handler]]] = {
    "acl": {"GET": settings.get_acl, "PUT": settings.put_acl},
    "cors": browsers.RULES.handlers,
    "delete": {"POST": deleting.delete_objects},
    "encryption": settings.ENCRYPTION.handlers,
    "lifecycle": expiring.RULES.handlers,
    "location": {"GET": buckets.get_location},
    "object-lock": {"GET": settings.get_lock, "PUT": settings.put_lock},
    "ownershipControls": settings.OWNERSHIPS.handlers,
    "policy": settings.POLICIES.handlers,
    "policyStatus": {"GET": settings.get_policy_status},
    "publicAccessBlock": settings.BLOCKS.handlers,
    "requestPayment": {"GET": buckets.get_request_payment},
    "tagging": settings.TAGS.handlers,
    "uploads": {"GET": multipart.list_uploads},
    "versioning": {"GET": buckets.get_versioning, "PUT": buckets.put_versioning},
    "versions": {"GET": lists.list_versions},
}
_OBJECT: Final[dict[str, dict[str, Handler]]] = {
    "acl": {"GET": marks.get_acl, "PUT": marks.put_acl},
    "attributes": {"GET": objects.attributes},
    "legal-hold": {"GET": marks.get_legal_hold, "PUT": marks.put_legal_hold},
    "retention": {"GET": marks.get_retention, "PUT": marks.put_retention},
    "tagging": {"GET": marks.get_tagging, "PUT": marks.put_tagging, "DELETE": marks.delete_tagging},
    "uploads": {"POST": multipart.create_upload},
    "uploadId": {
        "GET": multipart.list_parts,
        "PUT": multipart.put_part,
        "POST": multipart.complete_upload,
        "DELETE": multipart.abort_upload,
    },
}
_ELSEWHERE: Final = frozenset({
    "abac", "accelerate", "analytics", "annotation", "encryption", "intelligent-tiering", "inventory", "logging",
    "metadataAnnotationTable", "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable",
    "metadataTable", "metrics", "notification", "renameObject", "replication", "requestPayment", "restore", "select",
    "session", "torrent", "website",
})  # fmt: skip
"""What S3 has besides, to be refused by name."""
_ARGUMENTS: Final = frozenset({"partNumber", "versionId", "x-id"})
"""What a client can leave empty and mean nothing by."""
_PLAIN_BUCKET: Final[dict[str, Handler]] = {
    "GET": lists.list_objects,
    "HEAD": buckets.head_bucket,
    "PUT": buckets.create_bucket,
    "DELETE": buckets.delete_bucket,
    "POST": posting.post_object,
}
_PLAIN_OBJECT: Final[dict[str, Handler]] = {
    "GET": objects.get_object,
    "HEAD": objects.get_object,
    "PUT": objects.put_object,
    "DELETE": deleting.delete_object,
}
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def find(request: Request) -> Operation:
    """Find the operation.

    Raises:
        S3Error: MethodNotAllowed.
    """
    handler = _handler(request)
    if handler is None:
        raise S3Error("MethodNotAllowed")
    # A form says in its body who sends it, and whether that key may write is judged there.
    changes = request.method not in _READING and handler is not posting.post_object
    return Operation(handler, changes, handler in {buckets.create_bucket, buckets.list_buckets})


def _handler(request: Request) -> Handler | None:
    if not request.bucket:
        return buckets.list_buckets if request.method == "GET" else None
    if request.method == "OPTIONS":
        return browsers.preflight
    return _named(request) or (not_implemented if _is_strange(request) else _plain(request))


def _is_strange(request: Request) -> bool:
    """Whether a change has a word in its query that nobody here knows: what it is meant to change is another thing."""
    return request.method not in _READING and any(
        not value and name not in _ARGUMENTS and not name.lower().startswith("x-amz-") for name, value in request.query
    )


def _named(request: Request) -> Handler | None:
    """What a word in the query asks for; None: there is none."""
    table = _OBJECT if request.key else _BUCKET
    word = next((word for word in table if request.has(word)), None)
    if word is not None and (request.method in table[word] or word not in _ELSEWHERE):
        handler = table[word].get(request.method, not_allowed)
        copies = handler is multipart.put_part and copying.SOURCE in request.headers
        return multipart.copy_part if copies else handler
    return not_implemented if any(request.has(word) for word in _ELSEWHERE) else None


def _plain(request: Request) -> Handler | None:
    if request.method == "GET" and not request.key and request.arg("list-type") == "2":
        return lists.list_objects_2
    if request.method == "PUT" and request.key and copying.SOURCE in request.headers:
        return copying.copy_object
    return (_PLAIN_OBJECT if request.key else _PLAIN_BUCKET).get(request.method)
