"""Times as S3 writes them. All are in UTC; milliseconds since 1970 inside."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

_S: Final = 1000
_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ")


def iso(at_ms: int) -> str:
    """As documents have it: 2026-01-31T23:59:59.123Z."""
    at = datetime.fromtimestamp(at_ms // _S, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % _S:03}Z"


def basic(at_ms: int) -> str:
    """As signatures have it: 20260131T235959Z."""
    return f"{datetime.fromtimestamp(at_ms // _S, UTC):%Y%m%dT%H%M%SZ}"


def http(at_ms: int) -> str:
    """As headers have it: Sat, 31 Jan 2026 23:59:59 GMT."""
    return format_datetime(datetime.fromtimestamp(at_ms // _S, UTC), usegmt=True)


def read_iso(text: str) -> int:
    """Read a time of ISO 8601.

    Raises:
        ValueError: it is none.
    """
    return _ms(datetime.fromisoformat(text))


def read_strict(text: str) -> int:
    """Read a time as policies of forms must have it, with a Z at its end.

    Raises:
        ValueError: it is none.
    """
    for form in _FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * _S)
        except ValueError:
            continue
    raise ValueError("no such time")


def read_http(text: str) -> int | None:
    """Read a time of a header; None: it is none, which headers' readers pass over."""
    try:
        return _ms(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError):
        try:
            return read_iso(text)
        except ValueError:
            return None


def _ms(at: datetime) -> int:
    try:
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * _S)
    except OverflowError as error:
        raise ValueError("no such time") from error
