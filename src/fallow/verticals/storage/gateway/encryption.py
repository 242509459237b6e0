"""What S3 calls encryption by the server: the gateway seals whatever is stored with AES-256, and takes nobody's keys.

Who asks for a key of his own, or one of a key service, is refused: his bytes would lie here under another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fallow.verticals.storage.gateway.errors import S3Error

HEADER: Final = "x-amz-server-side-encryption"
AES256: Final = "AES256"
SAID: Final = {HEADER: AES256}
"""What is said of each object, as S3 says it of all of its own."""
_CUSTOMER: Final = (f"{HEADER}-customer-", "x-amz-copy-source-server-side-encryption-customer-")
_SERVICE: Final = (f"{HEADER}-aws-kms-", f"{HEADER}-context", f"{HEADER}-bucket-key-")
_NO_KEYS: Final = "Keys of customers are not taken here; everything is sealed by the gateway."
_NO_SERVICE: Final = "There is no key service here; everything is sealed with AES256."


def check_written(headers: Mapping[str, str]) -> None:
    """Refuse a write that asks for another sealing.

    Raises:
        S3Error: NotImplemented.
    """
    check_algorithm(headers.get(HEADER, AES256))
    if any(name.startswith(_CUSTOMER) for name in headers):
        raise S3Error("NotImplemented", _NO_KEYS)
    if any(name.startswith(_SERVICE) for name in headers):
        raise S3Error("NotImplemented", _NO_SERVICE)


def check_algorithm(name: str) -> None:
    """Refuse another algorithm than the one that there is.

    Raises:
        S3Error: NotImplemented.
    """
    if name != AES256:
        raise S3Error("NotImplemented", _NO_SERVICE)


def check_read(headers: Mapping[str, str]) -> None:
    """Refuse a read that names a key or an algorithm: nothing here was stored with it.

    Raises:
        S3Error: InvalidRequest.
    """
    if any(name.startswith(HEADER) for name in headers):
        raise S3Error("InvalidRequest", "What is read here takes no encryption of the client's.")
