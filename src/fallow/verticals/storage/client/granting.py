"""Grants as they are handed over: one string of what the network is shown, and of the keys that go with it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.grants import NONCE_BYTES, new_credential, read_credential, root_key
from fallow.verticals.storage.client.ground import name_bytes
from fallow.verticals.storage.client.keys import Keys, KeysOf, Share
from fallow.verticals.storage.core.grants import OPERATIONS, PREFIX, Caveat, Operation, read_caveats

TEXT_CHARACTERS_MAX: Final = 32_768
_SUM_BYTES: Final = 4


class Limits(NamedTuple):
    """Operations that are allowed, and when: from `from_ms` on, and before `until_ms` (None: until it is revoked)."""

    allow: Sequence[Operation]
    from_ms: int = 0
    until_ms: int | None = None


class Signing(NamedTuple):
    """What an API key's holder makes grants with: its public part, and what he signs with."""

    key_id: str
    secret: str


class Home(NamedTuple):
    """Where a grant holds: the network's URL, and the certificate (DER) of its own authority, if it has one."""

    url: str
    ca: bytes = b""


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A grant: where the network is (see `Home`), what it is shown, and what opens the objects."""

    url: str
    ca: bytes = b""
    credential: str
    share: Share

    def __repr__(self) -> str:
        """Leave out what it is worth."""
        return f"Grant({self.url!r}, {self.share!r})"

    @property
    def text(self) -> str:
        """What is handed over. Who has it can do all that it allows, and hand it on."""
        data = msgspec.msgpack.encode(self)
        return PREFIX + base64.urlsafe_b64encode(data + _sum(data)).decode().rstrip("=")

    @property
    def id(self) -> bytes:
        """By which its owner revokes it, and all that was made of it."""
        return read_credential(self.credential).id

    @property
    def limits(self) -> Limits:
        """What all its restrictions together leave.

        Raises:
            NotAllowed: one is not understood here.
        """
        caveats = read_caveats(read_credential(self.credential).caveats)
        until = [one.until_ms for one in caveats if one.until_ms is not None]
        allow = [one for one in OPERATIONS if all(one in caveat.allow for caveat in caveats)]
        return Limits(allow, max((one.from_ms for one in caveats), default=0), min(until, default=None))

    def keys_of(self, random_bytes: Callable[[int], bytes]) -> KeysOf:
        """Return what a store opens objects with; asked for another bucket that raises NotAllowed `storage.outside`."""

        def of(_: str, bucket: str) -> Keys:
            if bucket != self.share.bucket:
                raise NotAllowed("storage.outside", f"The grant is for the bucket {self.share.bucket}, not {bucket!r}.")
            return Keys(self.share, random_bytes)

        return of


def new_grant(
    signing: Signing, keys: Keys, name: str, limits: Limits, home: Home, random_bytes: Callable[[int], bytes]
) -> Grant:
    """Make a grant for all below `name`, where that ends with "/" or is empty, else for that one object. Asks nobody.

    Raises:
        InvalidInput: it would allow nothing, or what cannot be (`storage.grant_empty`, `storage.grant_list`).
        TooMuch: the name is too long for it.
    """
    share = keys.share(name_bytes(name))
    root, nonce = root_key(signing.secret), random_bytes(NONCE_BYTES)
    credential = new_credential(root, signing.key_id, nonce, _caveat(share, limits))
    return Grant(url=home.url, ca=home.ca, credential=credential.text, share=share)


def narrowed(grant: Grant, name: str, limits: Limits) -> Grant:
    """Make a narrower grant of one, as whoever has it can. Asks nobody.

    Raises:
        NotAllowed: it would allow more (`storage.outside`, `storage.grant_wider`).
        InvalidInput: as `new_grant`.
        TooMuch: it was narrowed too often.
    """
    share, left = Keys(grant.share, _none_drawn).share(name_bytes(name)), grant.limits
    if wider := [one for one in limits.allow if one not in left.allow]:
        raise NotAllowed("storage.grant_wider", f"The grant does not allow to {wider[0]}, so none made of it can.")
    credential = read_credential(grant.credential).narrowed(_caveat(share, limits))
    return msgspec.structs.replace(grant, credential=credential.text, share=share)


def read_grant(text: str) -> Grant:
    """Read a grant as it was handed over.

    Raises:
        InvalidInput: `storage.grant_text`: it is none, or damaged.
    """
    code = text.removeprefix(PREFIX) if text.startswith(PREFIX) and len(text) <= TEXT_CHARACTERS_MAX else ""
    try:
        data = base64.b64decode(code + "=" * (-len(code) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    body, told = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    try:
        return msgspec.msgpack.decode(body if told == _sum(body) else b"", type=Grant)
    except UNREADABLE:
        hint = f"It begins with {PREFIX} and is one line; it may have been cut short."
        raise InvalidInput("storage.grant_text", "This is no grant, or a damaged one.", hint) from None


def _caveat(share: Share, limits: Limits) -> bytes:
    if not limits.allow or (limits.until_ms is not None and limits.until_ms <= limits.from_ms):
        hint = f"It may {', '.join(OPERATIONS)}, and ends after it begins."
        raise InvalidInput("storage.grant_empty", "Such a grant would allow nothing.", hint)
    if share.exact and "list" in limits.allow:
        hint = 'To share a folder, end its name with "/".'
        raise InvalidInput("storage.grant_list", "One object cannot be listed.", hint)
    caveat = Caveat(
        bucket=share.bucket,
        sealed=share.sealed,
        exact=share.exact,
        allow=[one for one in OPERATIONS if one in limits.allow],
        from_ms=limits.from_ms,
        until_ms=limits.until_ms,
    )
    return msgspec.msgpack.encode(caveat)


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_SUM_BYTES]


def _none_drawn(_: int) -> bytes:
    raise AssertionError("keys that only make others draw nothing")
