"""Buckets: lists of them, making, looking at, and dropping them."""

from __future__ import annotations

from typing import Literal

from fallow.domain.errors import Conflict, InvalidInput
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.countries import read_countries
from fallow.verticals.storage.gateway.access import check, check_owner, on_bucket
from fallow.verticals.storage.gateway.acl import acl_of_headers, decode_acl, owner_node, private
from fallow.verticals.storage.gateway.body import read_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import ACL, ENFORCED, OWNERSHIP, PREFERRED, WRITER, Exchange, parsed
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.request import check_bucket_name
from fallow.verticals.storage.gateway.respond import XML, Response, answer
from fallow.verticals.storage.gateway.times import iso
from fallow.verticals.storage.gateway.xml import Node, document, text_of

_FIRST_REGION = "us-east-1"
_LIST_MAX = 1000
_BETWEEN = "-"
"""Between countries where a region would be named, which some clients write into what they sign."""


async def list_buckets(x: Exchange) -> Response:
    """All buckets of the caller; of nobody in particular, none."""
    buckets = await x.store.buckets(x.caller.account) if x.caller.user else []
    prefix, after = x.request.arg("prefix"), x.request.arg("continuation-token")
    most = _most(x.request.arg("max-buckets"))
    found = [bucket for bucket in buckets if bucket.name.startswith(prefix) and bucket.name > after]
    shown = found[:most]
    nodes = [_bucket_node(bucket) for bucket in shown]
    more = [Node("ContinuationToken", shown[-1].name)] if len(found) > most and shown else []
    owner = await owner_node(x.caller.account, x.users)
    return answer("ListAllMyBucketsResult", owner, Node("Buckets", None, *nodes), *more, Node("Prefix", prefix or None))


async def create_bucket(x: Exchange) -> Response:
    """Make a bucket. The same owner making it the same way again changes nothing."""
    name, headers = x.request.bucket, x.request.headers
    if x.caller.user is None:
        raise S3Error("AccessDenied")
    check_bucket_name(name)
    if headers.get("x-amz-bucket-namespace", "global") != "global":
        raise S3Error("NotImplemented", "Names of buckets are the network's: nobody has some of his own.")
    account = x.caller.account
    acl = await acl_of_headers(headers, account, account, x.users) or private(account)
    settings = {ACL: acl.encode()}
    ownership = headers.get("x-amz-object-ownership", "")
    if ownership:
        if ownership not in {ENFORCED, PREFERRED, WRITER}:
            raise S3Error("InvalidArgument", "There is no such object ownership.")
        if ownership == ENFORCED and acl != private(account):
            raise S3Error("InvalidBucketAclWithObjectOwnership", "ACLs are off where the bucket's owner owns all.")
        settings[OWNERSHIP] = ownership.encode()
    lock = headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true"
    countries = await _countries(x)
    try:
        await x.store.make_bucket(account, name, settings=settings, lock=lock, countries=countries)
    except Conflict as error:
        if error.code != "storage.bucket_yours":
            raise
        there = await x.store.bucket(name)
        same = decode_acl(there.settings.get(ACL, b""), account) == acl and there.lock == lock
        if not same or there.countries != countries:
            raise S3Error("BucketAlreadyExists") from error
    return Response(200, {"location": f"/{name}"})


async def head_bucket(x: Exchange) -> Response:
    """Whether a bucket is there, and may be listed."""
    check(x, "s3:ListBucket", "READ", on_bucket(x))
    return Response(200, {"content-type": XML, "x-amz-bucket-region": x.region})


async def delete_bucket(x: Exchange) -> Response:
    """Drop an empty bucket."""
    check_owner(x, "s3:DeleteBucket")
    await x.store.drop_bucket(x.owner, x.bucket.name)
    return Response(204)


async def get_location(x: Exchange) -> Response:
    """Where a bucket is: in the one region that there is, or in the countries that its pieces may lie in."""
    check_owner(x, "s3:GetBucketLocation")
    region = _BETWEEN.join(x.bucket.countries) or (None if x.region == _FIRST_REGION else x.region)
    return Response(200, {"content-type": XML}, document("LocationConstraint", text=region))


async def get_versioning(x: Exchange) -> Response:
    """Whether a bucket keeps versions."""
    check_owner(x, "s3:GetBucketVersioning")
    status = None if x.bucket.versioning == "off" else x.bucket.versioning.capitalize()
    return answer("VersioningConfiguration", *([Node("Status", status)] if status else []))


async def put_versioning(x: Exchange) -> Response:
    """Let a bucket keep versions, or no further ones."""
    check_owner(x, "s3:PutBucketVersioning")
    root = await x.document()
    status = text_of(root, "Status")
    if root.tag != "VersioningConfiguration" or status not in {"Enabled", "Suspended"}:
        raise S3Error("MalformedXML")
    if text_of(root, "MfaDelete") == "Enabled":
        raise S3Error("NotImplemented", "There is no deletion by a second factor here.")
    if status == "Suspended" and x.bucket.lock:
        raise S3Error("InvalidBucketState", "A bucket with object lock keeps all versions.")
    versioning: Literal["enabled", "suspended"] = "enabled" if status == "Enabled" else "suspended"
    await x.store.set_bucket(x.owner, x.bucket.name, versioning=versioning, settings={})
    return Response()


async def get_request_payment(x: Exchange) -> Response:
    """Who pays: the owner, always."""
    check_owner(x, "s3:GetBucketRequestPayment")
    return answer("RequestPaymentConfiguration", Node("Payer", "BucketOwner"))


async def _countries(x: Exchange) -> list[str]:
    """Where the pieces of a bucket to be may lie; none: anywhere."""
    data = await read_document(x.request, x.caller)
    if not data:
        return []
    root = parsed(data)
    wanted = text_of(root, "LocationConstraint")
    if root.tag != "CreateBucketConfiguration":
        raise S3Error("MalformedXML")
    if wanted in {"", x.region}:
        return []
    try:
        return read_countries(wanted.split(_BETWEEN))
    except InvalidInput as error:
        said = (
            f"It is {x.region}, or the countries that the bucket's pieces may lie in, such as DE, DE{_BETWEEN}FR or EU."
        )
        raise S3Error("InvalidLocationConstraint", said) from error


def _bucket_node(bucket: Bucket) -> Node:
    return Node("Bucket", None, Node("Name", bucket.name), Node("CreationDate", iso(bucket.made_ms)))


def _most(text: str) -> int:
    if not text:
        return _LIST_MAX * _LIST_MAX
    number = whole(text)
    if number is None or not 1 <= number <= _LIST_MAX * 10:
        raise S3Error("InvalidArgument", "max-buckets is from 1 to 10000.")
    return number
