"""How much of what an account may have open those who show its grants may use up.

One grant leaves room to the others, and all of them leave room to the owner.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.ports.database import Transaction

OF_ALL_GRANTS: Final = 2
"""Together they have one part in so many."""
OF_ONE_GRANT: Final = 8
"""A grant, with all that were made of it, has one part in so many."""

_BEGUN: Final = """
SELECT coalesce(sum(bytes), 0) AS all, coalesce(sum(bytes) FILTER (WHERE grant_id <> ''), 0) AS granted,
    coalesce(sum(bytes) FILTER (WHERE grant_id = $2), 0) AS own
FROM (
    SELECT b.grant_id, greatest(b.payload, $3) AS bytes
    FROM storage.payer p JOIN storage.begun b USING (bucket) WHERE p.account = $1
    UNION ALL SELECT grant_id, bytes FROM storage.abandoned WHERE account = $1 AND until_ms > $4
) open
"""
_UPLOADS: Final = """
SELECT count(*) AS all, count(*) FILTER (WHERE u.grant_id <> '') AS granted,
    count(*) FILTER (WHERE u.grant_id = $2) AS own
FROM storage.bucket b JOIN storage.upload u ON u.bucket_id = b.id WHERE b.account = $1
"""


class Open(NamedTuple):
    """What is open of an account: in all, by grants, and by the grant that is asked for more."""

    all: int
    granted: int
    own: int

    def plus(self, more: int) -> Open:
        """What it is with more by whoever asks."""
        return Open(self.all + more, self.granted + more, self.own + more)

    def exceeds(self, limit: int, grant_id: bytes) -> bool:
        """Whether it is more than whoever asks may use; an empty `grant_id` is the owner."""
        if self.all > limit:
            return True
        return bool(grant_id) and (self.granted > limit // OF_ALL_GRANTS or self.own > limit // OF_ONE_GRANT)


def whose(grant_id: bytes) -> str:
    """Words for it."""
    return "by this grant" if grant_id else "of this account"


async def begun(tx: Transaction, account: bytes, grant_id: bytes, bytes_min: int, now_ms: int) -> Open:
    """Bytes that are being stored, at least `bytes_min` of each, and those given up that may still lie on nodes."""
    (row,) = await tx.fetch(_BEGUN, account, grant_id, bytes_min, now_ms)
    return Open(*(int(row[name]) for name in Open._fields))


async def uploads(tx: Transaction, account: bytes, grant_id: bytes) -> Open:
    """Uploads in parts."""
    (row,) = await tx.fetch(_UPLOADS, account, grant_id)
    return Open(*(row[name] for name in Open._fields))
