"""Answers to calls of storage fit into a message of the bus, even where all in them is as large as it may be."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from fallow.domain.records import COUNT_MAX
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.uploads import PART, Part
from fallow.verticals.storage.control.buckets import SETTING_NAME_CHARS_MAX, SETTINGS_BYTES_MAX, SETTINGS_MAX
from fallow.verticals.storage.core.calls.accounts import (
    LAST_DAY,
    USAGE_BUCKETS_MAX,
    USAGE_DAYS_MAX,
    Usage,
    UsedBucket,
    UsedDay,
)
from fallow.verticals.storage.core.calls.base import HEAD_BYTES_MAX, PAGE_MAX, PARTS_MAX
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.uploads import (
    PART_HEAD_BYTES_MAX,
    UPLOADS_PAGE_MAX,
    ListUploads,
    PutPart,
    StoredPart,
    Upload,
)
from fallow.verticals.storage.core.upkeep import BUCKETS_AT_ONCE

ROUND: Final = 4096
"""What a reply has around its answer, and more."""
SETTINGS: Final = {
    "\U0001f4a0" * SETTING_NAME_CHARS_MAX + str(n): bytes(SETTINGS_BYTES_MAX // SETTINGS_MAX)
    for n in range(SETTINGS_MAX)
}
BUCKET: Final = Bucket(
    name="b" * 255,
    account="0x" + "a1" * 20,
    made_ms=COUNT_MAX,
    profile="small",
    countries=["DE"] * 64,
    versioning="suspended",
    lock=True,
)
UPLOAD: Final = Upload(
    stream=bytes(16),
    object=bytes(2048),
    made_ms=COUNT_MAX,
    head=bytes(HEAD_BYTES_MAX),
    tags=bytes(HEAD_BYTES_MAX),
)
STORED: Final = StoredPart(
    number=PARTS_MAX, size=COUNT_MAX, etag="\U0001f4a0" * 80, made_ms=COUNT_MAX, head=bytes(PART_HEAD_BYTES_MAX)
)
DAY: Final = UsedDay(
    day=LAST_DAY,
    stored_byte_hours=COUNT_MAX,
    payload_byte_hours=COUNT_MAX,
    egress_bytes=COUNT_MAX,
    requests={"put": COUNT_MAX, "get": COUNT_MAX, "list": COUNT_MAX},
    cost_microusd=COUNT_MAX,
)
USED: Final = UsedBucket(
    id=COUNT_MAX, bucket=BUCKET.name, objects=COUNT_MAX, bytes=COUNT_MAX, days=[DAY] * USAGE_DAYS_MAX
)


@pytest.mark.parametrize(
    "answer",
    [
        [BUCKET] * PAGE_MAX,
        [msgspec.structs.replace(BUCKET, settings=SETTINGS)] * BUCKETS_AT_ONCE,
        [UPLOAD] * UPLOADS_PAGE_MAX,
        [STORED] * PAGE_MAX,
        [USED] * USAGE_BUCKETS_MAX,
    ],
    ids=["buckets", "buckets that are due", "uploads", "parts", "usage"],
)
def test_the_largest_page_is_one_message(answer: object) -> None:
    assert len(msgspec.msgpack.encode(answer)) + ROUND <= MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("call", "field", "most"),
    [
        (ListUploads, "limit", UPLOADS_PAGE_MAX),
        (Usage, "to_day", LAST_DAY),
    ],
)
def test_no_more_can_be_asked_for(call: type[msgspec.Struct], field: str, most: int) -> None:
    asked = {"account": "", "bucket": "b", "from_day": 0, "to_day": 0, field: most}
    asked = {name: value for name, value in asked.items() if name in call.__struct_fields__}
    msgspec.convert(asked, call)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**asked, field: most + 1}, call)


def test_what_stands_beside_a_part_fits_whatever_checksums_are_sent() -> None:
    part = Part(
        etag="e" * 32,
        checksums={"crc32": "c" * 8, "crc32c": "c" * 8, "crc64nvme": "c" * 12, "sha1": "c" * 28, "sha256": "c" * 44},
    )
    sealed = Keys.under(bytes(32), "bucket", bytes).seal(b"name", PART, part)
    asked = {"account": "", "bucket": "b", "stream": bytes(16), "bytes_of": bytes(16), "number": 1, "size": 1}
    assert msgspec.convert({**asked, "etag": "e", "head": sealed}, PutPart).head == sealed
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**asked, "etag": "e", "head": bytes(PART_HEAD_BYTES_MAX + 1)}, PutPart)
