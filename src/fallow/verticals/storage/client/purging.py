"""Everything that a store has of objects, past the trash: all their versions, and what was begun of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from fallow.domain.errors import NotFound
from fallow.verticals.storage.client.copying import DELETED_AT_ONCE, pages_below
from fallow.verticals.storage.client.store import Begun, Deleting, Gone, Store

UPLOADS_AT_ONCE = 1000


class Purged(NamedTuple):
    """Versions that are gone, those that stay (with a code), and names whose uploads in parts were given up."""

    gone: Sequence[Gone]
    kept: Sequence[Gone]
    uploads: Sequence[str]


async def purge(store: Store, account: str, bucket: str, key: str, *, below: bool) -> Purged:
    """Purge an object, or with `below` all whose names begin so. What is locked stays, and the rest goes.

    Raises:
        NotFound: there is nothing of it (`storage.no_object`).
    """
    found: list[Deleting] = []
    kept: list[Gone] = []
    async for page in pages_below(store, account, bucket, key, versions=True):
        mine = [entry for entry in page.entries if below or entry.key == key]
        found += [Deleting(entry.key, entry.version) for entry in mine]
        if below:
            kept += map(_unreadable, page.damaged)
        elif len(mine) < len(page.entries):
            break  # longer names come behind
    begun = [one async for one in _uploads(store, account, bucket, key) if below or one.key == key]
    if not (below or found or begun):
        raise NotFound(
            "storage.no_object", f"There is nothing of an object {key!r}.", "See what is there: fallow storage ls"
        )
    gone: list[Gone] = []
    for first in range(0, len(found), DELETED_AT_ONCE):
        for one in await store.delete(account, bucket, found[first : first + DELETED_AT_ONCE], purge=True):
            (kept if one.error else gone).append(one)
    given_up: list[str] = []
    for upload in begun:
        with suppress(NotFound):  # it has ended meanwhile
            await store.abort(account, bucket, upload.key, upload.upload)
            given_up.append(upload.key)
    return Purged(gone, kept, given_up)


async def _uploads(store: Store, account: str, bucket: str, prefix: str) -> AsyncIterator[Begun]:
    after, upload = "", ""
    while True:
        page = await store.uploads(
            account, bucket, prefix=prefix, after=after, after_upload=upload, limit=UPLOADS_AT_ONCE
        )
        for one in page:
            yield one
        if len(page) < UPLOADS_AT_ONCE:
            return
        after, upload = page[-1].key, page[-1].upload


def _unreadable(sealed: bytes) -> Gone:
    """Of which versions there are none is told: they go by what the bucket does with its latest."""
    name = f"a name that cannot be read ({sealed.hex()[:16]}…)"
    return Gone(name, error="storage.name", message="Somebody who may write put it there: rm -r deletes it.")
