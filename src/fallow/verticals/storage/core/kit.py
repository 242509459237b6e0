"""A root secret as text that people can write down and type again. Pure.

An account's objects that no hosted gateway shall read are sealed under a secret that is drawn on its own machine and
never leaves it. Who loses it has lost them, so he gets a kit: its 32 bytes and three of a checksum, in base32.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from fallow.domain.encoding import tagged_hash
from fallow.domain.errors import InvalidInput

SECRET_BYTES: Final = 32
_SUM_BYTES: Final = 3
_GROUP: Final = 4
_CODE: Final = re.compile(rf"\b(?=((?:[A-Z2-7]{{{_GROUP}}}[- ]?){{14}})\b)")
"""It looks ahead: a word of four letters before a kit looks like its first group."""


def write_kit(secret: bytes) -> str:
    """Write a secret as 14 groups of four characters."""
    code = base64.b32encode(secret + _sum(secret)).decode()
    return "-".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def read_kit(text: str) -> bytes:
    """Read the secret in a text that holds a kit, in whatever case, with dashes, spaces or neither.

    Raises:
        InvalidInput: there is none in it, or a character of it is wrong (`storage.kit`).
    """
    found = _CODE.findall(text.upper())
    if not found:
        raise InvalidInput("storage.kit", "There is no recovery kit in this.", "It has 14 groups of four characters.")
    for code in found:
        data = base64.b32decode(re.sub("[- ]", "", code))
        secret, told = data[:SECRET_BYTES], data[SECRET_BYTES:]
        if told == _sum(secret):
            return secret
    raise InvalidInput("storage.kit", "A character of the recovery kit is wrong: its checksum does not fit.")


def _sum(secret: bytes) -> bytes:
    return tagged_hash("fallow/storage-kit/1", secret)[:_SUM_BYTES]
