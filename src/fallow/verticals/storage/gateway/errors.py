"""S3's errors: their codes, statuses and documents, and how the network's own errors become them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fallow.domain.errors import (
    Conflict,
    FallowError,
    InsufficientFunds,
    InvalidInput,
    NotAllowed,
    NotFound,
    TooMuch,
    Unavailable,
)
from fallow.verticals.storage.gateway.xml import Node, document

_KNOWN: Final[dict[str, tuple[int, str]]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccessControlListNotSupported": (400, "The bucket does not allow ACLs."),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "The query's authorization parameters are malformed."),
    "BadDigest": (400, "The digest or checksum that was sent does not match the content."),
    "BucketAlreadyExists": (409, "The bucket's name is taken. Names are unique in this network."),
    "BucketAlreadyOwnedByYou": (409, "You have this bucket already."),
    "BucketNotEmpty": (409, "The bucket still holds objects or versions of them."),
    "EntityTooLarge": (400, "The upload is larger than allowed."),
    "EntityTooSmall": (400, "The upload is smaller than allowed; all parts but the last have at least 5 MiB."),
    "IncompleteBody": (400, "Fewer bytes came than the headers promised."),
    "InternalError": (500, "Something failed on our side. Try again."),
    "InvalidAccessKeyId": (403, "The access key is not known here."),
    "InvalidArgument": (400, "An argument is not valid."),
    "InvalidBucketName": (400, "The bucket's name is not valid."),
    "InvalidBucketState": (409, "The request does not fit the bucket's state."),
    "InvalidDigest": (400, "The Content-MD5 is not one."),
    "InvalidPart": (400, "A part is not there, or has another ETag."),
    "InvalidPartOrder": (400, "The parts do not ascend."),
    "InvalidPolicyDocument": (400, "The form's policy is not valid."),
    "InvalidRange": (416, "The range cannot be satisfied."),
    "InvalidRequest": (400, "The request is not valid."),
    "InvalidRetentionPeriod": (400, "A retention period is a positive number of days or years."),
    "InvalidStorageClass": (400, "There is one storage class, STANDARD."),
    "InvalidTag": (400, "A tag is not valid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "A key has at most 1024 bytes."),
    "MalformedACLError": (400, "The ACL is not well-formed."),
    "MalformedPOSTRequest": (400, "The form is not well-formed multipart/form-data."),
    "MalformedPolicy": (400, "The policy is not valid."),
    "MalformedXML": (400, "The XML is not well-formed, or not what belongs here."),
    "MaxMessageLengthExceeded": (400, "The document is too long."),
    "MetadataTooLarge": (400, "An object's own metadata has at most 2 KiB."),
    "MethodNotAllowed": (405, "The method is not allowed here."),
    "MissingContentLength": (411, "A Content-Length is needed."),
    "NoSuchBucket": (404, "There is no such bucket."),
    "NoSuchBucketPolicy": (404, "The bucket has no policy."),
    "NoSuchCORSConfiguration": (404, "The bucket has no CORS configuration."),
    "NoSuchKey": (404, "There is no such object."),
    "NoSuchLifecycleConfiguration": (404, "The bucket has no lifecycle configuration."),
    "NoSuchObjectLockConfiguration": (404, "The object has no retention."),
    "NoSuchPublicAccessBlockConfiguration": (404, "The bucket has no public access block."),
    "NoSuchTagSet": (404, "The bucket has no tags."),
    "NoSuchUpload": (404, "There is no such upload. It may have been completed or given up."),
    "NoSuchVersion": (404, "There is no such version."),
    "NotImplemented": (501, "This is not offered here."),
    "NotModified": (304, "Not Modified"),
    "ObjectLockConfigurationNotFoundError": (404, "The bucket has no object lock configuration."),
    "OperationAborted": (409, "Something else is being done to it. Try again."),
    "OwnershipControlsNotFoundError": (404, "The bucket has no ownership controls."),
    "PreconditionFailed": (412, "A condition of the request does not hold."),
    "QuotaExceeded": (403, "The account keeps as much as it may without paying for it."),
    "RequestTimeTooSkewed": (403, "The request's time is too far from ours."),
    "RequestTimeout": (400, "The body came too slowly."),
    "ServerSideEncryptionConfigurationNotFoundError": (404, "The bucket has no encryption configuration."),
    "ServiceUnavailable": (503, "A part of the network is not there right now. Try again."),
    "SlowDown": (503, "A limit was reached. Try again, more slowly."),
    "SignatureDoesNotMatch": (403, "The signature is not the one that follows from the request and the secret."),
    "TooManyBuckets": (400, "The account has as many buckets as it may have."),
    "UnresolvableGrantByEmailAddress": (400, "No account has this e-mail address."),
    "XAmzContentSHA256Mismatch": (400, "The content does not have the SHA-256 that was sent."),
}

_OURS: Final[dict[str, str]] = {
    "storage.bucket_yours": "BucketAlreadyOwnedByYou",
    "storage.bucket_taken": "BucketAlreadyExists",
    "storage.bucket_not_empty": "BucketNotEmpty",
    "storage.buckets": "TooManyBuckets",
    "storage.head": "MetadataTooLarge",
    "storage.settings": "InvalidRequest",
    "storage.kept_full": "QuotaExceeded",
    "storage.no_bucket": "NoSuchBucket",
    "storage.no_object": "NoSuchKey",
    "storage.no_version": "NoSuchVersion",
    "storage.no_upload": "NoSuchUpload",
    "storage.part": "InvalidPart",
    "storage.condition": "PreconditionFailed",
    "storage.retained": "AccessDenied",
    "storage.suspended": "AccessDenied",
    "storage.no_subscription": "AccessDenied",
}
_BY_KIND: Final[dict[type[FallowError], str]] = {
    InvalidInput: "InvalidArgument",
    NotAllowed: "AccessDenied",
    NotFound: "InternalError",
    Conflict: "OperationAborted",
    InsufficientFunds: "AccessDenied",
    TooMuch: "SlowDown",
    Unavailable: "ServiceUnavailable",
}


class S3Error(Exception):
    """An answer that says no. `code` is S3's; `headers` go with it."""

    def __init__(
        self, code: str, message: str = "", *, status: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        known, said = _KNOWN.get(code, (400, code))
        super().__init__(message or said)
        self.code = code
        self.message = message or said
        self.status = status or known
        self.headers = dict(headers or {})


def code_of(ours: str) -> str:
    """The code that S3 has for one of the storage calls; AccessDenied where it has none."""
    return _OURS.get(ours, "AccessDenied")


def translated(error: FallowError) -> S3Error:
    """Say an error of the network in S3's words, and keep the sentence."""
    code = _OURS.get(error.code) or next(
        (code for kind, code in _BY_KIND.items() if isinstance(error, kind)), "InternalError"
    )
    said = error.message if not error.hint else f"{error.message} {error.hint}"
    return S3Error(code, said)


def error_document(error: S3Error, resource: str, request_id: str) -> bytes:
    """Write the document that goes with an error."""
    return document(
        "Error",
        Node("Code", error.code),
        Node("Message", error.message),
        Node("Resource", resource),
        Node("RequestId", request_id),
        namespace="",
    )
