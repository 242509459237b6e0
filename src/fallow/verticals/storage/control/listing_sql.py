"""The queries of lists.

A page without folders and older versions is one range of the index. Any other is a walk: each step finds the first
version behind the one before, or behind all that is in the folder before. Their arguments:

1 bucket, 2 first name that counts, 3 behind the last one, 4 rows at most, and of walks:
5 what is behind any name as the rest of one, 6 length of the prefix (beyond all names where folders are not wanted),
and where older versions are shown: 7 name and 8 version that the page comes behind.
"""

from __future__ import annotations

from typing import Final

from fallow.verticals.storage.core.calls.base import PAGE_MAX

PAGE_BYTES_MAX: Final = 512 << 10
ENTRY_BYTES: Final = 256
"""What a version takes in an answer, beside its name and head."""

_COLUMNS: Final = (
    "r.name, r.version, r.is_null, r.marker, r.size, r.etag, r.stream, r.retention, r.until_ms, r.hold, {head} AS head,"
    " {tags} AS tags"
)

_RANGE: Final = f"""
SELECT row_number() OVER (ORDER BY r.name) AS step, NULL::bytea AS folder, true AS latest, {_COLUMNS} FROM (
    SELECT * FROM storage.object r WHERE r.bucket_id = $1 AND r.name >= $2 AND r.name < $3
    ORDER BY r.bucket_id, r.name LIMIT {PAGE_MAX + 1}
) r LIMIT $4
"""  # noqa: S608 - our words

_FOLDER: Final = "(SELECT substr(n.name, 1, min(s)::integer) FROM unnest(n.slashes) AS s WHERE s > $6::integer)"
_NEXT: Final = "coalesce(n.folder || $5::bytea, n.name || '\\x00'::bytea)"
_IS_SHOWN: Final = "w.step > 0"

_LATEST: Final = f"""
WITH RECURSIVE walk (step, name, folder, seek) AS (
    SELECT 0, NULL::bytea, NULL::bytea, $2::bytea
    UNION ALL
    SELECT w.step + 1, n.name, n.folder, {_NEXT}
    FROM walk w CROSS JOIN LATERAL (
        SELECT n.name, {_FOLDER} AS folder FROM storage.object n
        WHERE n.bucket_id = $1 AND n.name >= w.seek AND n.name < $3 ORDER BY n.bucket_id, n.name LIMIT 1
    ) n
    WHERE w.step < $4
)
SELECT w.step, w.folder, true AS latest, {_COLUMNS}
FROM walk w LEFT JOIN LATERAL (
    SELECT * FROM storage.object r WHERE w.folder IS NULL AND r.bucket_id = $1 AND r.name = w.name LIMIT 1
) r ON true
WHERE {_IS_SHOWN}
"""  # noqa: S608 - our words

_ALL: Final = f"""
WITH RECURSIVE walk (step, name, version, folder, latest, seek) AS (
    SELECT 0, $7::bytea, $8::bytea, NULL::bytea, false, $2::bytea
    UNION ALL
    SELECT w.step + 1, n.name, CASE WHEN n.folder IS NULL THEN n.version END, n.folder, n.latest, {_NEXT}
    FROM walk w CROSS JOIN LATERAL (
        (
            SELECT n.name, n.version, NULL::bytea AS folder, false AS latest FROM storage.version n
            WHERE n.bucket_id = $1 AND n.name = w.name AND n.version < w.version
            ORDER BY n.bucket_id, n.name, n.version DESC LIMIT 1
        )
        UNION ALL
        SELECT n.name, n.version, {_FOLDER}, true FROM (
            (
                SELECT n.name, n.version, n.slashes FROM storage.object n
                WHERE n.bucket_id = $1 AND n.name >= w.seek AND n.name < $3 ORDER BY n.bucket_id, n.name LIMIT 1
            )
            UNION ALL
            (
                SELECT n.name, n.version, n.slashes FROM storage.version n
                WHERE n.bucket_id = $1 AND n.name >= w.seek AND n.name < $3
                ORDER BY n.bucket_id, n.name, n.version DESC LIMIT 1
            )
        ) n
        ORDER BY name, version DESC LIMIT 1
    ) n
    WHERE w.step < $4
)
SELECT w.step, w.folder, w.latest, {_COLUMNS}
FROM walk w LEFT JOIN LATERAL (
    SELECT * FROM storage.object r
    WHERE w.folder IS NULL AND r.bucket_id = $1 AND r.name = w.name AND r.version = w.version
    UNION ALL
    SELECT * FROM storage.version r
    WHERE w.folder IS NULL AND r.bucket_id = $1 AND r.name = w.name AND r.version = w.version
    LIMIT 1
) r ON true
WHERE {_IS_SHOWN}
"""  # noqa: S608 - our words


def _page(found: str, *, heads: bool) -> str:
    """Count what the answer takes up to each row; heads that would not fit are not read."""
    empty = "''::bytea"
    found = found.format(head="r.head" if heads else empty, tags="r.tags" if heads else empty)
    fits = f"filled < {2 * PAGE_BYTES_MAX}"
    return f"""
SELECT step, folder, latest, name, version, is_null, marker, size, etag, stream, retention, until_ms, hold, filled,
       CASE WHEN {fits} THEN head END AS head, CASE WHEN {fits} THEN tags END AS tags
FROM (
    SELECT *, sum({ENTRY_BYTES} + length(coalesce(folder, name)) + coalesce(length(head) + length(tags), 0))
        OVER (ORDER BY step ROWS UNBOUNDED PRECEDING) AS filled
    FROM ({found}) found
) page ORDER BY step
"""  # noqa: S608 - our words


RANGE: Final = {heads: _page(_RANGE, heads=heads) for heads in (False, True)}
LATEST: Final = {heads: _page(_LATEST, heads=heads) for heads in (False, True)}
ALL: Final = {heads: _page(_ALL, heads=heads) for heads in (False, True)}
