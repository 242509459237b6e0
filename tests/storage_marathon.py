"""Random operations through the S3 gateway of a whole network, beside a model, while nodes and the gateway are killed.

    python -m tests.storage_marathon --operations 10000 --seed 7

What was acknowledged is there, byte for byte, and in every list; what failed was done or was not, and nothing else.
Each worker has buckets and a client of its own and does one thing after the other, so that its model is sure of all but
the one operation that was under way when something died.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from tests.lending import Door, Lenders, lending_network, opened_door
from tests.network import connected

POOL = random.Random(20_26).randbytes(8 << 20)
PART_MIN = 5 << 20
WORKERS = 6
KILL_EVERY = 250
"""Operations from one kill to the next, about."""
GATEWAYS = 0.25
"""How many of the kills are of the gateway."""
DEAD_FOR = 12
"""Operations until a killed node is started again, or `DEAD_S` seconds, whatever comes first."""
DEAD_S = 6.0
READ_TRIES = 40
READ_PAUSE_S = 0.5
NAMES = (
    "a", "b", "dir/a", "dir/b", "dir/sub/a", "dir/sub/b", "dir-x", "dir/", "../up", "//", "\xe9t\xe9", "\U0001f4a3",
    "with space", "plus+", "per%cent", "q?#&", "z" * 200, "deep/" * 40 + "x", "n1", "n2", "n3", "m/1", "m/2", "m/3",
)  # fmt: skip

Content = tuple[tuple[int, int], ...]
"""What parts of the pool an object is made of: (begin, length)."""


class Broken(AssertionError):
    """The network does not say what the model says."""


class Kept(NamedTuple):
    """A version in the model; a marker has no content."""

    version: str
    etag: str
    content: Content | None

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return bytes_of(self.content or ())


def bytes_of(content: Content) -> bytes:
    """The bytes of a content."""
    return b"".join(POOL[begin : begin + length] for begin, length in content)


def md5(data: bytes) -> str:
    """In hex, as S3 says it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Progress:
    """How many operations are done, by what they were; others wait for it."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.done = 0
        self.over = False
        self._changed = threading.Condition()

    def count(self, kind: str) -> None:
        """One more."""
        with self._changed:
            self.kinds[kind] += 1
            self.done += 1
            self._changed.notify_all()

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def wait(self, done: int, seconds: float | None = None) -> None:
        """Wait until so many are done, or for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or self.done >= done, seconds)


class Bucket:
    """A bucket and its model: versions by key, the latest last."""

    def __init__(self, name: str, *, versioned: bool) -> None:
        self.name = name
        self.versioned = versioned
        self.there: dict[str, list[Kept]] = {}

    def latest(self, key: str) -> Kept | None:
        """What a read of a key answers; None: nothing."""
        versions = self.there.get(key, ())
        return versions[-1] if versions and versions[-1].content is not None else None

    def alive(self) -> list[str]:
        """Keys that a list shows, in its order."""
        return sorted((key for key in self.there if self.latest(key)), key=str.encode)


