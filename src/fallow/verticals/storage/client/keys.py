"""The secrets of an account's objects: all follow from its root secret, and along an object's path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.names import below, open_names, seal_name
from fallow.verticals.storage.core.sealing import NONCE_BYTES

_BUCKET: Final = "fallow storage 1: secret of a bucket"
_OBJECT: Final = "fallow storage 1: secret of an object"
_DOCUMENT: Final = "fallow storage 1: documents beside an object"
_CHECK: Final = "fallow storage 1: check value of a bucket's secret"
_ETAG: Final = "fallow storage 1: an ETag, to the network"
CHECK_BYTES: Final = 16
ETAG_BYTES: Final = 16

DocumentT = TypeVar("DocumentT")


class Keys:
    """The secrets of one bucket."""

    def __init__(self, root: bytes, bucket: str, random_bytes: Callable[[int], bytes]) -> None:
        self._secret = blake3(root + bucket.encode(), derive_key_context=_BUCKET).digest()
        self._bucket = bucket
        self._random_bytes = random_bytes

    @property
    def check(self) -> bytes:
        """What follows from the bucket's secret and tells nothing of it, but which one it is."""
        return blake3(self._secret, derive_key_context=_CHECK).digest(length=CHECK_BYTES)

    def seal_name(self, name: bytes) -> bytes:
        """Seal a name, or the beginning of one."""
        return seal_name(self._secret, name)

    def open_names(self, sealed: list[bytes]) -> list[bytes]:
        """Open names; quicker where neighbours have beginnings in common.

        Raises:
            InvalidInput: `storage.name`: one was sealed under another secret.
        """
        return open_names(self._secret, sealed)

    def secret_of(self, name: bytes) -> bytes:
        """The secret of an object; whoever has that of a part of its path can make it, too."""
        *parts, last = name.split(b"/")
        secret = self._secret
        for part in parts:
            secret = below(secret, part)
        return blake3(secret + last, derive_key_context=_OBJECT).digest()

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
