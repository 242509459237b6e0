"""What an account signs to take a node as its own, and the code that carries its signature to the node's machine.

A code is for one network, one node and a span of time, so it can be sent over any line: whoever gets hold of it can
only do what its account wanted.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from fallow.domain.errors import InvalidInput
from fallow.domain.identity import ADDRESS_BYTES, address_text

CODE_PREFIX = "fa_"
CODE_CHARACTERS = 127
TIME_BYTES = 8
_SIGNATURE_BYTES = 65
_CODE = re.compile(rf"{CODE_PREFIX}[A-Za-z0-9_-]{{{CODE_CHARACTERS - len(CODE_PREFIX)}}}")
"""93 bytes in base64url: address, time, signature."""


class BindingCode(NamedTuple):
    """An account's word that a node is its own. `before_s` is Unix time: the node must have joined until then."""

    account: bytes
    before_s: int
    signature: bytes

    @property
    def text(self) -> str:
        """What the account's holder hands to the node's machine."""
        data = self.account + self.before_s.to_bytes(TIME_BYTES, "big") + self.signature
        return CODE_PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_code(text: str) -> BindingCode:
    """Take a code apart. What it is worth, its signature says.

    Raises:
        InvalidInput: it is none, or damaged.
    """
    try:
        data = (
            base64.b64decode(text[len(CODE_PREFIX) :], altchars=b"-_", validate=True) if _CODE.fullmatch(text) else b""
        )
    except binascii.Error:
        data = b""
    account, time, signature = (
        data[:ADDRESS_BYTES],
        data[ADDRESS_BYTES:][:TIME_BYTES],
        data[ADDRESS_BYTES + TIME_BYTES :],
    )
    if len(signature) != _SIGNATURE_BYTES:
        raise InvalidInput(
            "account.code",
            f"{text[:80]!r} is no account's code for a node.",
            f"It begins with {CODE_PREFIX} and has {CODE_CHARACTERS} characters; fallow account bind makes it.",
        )
    return BindingCode(account, int.from_bytes(time), signature)


def binding_text(net: str, node: bytes, account: bytes, before_s: int | None = None) -> str:
    """What an account signs to take a node as its own; wallets show it as it stands.

    Accounts in the network's custody sign it without a time, at the moment of joining.
    """
    until = "" if before_s is None else f" if it joins before {before_s} (Unix time)"
    return f"Fallow network {net}: node {node.hex()} belongs to account {address_text(account)}{until}."