class Worker:
    """Does random operations in its buckets, one after the other."""

    def __init__(self, door: Door, seed: int, number: int, progress: Progress) -> None:
        self.random = random.Random(f"{seed}/{number}")
        self.uncertain = self.refused = 0
        self._s3 = door.client(tries=10)
        self._progress = progress
        self._buckets = []
        for versioned in (False, True):
            name = f"marathon-{seed}-{number}-{'kept' if versioned else 'plain'}"
            self._s3.create_bucket(Bucket=name)
            if versioned:
                self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            self._buckets.append(Bucket(name, versioned=versioned))

    def run(self, operations: int) -> None:
        """Do so many."""
        kinds: dict[Callable[[Bucket, str], None], int] = {
            self._put: 30, self._get: 20, self._get_range: 12, self._delete: 8, self._delete_several: 2, self._copy: 6,
            self._list: 6, self._list_versions: 3, self._put_if: 8, self._upload: 3, self._delete_version: 2,
        }  # fmt: skip
        for kind in self.random.choices([*kinds], [*kinds.values()], k=operations):
            if self._progress.over:
                return
            kind(self.random.choice(self._buckets), self.random.choice(NAMES))
            self._progress.count(kind.__name__.strip("_"))

    def check_all(self) -> int:
        """Read everything; returns how many versions that were."""
        count = 0
        for bucket in self._buckets:
            self._check_list(bucket, "", "", 1000)
            for key, versions in bucket.there.items():
                self._check_chain(bucket, key)
                for kept in versions:
                    if kept.content is not None:
                        self._check_read(bucket, key, kept, by_version=bucket.versioned)
                        count += 1
        return count

    def _content(self) -> Content:
        most = self.random.choices((0, 4_000, 65_536, 524_288, 2_000_000), (4, 46, 25, 18, 7))[0]
        size = self.random.randint(0, most)
        return ((self.random.randint(0, len(POOL) - size), size),)

    def _put(self, bucket: Bucket, key: str) -> None:
        content = self._content()
        data = bytes_of(content)
        self._add(bucket, key, content, md5(data), lambda: self._s3.put_object(Bucket=bucket.name, Key=key, Body=data))

    def _put_if(self, bucket: Bucket, key: str) -> None:
        there, content = bucket.latest(key), self._content()
        data, wanted = bytes_of(content), {"IfNoneMatch": "*"}
        holds = there is None
        if there is not None and self.random.random() < 0.7:
            holds = self.random.random() < 0.5
            wanted = {"IfMatch": there.etag if holds else md5(b"another")}

        def put() -> Any:
            return self._s3.put_object(Bucket=bucket.name, Key=key, Body=data, **wanted)

        if holds:
            self._add(bucket, key, content, md5(data), put)
            return
        try:
            put()
        except ClientError as error:
            if _status(error) not in {412, 404} and _status(error) < 500:
                raise
        except BotoCoreError:
            self.refused += 1
        else:
            raise Broken(f"{bucket.name}/{key}: a write was taken whose condition does not hold")

    def _copy(self, bucket: Bucket, key: str) -> None:
        source = self.random.choice(self._buckets)
        alive = source.alive()
        if not alive:
            return
        name = self.random.choice(alive)
        there = source.latest(name)
        assert there is not None
        if (source, name) == (bucket, key):
            return
        where = {"Bucket": source.name, "Key": name}
        self._add(
            bucket,
            key,
            there.content or (),
            md5(there.data),
            lambda: self._s3.copy_object(Bucket=bucket.name, Key=key, CopySource=where),
        )

    def _upload(self, bucket: Bucket, key: str) -> None:
        sizes = [self.random.randint(0, 2_000_000)]
        if self.random.random() < 0.15:
            sizes = [PART_MIN, self.random.randint(0, 500_000)]
        content = tuple((self.random.randint(0, len(POOL) - size), size) for size in sizes)
        at = {"Bucket": bucket.name, "Key": key}
        try:
            at["UploadId"] = self._s3.create_multipart_upload(**at)["UploadId"]
            parts = []
            for number, part in enumerate(content, 1):
                made = self._s3.upload_part(**at, PartNumber=number, Body=bytes_of((part,)))
                parts.append({"PartNumber": number, "ETag": made["ETag"]})
            if self.random.random() < 0.25:
                self._s3.abort_multipart_upload(**at)
                return
        except (BotoCoreError, ClientError) as error:
            self._must_be_passing(error)
            return
        digests = b"".join(bytes.fromhex(md5(bytes_of((part,)))) for part in content)
        self._add(
            bucket,
            key,
            content,
            f"{md5(digests)}-{len(content)}",
            lambda: self._s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts}),
        )

    def _add(self, bucket: Bucket, key: str, content: Content, etag: str, write: Callable[[], Any]) -> None:
        """Write a version, and have the model know of it."""
        answer = self._attempt(write)
        if isinstance(answer, dict) and not answer["ResponseMetadata"]["RetryAttempts"]:
            said = answer.get("CopyObjectResult", answer)["ETag"].strip('"')
            if said != etag:
                raise Broken(f"{bucket.name}/{key}: the ETag is {said}, not {etag}")
            kept = Kept(answer.get("VersionId", "null"), etag, content)
            bucket.there[key] = [*bucket.there.get(key, ()), kept] if bucket.versioned else [kept]
            return
        self._settle_added(bucket, key, Kept("", etag, content), acknowledged=isinstance(answer, dict))

    def _settle_added(self, bucket: Bucket, key: str, added: Kept, *, acknowledged: bool) -> None:
        """Find out how often something was done that was tried more than once, or that failed."""
        self.uncertain += 1
        before, seen = bucket.there.get(key, []), self._chain(bucket, key)
        if not bucket.versioned:
            expected = [] if added.content is None else [added]
            if _alike(seen, expected) or (not acknowledged and _alike(seen, before)):
                bucket.there[key] = [one._replace(content=_content_of(one, (added, *before))) for one in seen]
                return
            raise Broken(f"{bucket.name}/{key}: {seen} is neither {before} nor {expected}")
        more = seen[len(before) :]
        alike = all((one.etag, one.content is None) == (added.etag, added.content is None) for one in more)
        if [one.version for one in seen[: len(before)]] != [one.version for one in before] or not alike:
            raise Broken(f"{bucket.name}/{key}: {seen} does not begin with {before}, or goes on with more than {added}")
        if acknowledged and not more:
            raise Broken(f"{bucket.name}/{key}: {added} was acknowledged, and is not there")
        bucket.there[key] = [*before, *(one._replace(content=added.content) for one in more)]

    def _delete(self, bucket: Bucket, key: str) -> None:
        answer = self._attempt(lambda: self._s3.delete_object(Bucket=bucket.name, Key=key))
        if isinstance(answer, dict) and not answer["ResponseMetadata"]["RetryAttempts"]:
            self._deleted(bucket, key, answer.get("VersionId", ""))
        else:
            self._settle_added(bucket, key, Kept("", "", None), acknowledged=isinstance(answer, dict))

    def _delete_several(self, bucket: Bucket, key: str) -> None:
        keys = sorted({key, *self.random.sample(NAMES, 3)})
        wanted = {"Objects": [{"Key": one} for one in keys]}
        answer = self._attempt(lambda: self._s3.delete_objects(Bucket=bucket.name, Delete=wanted))
        if isinstance(answer, dict) and not answer["ResponseMetadata"]["RetryAttempts"]:
            if answer.get("Errors"):
                raise Broken(f"{bucket.name}: {answer['Errors']}")
            for one in answer["Deleted"]:
                self._deleted(bucket, one["Key"], one.get("DeleteMarkerVersionId", ""))
            return
        for one in keys:
            self._settle_added(bucket, one, Kept("", "", None), acknowledged=isinstance(answer, dict))

    def _deleted(self, bucket: Bucket, key: str, version: str) -> None:
        if bucket.versioned:
            bucket.there[key] = [*bucket.there.get(key, ()), Kept(version, "", None)]
        else:
            bucket.there.pop(key, None)

    def _delete_version(self, bucket: Bucket, key: str) -> None:
        versions = bucket.there.get(key, ())
        if not versions or not bucket.versioned:
            return
        gone = self.random.choice(versions)
        answer = self._attempt(lambda: self._s3.delete_object(Bucket=bucket.name, Key=key, VersionId=gone.version))
        without = [one for one in versions if one != gone]
        if isinstance(answer, dict):
            bucket.there[key] = without
            return
        self.uncertain += 1
        seen = [one.version for one in self._chain(bucket, key)]
        if seen == [one.version for one in without]:
            bucket.there[key] = without
        elif seen != [one.version for one in versions]:
            raise Broken(f"{bucket.name}/{key}: {seen} is {versions}, neither with nor without {gone}")

    def _get(self, bucket: Bucket, key: str) -> None:
        kept = bucket.latest(key)
        older = [one for one in bucket.there.get(key, ()) if one.content is not None]
        if bucket.versioned and older and self.random.random() < 0.3:
            self._check_read(bucket, key, self.random.choice(older), by_version=True)
        else:
            self._check_read(bucket, key, kept)

    def _get_range(self, bucket: Bucket, key: str) -> None:
        kept = bucket.latest(key)
        size = len(kept.data) if kept else 0
        if kept is None or not size:
            return
        start = self.random.randrange(size)
        stop = self.random.randint(start, min(size, start + 200_000))
        text, part = self.random.choice(
            (
                (f"bytes={start}-{stop}", slice(start, stop + 1)),
                (f"bytes={start}-", slice(start, None)),
                (f"bytes=-{size - start}", slice(start, None)),
            )
        )
        self._check_read(bucket, key, kept, text, part)

    def _check_read(
        self,
        bucket: Bucket,
        key: str,
        kept: Kept | None,
        span: str = "",
        part: slice = slice(None),
        *,
        by_version: bool = False,
    ) -> None:
        asked = {"Bucket": bucket.name, "Key": key} | ({"Range": span} if span else {})
        if kept is not None and by_version:
            asked["VersionId"] = kept.version
        got = self._read(asked)
        expected = kept.data[part] if kept else None
        if got != expected:
            sizes = [len(data) if data is not None else None for data in (got, expected)]
            raise Broken(f"{asked}: {sizes[0]} bytes were read that are not the {sizes[1]} that were written")

    def _read(self, asked: dict[str, str]) -> bytes | None:
        """Read, again and again where it breaks off; None: it is not there."""
        for _ in range(READ_TRIES):
            try:
                return bytes(self._s3.get_object(**asked)["Body"].read())
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                self._must_be_passing(error)
            except (BotoCoreError, HTTPError):
                self.refused += 1
            time.sleep(READ_PAUSE_S)
        raise Broken(f"{asked} cannot be read")

    def _list(self, bucket: Bucket, key: str) -> None:
        prefix = self.random.choice(("", "dir/", "dir", "m/", key[: self.random.randint(0, 3)]))
        self._check_list(bucket, prefix, self.random.choice(("", "/", "/", "r")), self.random.choice((1000, 3, 7)))

    def _check_list(self, bucket: Bucket, prefix: str, delimiter: str, size: int) -> None:
        asked: dict[str, Any] = {"Bucket": bucket.name, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": size}
        keys: list[tuple[str, str]] = []
        folders: list[str] = []
        while True:
            page = self._ask(self._s3.list_objects_v2, asked)
            keys += [(one["Key"], one["ETag"].strip('"')) for one in page.get("Contents", ())]
            folders += [one["Prefix"] for one in page.get("CommonPrefixes", ())]
            if not page["IsTruncated"]:
                break
            asked["ContinuationToken"] = page["NextContinuationToken"]
        inside = [key for key in bucket.alive() if key.startswith(prefix)]
        cut = {key: key.find(delimiter, len(prefix)) if delimiter else -1 for key in inside}
        expected = [(key, kept.etag) for key in inside if cut[key] < 0 and (kept := bucket.latest(key))]
        between = sorted({key[: stop + len(delimiter)] for key, stop in cut.items() if stop >= 0}, key=str.encode)
        if (keys, folders) != (expected, between):
            raise Broken(f"{asked}: {keys} and {folders}, not {expected} and {between}")

    def _list_versions(self, bucket: Bucket, key: str) -> None:
        self._check_chain(bucket, key)

    def _check_chain(self, bucket: Bucket, key: str) -> None:
        seen, expected = self._chain(bucket, key), bucket.there.get(key, [])
        if [one[:2] for one in seen] != [one[:2] for one in expected]:
            raise Broken(f"{bucket.name}/{key}: the versions are {seen}, not {expected}")

    def _chain(self, bucket: Bucket, key: str) -> list[Kept]:
        """All versions of a key as the network tells, the latest last; only of markers is it said what they contain."""
        found: list[tuple[Kept, bool]] = []
        asked: dict[str, Any] = {"Bucket": bucket.name, "Prefix": key}
        while True:
            page = self._ask(self._s3.list_object_versions, asked)
            both = [(one, False) for one in page.get("Versions", ())]
            both += [(one, True) for one in page.get("DeleteMarkers", ())]
            found += [
                (Kept(one["VersionId"], one.get("ETag", "").strip('"'), None if marker else ()), one["LastModified"])
                for one, marker in both
                if one["Key"] == key
            ]
            if not page["IsTruncated"]:
                break
            asked |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}
        order = {one.version: at for at, one in enumerate(bucket.there.get(key, ()))}
        known = sorted((one for one, _ in found if one.version in order), key=lambda one: order[one.version])
        return [*known, *(one for one, _ in sorted(found, key=lambda pair: pair[1]) if one.version not in order)]

    def _ask(self, call: Callable[..., Any], asked: dict[str, Any]) -> Any:
        answer: Any = None
        for _ in range(READ_TRIES):
            answer = self._attempt(lambda: call(**asked))
            if isinstance(answer, dict):
                return answer
            time.sleep(READ_PAUSE_S)
        raise Broken(f"a list cannot be had: {answer!r}")

    def _attempt(self, call: Callable[[], Any]) -> Any:
        """What a call answers, or how it failed, if such failures pass."""
        try:
            return call()
        except (BotoCoreError, ClientError) as error:
            self._must_be_passing(error)
            return error

    def _must_be_passing(self, error: Exception) -> None:
        """What a kill may bring about; a second try of what was done may find it done."""
        self.refused += 1
        if isinstance(error, ClientError) and _status(error) < 500:
            retried = error.response["ResponseMetadata"]["RetryAttempts"]
            if not retried or error.response["Error"]["Code"] not in {"PreconditionFailed", "NoSuchUpload"}:
                raise error


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _alike(seen: Sequence[Kept], expected: Sequence[Kept]) -> bool:
    return [(one.etag, one.content is None) for one in seen] == [(one.etag, one.content is None) for one in expected]


