"""The secrets of an account's objects: all follow from its root secret, and along an object's path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.verticals.storage.core.names import SECRET_BYTES, below, open_names, seal_name
from fallow.verticals.storage.core.sealing import NONCE_BYTES

_BUCKET: Final = "fallow storage 1: secret of a bucket"
_OBJECT: Final = "fallow storage 1: secret of an object"
_DOCUMENT: Final = "fallow storage 1: documents beside an object"
_CHECK: Final = "fallow storage 1: check value of a bucket's secret"
_ETAG: Final = "fallow storage 1: an ETag, to the network"
CHECK_BYTES: Final = 16
ETAG_BYTES: Final = 16
SEALED_BYTES: Final = 2
"""That a byte of a name is sealed to."""

DocumentT = TypeVar("DocumentT")


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What opens a part of a bucket, and nothing beside it.

    The part is all whose names begin with `name`, which ends with "/" (empty: the whole bucket), or with `exact` the
    one object of that name. `sealed` is the name as the network knows it, `check` the bucket's (`Keys.check`).
    """

    bucket: str
    name: bytes = b""
    exact: bool = False
    sealed: bytes = b""
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    check: bytes

    def __repr__(self) -> str:
        """Leave out the secret."""
        return f"Share({self.bucket!r}, {self.name!r}, exact={self.exact})"


class Keys:
    """The secrets of a bucket, or of a part of it."""

    def __init__(self, share: Share, random_bytes: Callable[[int], bytes]) -> None:
        self._share = share
        self._bucket = share.bucket
        self._random_bytes = random_bytes

    @classmethod
    def under(cls, root: bytes, bucket: str, random_bytes: Callable[[int], bytes]) -> Keys:
        """Return those of a whole bucket, from its account's root secret."""
        secret = blake3(root + bucket.encode(), derive_key_context=_BUCKET).digest()
        check = blake3(secret, derive_key_context=_CHECK).digest(length=CHECK_BYTES)
        return cls(Share(bucket=bucket, secret=secret, check=check), random_bytes)

    @property
    def check(self) -> bytes:
        """What follows from the bucket's secret and tells nothing of it, but which one it is."""
        return self._share.check

    def share(self, name: bytes) -> Share:
        """Return what opens all below a name that ends with "/" (empty: the whole bucket), else that one object.

        Raises:
            NotAllowed: `storage.outside`.
        """
        exact = bool(name) and not name.endswith(b"/")
        if self._share.exact and name == self._share.name:
            return self._share
        secret = self.secret_of(name) if exact else self._secret_below(name)
        return msgspec.structs.replace(self._share, name=name, exact=exact, sealed=self.seal_name(name), secret=secret)

    def seal_name(self, name: bytes) -> bytes:
        """Seal a name, or the beginning of one.

        Raises:
            NotAllowed: `storage.outside`: these keys do not reach there.
        """
        if self._share.name.startswith(name):
            return self._share.sealed[: SEALED_BYTES * len(name)]
        return self._share.sealed + seal_name(self._share.secret, self._rest(name))

    def open_names(self, sealed: list[bytes]) -> list[bytes]:
        """Open names; quicker where neighbours have beginnings in common.

        Raises:
            InvalidInput: `storage.name`: one was sealed under another secret, or these keys do not reach there.
        """
        before = len(self._share.sealed)
        if any(one[:before] != self._share.sealed or (self._share.exact and len(one) > before) for one in sealed):
            raise InvalidInput("storage.name", "This key does not open the object's name.")
        return [self._share.name + rest for rest in open_names(self._share.secret, [one[before:] for one in sealed])]

    def open_each(self, sealed: list[bytes]) -> list[bytes | None]:
        """Open names that others may have put there; None for one that is none: it was not sealed so, or is no text."""
        try:
            names = self.open_names(sealed)
        except InvalidInput:
            return [self._open_one(one) for one in sealed]
        return [name if _is_text(name) else None for name in names]

    def _open_one(self, sealed: bytes) -> bytes | None:
        try:
            (name,) = self.open_names([sealed])
        except InvalidInput:
            return None
        return name if _is_text(name) else None

    def secret_of(self, name: bytes) -> bytes:
        """The secret of an object; whoever has that of a part of its path can make it, too.

        Raises:
            NotAllowed: `storage.outside`: these keys do not reach there.
        """
        if self._share.exact:
            if name != self._share.name:
                raise self._outside()
            return self._share.secret
        last = name.rpartition(b"/")[2]
        return blake3(self._secret_below(name.removesuffix(last)) + last, derive_key_context=_OBJECT).digest()

    def _secret_below(self, folder: bytes) -> bytes:
        secret = self._share.secret
        for part in self._rest(folder).split(b"/")[:-1]:
            secret = below(secret, part)
        return secret

    def _rest(self, name: bytes) -> bytes:
        """What stands in a name behind the part that these keys are for."""
        if self._share.exact or not name.startswith(self._share.name):
            raise self._outside()
        return name[len(self._share.name) :]

    def _outside(self) -> NotAllowed:
        at = self._share.name.decode(errors="replace")
        return NotAllowed("storage.outside", f"The keys that are here open {at!r} in {self._bucket} alone.")

    def etag(self, name: bytes, etag: str) -> str:
        """An ETag as the network gets it: it tells whether two of an object are the same, and nothing of the bytes."""
        return blake3(self.secret_of(name) + etag.encode(), derive_key_context=_ETAG).hexdigest(length=ETAG_BYTES)

    def seal(self, name: bytes, kind: str, document: object, stream: bytes = b"") -> bytes:
        """Seal a document that stands beside an object, of a kind; with `stream`: beside these bytes of it alone."""
        nonce = self._random_bytes(NONCE_BYTES)
        return nonce + self._aes(name).encrypt(nonce, msgspec.msgpack.encode(document), self._bound(name, kind, stream))

    def open(self, name: bytes, kind: str, sealed: bytes, to: type[DocumentT], stream: bytes = b"") -> DocumentT:
        """Open what `seal` sealed.

        Raises:
            InvalidInput: `storage.document`: it was not sealed for this object, or for these bytes, or is of another
                kind.
        """
        try:
            data = self._aes(name).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound(name, kind, stream))
            return msgspec.msgpack.decode(data, type=to)
        except (InvalidTag, ValueError, *UNREADABLE) as error:
            raise InvalidInput("storage.document", "This key does not open what stands beside the object.") from error

    def _aes(self, name: bytes) -> AESGCM:
        return AESGCM(blake3(self.secret_of(name), derive_key_context=_DOCUMENT).digest())

    def _bound(self, name: bytes, kind: str, stream: bytes) -> bytes:
        return msgspec.msgpack.encode((self._bucket, name, kind, stream))


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


KeysOf = Callable[[str, str], Keys]
"""The keys of an account's bucket."""


def keys_under(secret_of: Callable[[str], bytes], random_bytes: Callable[[int], bytes]) -> KeysOf:
    """Keys that follow from the accounts' root secrets."""
    return lambda account, bucket: Keys.under(secret_of(account), bucket, random_bytes)
