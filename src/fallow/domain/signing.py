"""Signatures over structs: a domain tag, a deterministic encoding, Ed25519."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import msgspec

from fallow.domain.encoding import decode, encode
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import verify
from fallow.domain.records import convert, to_builtins

Sign = Callable[[bytes], bytes]
"""Signs a message with an Ed25519 key that stays where it is; returns 64 bytes."""


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of structs that one Ed25519 key signs. `tag` separates their signatures from all others."""

    tag: ClassVar[str]

    def seal(self, sign: Sign) -> bytes:
        """Return the struct with its signature, as bytes."""
        body = encode(to_builtins(self))
        return encode([body, sign(signed_message(self.tag, body))])

    @classmethod
    def open(cls, data: bytes, public_key: bytes) -> Self:
        """Read what `seal` wrote, with the key that must have signed it.

        Raises:
            InvalidInput: malformed.
            NotAllowed: the signature is not by that key.
        """
        envelope = decode(data)
        if not (isinstance(envelope, list) and len(envelope) == 2 and all(isinstance(x, bytes) for x in envelope)):  # noqa: PLR2004
            raise InvalidInput("signing.malformed", f"This is no signed {cls.__name__.lower()}.")
        body, signature = envelope
        if not verify(public_key, signed_message(cls.tag, body), signature):
            raise NotAllowed("signing.signature", f"The {cls.__name__.lower()} is not signed by the expected key.")
        return convert(decode(body), cls, "signing.body")


def signed_message(tag: str, data: bytes) -> bytes:
    """What is signed: the tag, a zero byte, the data."""
    return tag.encode() + b"\0" + data