def _content_of(one: Kept, known: Sequence[Kept]) -> Content | None:
    return next(kept.content for kept in known if kept.etag == one.etag)


class Killer:
    """Kills now a node, now the gateway, while there is progress; what died is started again."""

    def __init__(self, lenders: Lenders, seed: int, progress: Progress, every: int) -> None:
        self.killed: Counter[str] = Counter()
        self._running = lenders.running
        self._lenders = lenders
        self._random = random.Random(f"{seed}/kills")
        self._progress = progress
        self._every = every

    def run(self) -> None:
        """Do it until all is done."""
        at = 0
        while True:
            at += self._random.randint(self._every // 2, self._every * 3 // 2)
            self._progress.wait(at)
            if self._progress.over:
                return
            if self._random.random() < GATEWAYS:
                self._kill_gateway()
            else:
                self._kill_node(at)

    def _kill_gateway(self) -> None:
        if self._running.pids("s3"):
            self._running.kill("s3")
            self.killed["gateway"] += 1

    def _kill_node(self, at: int) -> None:
        agent = self._random.choice(self._running.agents)
        agent.kill()
        self.killed["node"] += 1
        self._progress.wait(at + DEAD_FOR, DEAD_S)
        self._lenders.revive(agent)


class Report(NamedTuple):
    """What became of it."""

    operations: int
    seconds: float
    kinds: Counter[str]
    killed: Counter[str]
    uncertain: int
    refused: int
    versions: int


def run(lenders: Lenders, door: Door, operations: int, seed: int, kill_every: int = KILL_EVERY) -> Report:
    """Do so many operations, and check all that is there at the end.

    Raises:
        Broken: the network and the model differ.
    """
    progress, began = Progress(), time.monotonic()
    workers = [Worker(door, seed, number, progress) for number in range(WORKERS)]
    killer = Killer(lenders, seed, progress, kill_every)
    with ThreadPoolExecutor(WORKERS + 1) as pool:
        killing = pool.submit(killer.run)
        try:
            share = -(-operations // WORKERS)
            for each in [pool.submit(worker.run, share) for worker in workers]:
                each.result()
        finally:
            progress.end()
        killing.result()
        versions = sum(pool.map(Worker.check_all, workers))
    uncertain = sum(worker.uncertain for worker in workers)
    refused = sum(worker.refused for worker in workers)
    seconds = time.monotonic() - began
    return Report(progress.done, seconds, progress.kinds, killer.killed, uncertain, refused, versions)


async def _on_a_network_of_its_own(operations: int, seed: int) -> Report:
    with lending_network() as lenders:
        async with connected(lenders.running) as net:
            door = await opened_door(net)
            return await asyncio.to_thread(run, lenders, door, operations, seed)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Random operations on stored objects, with kills, beside a model.")
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", file=sys.stderr)
    print(asyncio.run(_on_a_network_of_its_own(asked.operations, asked.seed)))


if __name__ == "__main__":
    main()
