"""Credentials that can be made offline, handed on narrower by whoever holds one, and revoked. Pure.

A macaroon (Birgisson et al., "Macaroons: Cookies with Contextual Caveats", NDSS 2014) with first-party caveats: a chain
of HMAC-SHA256, each over one caveat and keyed with the one before. Who has the last one can append a caveat and take
none away. The first key follows from what the holder of an API key signs with, which the network computes, too: it
keeps nothing of a grant, and a grant ends with its API key. What a caveat says is the business of whoever checks it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.encoding import tagged_hash
from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch

NONCE_BYTES: Final = 16
ID_BYTES: Final = 16
TAG_BYTES: Final = 32
CAVEATS_MAX: Final = 8
CAVEAT_BYTES_MAX: Final = 3072
TEXT_CHARACTERS_MAX: Final = 8192
"""Of a credential: it travels in a header, for which servers have 16 KiB and more."""

PREFIX: Final = "fg"
_FORM: Final = re.compile(rf"{PREFIX}_([a-z2-7]{{8}})_([A-Za-z0-9_-]{{40,{TEXT_CHARACTERS_MAX}}})")
_ROOT: Final = b"fallow/grants/1"
_HEAD: Final = b"fallow/grant/1\0"
_ID: Final = "fallow/grant-id/1"


class _Chain(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    caveats: Annotated[list[Annotated[bytes, Meta(max_length=CAVEAT_BYTES_MAX)]], Meta(max_length=CAVEATS_MAX)]
    tag: Annotated[bytes, Meta(min_length=TAG_BYTES, max_length=TAG_BYTES)]


class Credential(NamedTuple):
    """A grant as the network is shown it. `key_id` is the public part of the API key that it stands on."""

    key_id: str
    nonce: bytes
    caveats: tuple[bytes, ...]
    tag: bytes

    def __repr__(self) -> str:
        """Leave out what it is worth."""
        return f"Credential(key_id={self.key_id!r}, caveats={len(self.caveats)})"

    @property
    def id(self) -> bytes:
        """By which it is revoked, and all that was made of it. It tells nothing of the credential."""
        return _id(self.tag)

    @property
    def text(self) -> str:
        """What is sent as `Authorization: Bearer`."""
        data = msgspec.msgpack.encode(_Chain(self.nonce, list(self.caveats), self.tag))
        return f"{PREFIX}_{self.key_id}_{base64.urlsafe_b64encode(data).decode().rstrip('=')}"

    def narrowed(self, caveat: bytes) -> Credential:
        """Return one that is held to this, too. It takes no secret but the credential itself.

        Raises:
            TooMuch: `grant.length`: it was narrowed too often, or the caveat is too long.
        """
        made = self._replace(caveats=(*self.caveats, caveat), tag=_mac(self.tag, caveat))
        if len(caveat) > CAVEAT_BYTES_MAX or len(made.caveats) > CAVEATS_MAX or len(made.text) > TEXT_CHARACTERS_MAX:
            hint = "Have its owner make a new one instead of narrowing this one further."
            raise TooMuch("grant.length", f"A grant has {CAVEATS_MAX} caveats at most, and a bounded length.", hint)
        return made


def root_key(signing_secret: str) -> bytes:
    """The key that an API key's grants stand on, from what its holder signs with."""
    return _mac(signing_secret.encode(), _ROOT)


def new_credential(root: bytes, key_id: str, nonce: bytes, caveat: bytes) -> Credential:
    """Make one. `nonce` has 16 bytes, drawn anew each time: by it grants of the same kind are revoked apart."""
    return Credential(key_id, nonce, (), _head(root, key_id, nonce)).narrowed(caveat)


def is_credential(text: str) -> bool:
    """Whether a bearer token is one, and none of the other kinds."""
    return text.startswith(f"{PREFIX}_")


def key_id_of(text: str) -> str:
    """The API key that a credential says it stands on, whether or not that is so.

    Raises:
        NotAllowed: as `read_credential`.
    """
    form = _FORM.fullmatch(text) if len(text) <= TEXT_CHARACTERS_MAX else None
    if form is None:
        raise refused()
    return form[1]


def read_credential(text: str) -> Credential:
    """Take a credential apart; nothing of it is checked yet.

    Raises:
        NotAllowed: `auth.grant`: it is none.
    """
    key_id = key_id_of(text)
    data = text.removeprefix(f"{PREFIX}_{key_id}_")
    try:
        raw = base64.b64decode(data + "=" * (-len(data) % 4), b"-_", validate=True)
        chain = msgspec.msgpack.decode(raw, type=_Chain)
    except (binascii.Error, ValueError, *UNREADABLE):
        raise refused() from None
    return Credential(key_id, chain.nonce, tuple(chain.caveats), chain.tag)


def check_chain(root: bytes, credential: Credential) -> Sequence[bytes]:
    """Check that a credential was made under this key; returns the ids of it and of all that it was narrowed from.

    How long this takes tells nothing of where a forged one is wrong.

    Raises:
        NotAllowed: `auth.grant`: it was not, or has no caveat: that would be an API key by another name.
    """
    tag, ids = _head(root, credential.key_id, credential.nonce), list[bytes]()
    for caveat in credential.caveats:
        tag = _mac(tag, caveat)
        ids.append(_id(tag))
    if not hmac.compare_digest(tag, credential.tag) or not ids:
        raise refused()
    return ids


def refused() -> NotAllowed:
    """What whoever shows a forged or damaged one is told: the same for all that can be wrong with it."""
    return NotAllowed(
        "auth.grant", "This grant is not valid.", "It may be cut short, or the key that it stands on revoked."
    )


def read_grant_id(text: str) -> bytes:
    """Read an id as people are shown it: 32 hex digits.

    Raises:
        InvalidInput: `grant.id`.
    """
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != ID_BYTES:
        raise InvalidInput("grant.id", f"{text[:64]!r} is no grant's id.", "It has 32 hex digits.")
    return found


def _head(root: bytes, key_id: str, nonce: bytes) -> bytes:
    return _mac(root, _HEAD + key_id.encode() + b"\0" + nonce)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _id(tag: bytes) -> bytes:
    return tagged_hash(_ID, tag)[:ID_BYTES]
