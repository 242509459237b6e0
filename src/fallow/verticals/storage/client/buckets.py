"""Buckets: see `Store`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from fallow.verticals.storage.client.ground import Ground
from fallow.verticals.storage.client.seals import SEALED, check_seal, write_seal
from fallow.verticals.storage.core.calls.base import PAGE_MAX
from fallow.verticals.storage.core.calls.buckets import (
    Bucket,
    DropBucket,
    GetBucket,
    ListBuckets,
    MakeBucket,
    SetBucket,
)


class Buckets(Ground):
    """The part of `Store` that is about buckets."""

    async def make_bucket(
        self,
        account: str,
        bucket: str,
        *,
        settings: Mapping[str, bytes],
        lock: bool = False,
        countries: Sequence[str] = (),
        profile: str = "",
    ) -> Bucket:
        """See `Store`."""
        return await self._asker.ask(
            MakeBucket(
                account=account,
                bucket=bucket,
                settings={**settings, SEALED: write_seal(self._keys(account, bucket), own=self._own)},
                lock=lock,
                countries=list(countries),
                profile=profile,
            )
        )

    async def bucket(self, bucket: str) -> Bucket:
        """See `Store`. What was said a moment ago still holds, unless the bucket was changed here since."""
        return await self._known.ask(bucket, lambda: self._ask_for(bucket))

    async def buckets(self, account: str) -> list[Bucket]:
        """See `Store`."""
        found: list[Bucket] = []
        while True:
            page = await self._asker.ask(ListBuckets(account=account, after=found[-1].name if found else ""))
            found += page
            if len(page) < PAGE_MAX:
                return found

    async def set_bucket(
        self,
        account: str,
        bucket: str,
        *,
        versioning: Literal["", "enabled", "suspended"] = "",
        lock: bool | None = None,
        settings: Mapping[str, bytes | None],
    ) -> Bucket:
        """See `Store`."""
        with self._changing(bucket):
            return await self._asker.ask(
                SetBucket(account=account, bucket=bucket, versioning=versioning, lock=lock, settings=dict(settings))
            )

    async def drop_bucket(self, account: str, bucket: str) -> None:
        """See `Store`."""
        with self._changing(bucket):
            await self._asker.ask(DropBucket(account=account, bucket=bucket))

    @contextmanager
    def _changing(self, bucket: str) -> Iterator[None]:
        """Forget a bucket once it has changed."""
        try:
            yield
        finally:
            self._known.drop(bucket)

    async def _ask_for(self, bucket: str) -> Bucket:
        found = await self._asker.ask(GetBucket(account="", bucket=bucket))
        check_seal(found, self._keys(found.account, bucket), own=self._own)
        return found
