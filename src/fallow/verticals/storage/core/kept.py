"""What buckets and objects keep for gateways. Whose they are can write anything there, with another client. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput

Kept = TypeVar("Kept")


def read_kept(data: bytes, decoder: msgspec.msgpack.Decoder[Kept]) -> Kept:
    """Read what was kept.

    Raises:
        InvalidInput: `storage.kept`: no gateway wrote it.
    """
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise InvalidInput("storage.kept", "A setting that the bucket or the object has cannot be read.") from error
