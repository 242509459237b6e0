"""Conditions of requests: on what is read, on the source of a copy, and on what a write replaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from fallow.verticals.storage.client.store import Entry
from fallow.verticals.storage.core.calls.objects import If
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.times import read_http

_RANGE: Final = re.compile(r"^bytes=([0-9]{0,19})-([0-9]{0,19})\Z")
"""Some clients write the largest number of 64 bits where they mean the end."""
_COPY_RANGE: Final = re.compile(r"^bytes=([0-9]{1,15})-([0-9]{1,15})\Z")
_MS: Final = 1000


class Span(NamedTuple):
    """Bytes `start` up to `stop`."""

    start: int
    stop: int


def check_read(entry: Entry, headers: Mapping[str, str], prefix: str = "") -> None:
    """Check the conditions on what is read; `prefix` is that of a copy's source.

    Raises:
        S3Error: PreconditionFailed, NotModified.
    """
    match, unmodified = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-unmodified-since")
    none, modified = headers.get(f"{prefix}if-none-match"), headers.get(f"{prefix}if-modified-since")
    unchanged = "PreconditionFailed" if prefix else "NotModified"
    if match is not None:
        if not _named(match, entry):
            raise S3Error("PreconditionFailed")
    elif unmodified is not None and _after(entry, unmodified):
        raise S3Error("PreconditionFailed")
    if none is not None:
        if _named(none, entry):
            raise _same(unchanged, entry)
    elif modified is not None and read_http(modified) is not None and not _after(entry, modified):
        raise _same(unchanged, entry)


def write_condition(headers: Mapping[str, str]) -> If:
    """The condition of a write that the store checks: If-Match, and If-None-Match of anything."""
    if headers.get("if-none-match", "").strip() == "*":
        return If(absent=True)
    return If(etag=bare(headers.get("if-match", "")))


def other_than(headers: Mapping[str, str]) -> str | None:
    """The ETag that what a write replaces must not have; None: none is named."""
    value = headers.get("if-none-match", "").strip()
    return bare(value) if value not in {"", "*"} else None


def delete_condition(headers: Mapping[str, str]) -> If:
    """The condition of a deletion.

    Raises:
        S3Error: InvalidArgument.
    """
    time, size = headers.get("x-amz-if-match-last-modified-time"), headers.get("x-amz-if-match-size")
    return condition(headers.get("if-match", ""), time or "", size or "")


def condition(etag: str, time: str, size: str) -> If:
    """A condition from its parts, "" where they say nothing.

    Raises:
        S3Error: InvalidArgument.
    """
    modified_ms, bytes_all = read_http(time) if time else None, whole(size)
    if (time and modified_ms is None) or (size and bytes_all is None):
        raise S3Error("InvalidArgument", "A condition is malformed.")
    return If(etag=bare(etag), modified_ms=modified_ms, size=bytes_all)


def bare(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip().removeprefix("W/").strip('"')


def read_range(header: str, size: int) -> Span | None:
    """Read a Range; None: there is none, or none that is understood, and all is to be read.

    Raises:
        S3Error: InvalidRange.
    """
    found = _RANGE.match(header.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        last = min(int(found[2]), size)
        start, stop = size - last, size
    else:
        start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= stop:
        raise S3Error("InvalidRange", headers={"content-range": f"bytes */{size}"})
    return Span(start, stop)


def read_copy_range(header: str, size: int) -> Span:
    """Read the range of a copy's source, which must be right.

    Raises:
        S3Error: InvalidArgument, InvalidRange.
    """
    found = _COPY_RANGE.match(header)
    if found is None or int(found[2]) < int(found[1]):
        raise S3Error("InvalidArgument", "The range of a copy's source is bytes=first-last.")
    if int(found[2]) >= size:
        raise S3Error("InvalidRange")
    return Span(int(found[1]), int(found[2]) + 1)


def _named(header: str, entry: Entry) -> bool:
    return any(one.strip() == "*" or bare(one) == entry.head.etag for one in header.split(","))


def _after(entry: Entry, header: str) -> bool:
    """Whether a version was made after a time; S3 sees whole seconds."""
    at_ms = read_http(header)
    return at_ms is not None and entry.made_ms // _MS > at_ms // _MS


def _same(code: str, entry: Entry) -> S3Error:
    return S3Error(code, headers={"etag": f'"{entry.head.etag}"'})
