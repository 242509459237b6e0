"""What writers wait for: locks of the database on names, whether there are rows of them or not.

They are taken before anything is read, since a statement sees what was committed before it began. All that write into a
bucket share its lock; who changes or drops it is alone. Names and streams share `STRIPES` locks, so that a deletion of
many takes a bounded number; they are taken in ascending order, so that nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from fallow.ports.database import Transaction

STRIPES: Final = 4096
_BUCKETS: Final = 0x66730001
_NAMES: Final = 0x66730002
_ACCOUNTS: Final = 0x66730003
_LEAVING: Final = 0x66730004

# Without statistics (a young table) the planner likes to read all of it: then the index is the right way, always.
_SETTINGS: Final = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
_SHARED: Final = f"""
{_SETTINGS}, pg_advisory_xact_lock_shared($1, $2)::text
UNION ALL SELECT '', '', pg_advisory_xact_lock($3, slot)::text FROM unnest($4::integer[]) AS slot
"""  # noqa: S608 - our words
_ALONE: Final = f"{_SETTINGS}, pg_advisory_xact_lock($1, $2)::text"


async def write(tx: Transaction, bucket: str, names: Iterable[bytes] = (), stream: bytes | None = None) -> None:
    """Wait until nobody else writes these names or this stream of a bucket, to the end of the transaction."""
    slots = {_slot(bucket.encode() + b"/" + name) for name in names}
    if stream is not None:
        slots.add(_slot(stream))
    await tx.fetch(_SHARED, _BUCKETS, _bucket(bucket), _NAMES, sorted(slots))


async def change(tx: Transaction, bucket: str) -> None:
    """Wait until nobody writes into a bucket, to the end of the transaction."""
    await tx.fetch(_ALONE, _BUCKETS, _bucket(bucket))


async def make(tx: Transaction, account: bytes) -> None:
    """Wait until nobody makes a bucket for an account, to the end of the transaction."""
    await tx.fetch(_ALONE, _ACCOUNTS, _key(account))


async def leave(tx: Transaction, account: bytes) -> None:
    """Wait until nobody else decides whether an account has left with all of its nodes, to the end of the transaction.

    Two that end at once would each take the other for one that has not.
    """
    await tx.fetch(_ALONE, _LEAVING, _key(account))


async def by_index(tx: Transaction) -> None:
    """Have a transaction that only reads take the indexes."""
    await tx.fetch(_SETTINGS)


def _bucket(name: str) -> int:
    return _key(name.encode())


def _key(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=4).digest(), signed=True)


def _slot(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=4).digest()) % STRIPES
