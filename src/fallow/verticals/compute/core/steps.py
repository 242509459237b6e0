"""The unit of work of a roll call: hard for the processor and its memory, and different for every node and number.

A step is scrypt (RFC 7914) with 1 MiB of memory: some milliseconds, without help of a graphics processor or a cache of
earlier answers. Steps do not depend on each other, so that any one of them is checked at the cost of one. A module of
its own: the process that works loads nothing else.
"""

from __future__ import annotations

import hashlib

COST, BLOCK, BYTES = 1024, 8, 32
"""It works on 128 * COST * BLOCK bytes."""


def step(challenge: bytes, node: bytes, number: int) -> bytes:
    """Do one step: 32 bytes."""
    salt = b"fallow/step/1\0" + node + number.to_bytes(8, "big")
    return hashlib.scrypt(challenge, salt=salt, n=COST, r=BLOCK, p=1, dklen=BYTES)
