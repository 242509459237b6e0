"""Numbers of embedded chains."""

from __future__ import annotations

import hashlib

FIRST = 1 << 40
"""Above the numbers of public chains (chainid.network), and with `SPAN` below 2^53, which JavaScript counts to."""
SPAN = 1 << 48


def chain_id_of(net: str) -> int:
    """The number (EIP-155) of a network's embedded chain: what is signed for one network's holds on no other's."""
    return FIRST + int.from_bytes(hashlib.sha256(f"fallow/chain/{net}".encode()).digest()) % SPAN
