"""Carries out lifecycle rules: the names are sealed, so a gateway does it, which has the buckets' secret.

The network hands each bucket with rules to one gateway an hour. What is listed and what is deleted lie apart: each
deletion has the condition that the version is the one that was judged, and still what it was judged as.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.ports.clock import Clock
from fallow.verticals.storage.client.asking import Asker
from fallow.verticals.storage.client.seals import is_own
from fallow.verticals.storage.client.store import Deleting, Entry, Store
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import If
from fallow.verticals.storage.core.upkeep import TakeDue
from fallow.verticals.storage.gateway.expiry import Due, Judge, is_left, is_of_versions, prefixes
from fallow.verticals.storage.gateway.lifecycle import LIFECYCLE, LifecycleRule, decode_lifecycle

EVERY_MS: Final = 3_600_000
LOOK_S: Final = 60.0
PAGE: Final = 1000

Swept = Counter[str]
"""What became of what was due: latest, older, marker, upload; `kept` (locked, or not any more what it was)."""
Take = Callable[[], Awaitable[Sequence[Bucket]]]
_log = logging.getLogger(__name__)


def taking(asker: Asker) -> Take:
    """Ask the network for buckets to sweep."""

    async def take() -> Sequence[Bucket]:
        return await asker.ask(TakeDue(account="", setting=LIFECYCLE, every_ms=EVERY_MS))

    return take


class Sweeper:
    """Sweeps one bucket after the other."""

    def __init__(self, store: Store, take: Take, clock: Clock) -> None:
        self._store = store
        self._take = take
        self._clock = clock

    async def run(self) -> None:
        """Sweep what there is to sweep, now and then, until cancelled."""
        while True:
            try:
                while buckets := await self._take():
                    for bucket in buckets:
                        await self._sweep_noted(bucket)
            except Unavailable as error:
                _log.warning("No buckets can be taken for their lifecycle rules now: %s", error)
            await self._clock.sleep(LOOK_S)

    async def sweep(self, bucket: Bucket) -> Swept:
        """Delete what is due in a bucket, and give up uploads that are.

        Raises:
            FallowError: as the store raises it; what was not swept is the next time.
        """
        now_ms = self._clock.now_ms()
        rules = [rule for rule in decode_lifecycle(bucket.settings.get(LIFECYCLE, b"")) if rule.enabled]
        swept: Swept = Counter()
        for prefix in prefixes(filter(is_of_versions, rules)):
            async for due in self._due(bucket, rules, prefix, now_ms):
                swept += await self._delete(bucket, due)
        if any(rule.parts_days for rule in rules):
            swept["upload"] += await self._give_up(bucket, rules, now_ms)
        return +swept

    async def _sweep_noted(self, bucket: Bucket) -> None:
        try:
            if is_own(bucket):
                return  # its names cannot be read here
            swept = await self.sweep(bucket)
        except FallowError as error:  # another hour, the same bucket
            _log.warning("The lifecycle rules of bucket %s are not carried out now: %s", bucket.name, error)
            return
        if swept:
            _log.info("Lifecycle rules of bucket %s: %s", bucket.name, dict(swept))

    async def _due(
        self, bucket: Bucket, rules: Sequence[LifecycleRule], prefix: str, now_ms: int
    ) -> AsyncIterator[list[Due]]:
        """What is due, page by page: each once the next was listed, which goes on behind its last version."""
        judge = Judge(rules, now_ms)
        waiting: list[Due] = []
        async for page in self._pages(bucket, prefix):
            if waiting:
                yield waiting
            waiting = [due for entry in page for due in judge.take(entry)]
        waiting += judge.end()
        if waiting:
            yield waiting

    async def _pages(self, bucket: Bucket, prefix: str) -> AsyncIterator[Sequence[Entry]]:
        after = after_version = ""
        while True:
            page = await self._store.names(
                bucket.account,
                bucket.name,
                prefix=prefix,
                after=after,
                after_version=after_version,
                versions=bucket.versioning != "off",
                limit=PAGE,
            )
            yield page.entries
            if not page.more:
                return
            after, after_version = page.after, page.after_version

    async def _delete(self, bucket: Bucket, due: Sequence[Due]) -> Swept:
        swept: Swept = Counter()
        for start in range(0, len(due), PAGE):
            some = due[start : start + PAGE]
            gone = await self._store.delete(bucket.account, bucket.name, [_deleting(one) for one in some])
            swept.update("kept" if what.error else one.kind for one, what in zip(some, gone, strict=True))
        return swept

    async def _give_up(self, bucket: Bucket, rules: Sequence[LifecycleRule], now_ms: int) -> int:
        given_up, after, after_upload = 0, "", ""
        while True:
            page = await self._store.uploads(
                bucket.account, bucket.name, after=after, after_upload=after_upload, limit=PAGE
            )
            for upload in page:
                if is_left(rules, upload, now_ms):
                    given_up += await self._abort(bucket, upload.key, upload.upload)
            if len(page) < PAGE:
                return given_up
            after, after_upload = page[-1].key, page[-1].upload

    async def _abort(self, bucket: Bucket, key: str, upload: str) -> bool:
        try:
            await self._store.abort(bucket.account, bucket.name, key, upload)
        except NotFound:  # it has ended in the meantime
            return False
        return True


def _deleting(due: Due) -> Deleting:
    entry = due.entry
    if due.kind == "latest":
        return Deleting(entry.key, only_if=If(etag=entry.head.etag, modified_ms=entry.made_ms, size=entry.size))
    return Deleting(entry.key, entry.version, If(modified_ms=entry.made_ms, older=True))
