"""What a bucket's policy can speak of: the actions of S3 on a bucket or on what is in it."""

from __future__ import annotations

from typing import Final

_READ_AND_SET: Final = (
    "AccelerateConfiguration", "AnalyticsConfiguration", "BucketAbac", "BucketAcl", "BucketCORS", "BucketLogging",
    "BucketNotification", "BucketObjectLockConfiguration", "BucketOwnershipControls", "BucketPolicy",
    "BucketPublicAccessBlock", "BucketRequestPayment", "BucketTagging", "BucketVersioning", "BucketWebsite",
    "EncryptionConfiguration", "IntelligentTieringConfiguration", "InventoryConfiguration", "LifecycleConfiguration",
    "MetricsConfiguration", "Object", "ObjectAcl", "ObjectLegalHold", "ObjectRetention", "ObjectTagging",
    "ObjectVersionAcl", "ObjectVersionTagging", "ReplicationConfiguration",
)  # fmt: skip
"""Each with Get and with Put before it."""
_OTHERS: Final = (
    "AbortMultipartUpload", "BypassGovernanceRetention", "CreateBucket", "CreateBucketMetadataTableConfiguration",
    "DeleteBucket", "DeleteBucketMetadataTableConfiguration", "DeleteBucketPolicy", "DeleteBucketWebsite",
    "DeleteObject", "DeleteObjectTagging", "DeleteObjectVersion", "DeleteObjectVersionTagging", "GetBucketLocation",
    "GetBucketMetadataTableConfiguration", "GetBucketPolicyStatus", "GetObjectAttributes", "GetObjectTorrent",
    "GetObjectVersion", "GetObjectVersionAttributes", "GetObjectVersionForReplication", "GetObjectVersionTorrent",
    "InitiateReplication", "ListBucket", "ListBucketMultipartUploads", "ListBucketVersions",
    "ListMultipartUploadParts", "ListTagsForResource", "ObjectOwnerOverrideToBucketOwner", "PauseReplication",
    "ReplicateDelete", "ReplicateObject", "ReplicateTags", "RestoreObject", "TagResource", "UntagResource",
    "UpdateBucketMetadataInventoryTableConfiguration", "UpdateBucketMetadataJournalTableConfiguration",
)  # fmt: skip
ACTIONS: Final = frozenset(
    f"s3:{name}".lower() for name in (*_OTHERS, *(f"{verb}{name}" for name in _READ_AND_SET for verb in ("Get", "Put")))
)
"""In lower case, as they are compared; those that are not offered here, too."""
