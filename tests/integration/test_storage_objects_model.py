"""Versions, lists and uploads, whatever is done to them: as a model of plain dictionaries says."""

# ruff: noqa: D102 - rules and helpers say what they do by their names

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Literal, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fallow.domain.errors import Conflict, NotFound
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import MakeBucket, SetBucket
from fallow.verticals.storage.core.calls.objects import (
    DeleteObjects,
    Deletion,
    GetObject,
    If,
    Listed,
    ListObjects,
    PutObject,
    Version,
)
from fallow.verticals.storage.core.calls.uploads import AbortUpload, BeginUpload, CompleteUpload, ListUploads, PutPart
from tests.engines import Engines, fresh_database
from tests.storage_objects import ACCOUNT, ObjectsWorld, RealSegmentsWorld, objects_world

LOW, HIGH, PLAIN = b"\0\0", b"\xff\xff", b"ab"
"""Sealed, a slash is any number: the least and the greatest are the ones that a seek could miss."""
UNITS = (LOW, HIGH, PLAIN)
SLASHES = {LOW, HIGH}

NAMES = st.sampled_from(
    (PLAIN, LOW, PLAIN + LOW, PLAIN + HIGH, PLAIN + LOW + PLAIN, PLAIN + LOW + HIGH, PLAIN + HIGH + HIGH, HIGH + HIGH)
)
PREFIXES = st.lists(st.sampled_from(UNITS), max_size=2).map(b"".join)
SIZES = st.integers(1, 9)
LIMITS = st.sampled_from((1, 2, 3, 1000))

MAX_EXAMPLES = 20
PAGES_MAX = 1000
_buckets = count(1)
ReplyT = TypeVar("ReplyT")


def slashes_of(name: bytes) -> list[int]:
    return [at + 2 for at in range(0, len(name), 2) if name[at : at + 2] in SLASHES]


def folder_of(name: bytes, prefix: bytes) -> bytes | None:
    return next((name[:at] for at in slashes_of(name) if at > len(prefix)), None)


class Kept(NamedTuple):
    """A version in the model; `parts` are the bytes of its segments, None: it is inline."""

    version: bytes
    null: bool
    marker: bool
    size: int
    stream: bytes
    parts: tuple[tuple[int, int], ...] | None


class Begun(NamedTuple):
    """An upload in the model."""

    name: bytes
    parts: dict[int, int]


class Machine(RuleBasedStateMachine):
    """The objects beside the model."""

    def __init__(self, world: ObjectsWorld, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        super().__init__()
        self.world = world
        self._run = run
        self.bucket = f"model{next(_buckets)}"
        self.state: Literal["off", "enabled", "suspended"] = "off"
        self.there: dict[bytes, list[Kept]] = {}
        self.uploads: dict[bytes, Begun] = {}
        self.last: PutObject | None = None
        self.ask(MakeBucket(account=ACCOUNT, bucket=self.bucket))

    def ask(self, call: Call[ReplyT]) -> ReplyT:
        answer: ReplyT = self._run(self.world.ask(call))
        return answer

    @rule(step_ms=st.sampled_from((0, 1, 1000, -5)))
    def time_passes(self, step_ms: int) -> None:
        self.world.clock.now += step_ms

    @rule(state=st.sampled_from(("enabled", "suspended")))
    def keep_versions_or_not(self, state: Literal["enabled", "suspended"]) -> None:
        self.ask(SetBucket(account=ACCOUNT, bucket=self.bucket, versioning=state))
        self.state = state

    @rule(names=st.lists(NAMES, min_size=1, max_size=6), size=SIZES, inline=st.booleans())
    def put_some(self, names: Sequence[bytes], size: int, inline: bool) -> None:
        for name in names:
            self.put(name, size, inline, absent=False)

    @rule(name=NAMES, size=SIZES, inline=st.booleans())
    def put_where_there_is_none(self, name: bytes, size: int, inline: bool) -> None:
        self.put(name, size, inline, absent=True)

    def put(self, name: bytes, size: int, inline: bool, absent: bool) -> None:
        stream = self.world.stream() if inline else self._run(self.world.stored(self.bucket, size))
        call = PutObject(
            account=ACCOUNT,
            bucket=self.bucket,
            object=name,
            slashes=slashes_of(name),
            stream=stream,
            size=size,
            etag=str(size),
            inline=bytes(size) if inline else None,
            only_if=If(absent=absent),
        )
        if absent and self.latest(name) is not None:
            self.refused(Conflict, call)
            if not inline:
                self._run(self.forget(stream))
            return
        self.made(self.ask(call), stream, None if inline else ((0, size),))
        self.last = call

    @precondition(lambda self: self.last is not None)
    @rule()
    def put_again(self) -> None:
        assert self.last is not None
        versions = self.there.get(self.last.object, [])
        kept = next((version for version in versions if version.stream == self.last.stream), None)
        if kept is not None:
            again = self.ask(self.last)
            assert (again.version, again.latest) == (kept.version, kept == versions[-1])
        elif self.last.inline is None and self.last.size:
            self.refused(Conflict, self.last)

    @rule(names=st.lists(NAMES, min_size=1, max_size=4))
    def delete(self, names: Sequence[bytes]) -> None:
        deletions = [Deletion(object=name, slashes=slashes_of(name)) for name in names]
        answers = self.ask(DeleteObjects(account=ACCOUNT, bucket=self.bucket, deletions=deletions))
        for name, answer in zip(names, answers, strict=True):
            assert answer.marker == (self.state != "off")
            if self.state == "off":
                assert answer.gone == (self.there.pop(name, []) != [])
                continue
            assert answer.null == (self.state == "suspended")
            self.add(name, Kept(answer.version, answer.null, True, 0, b"", None))

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def delete_versions(self, data: st.DataObject) -> None:
        some = [(name, kept) for name, versions in sorted(self.there.items()) for kept in versions]
        chosen = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=4))
        nulls = [kept.null and data.draw(st.booleans()) for _, kept in chosen]
        deletions = [
            Deletion(object=name, null=null, version=b"" if null else kept.version)
            for (name, kept), null in zip(chosen, nulls, strict=True)
        ]
        answers = self.ask(DeleteObjects(account=ACCOUNT, bucket=self.bucket, deletions=deletions))
        for (name, kept), answer in zip(chosen, answers, strict=True):
            assert (answer.version, answer.marker, answer.null) == (kept.version, kept.marker, kept.null)
            self.there[name] = [other for other in self.there[name] if other != kept]
        self.there = {name: versions for name, versions in self.there.items() if versions}

    @rule(name=NAMES)
    def begin(self, name: bytes) -> None:
        stream = self.world.stream()
        self.ask(BeginUpload(account=ACCOUNT, bucket=self.bucket, object=name, slashes=slashes_of(name), stream=stream))
        self.uploads[stream] = Begun(name, {})

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), number=st.integers(1, 3), size=SIZES)
    def put_part(self, data: st.DataObject, number: int, size: int) -> None:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        bytes_of = self._run(self.world.stored(self.bucket, size))
        self.ask(
            PutPart(
                account=ACCOUNT,
                bucket=self.bucket,
                stream=upload,
                bytes_of=bytes_of,
                number=number,
                size=size,
                etag=str(size),
            )
        )
        self.uploads[upload].parts[number] = size

    @precondition(lambda self: any(begun.parts for begun in self.uploads.values()))
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        ready = sorted(stream for stream, begun in self.uploads.items() if begun.parts)
        upload = data.draw(st.sampled_from(ready))
        name, parts = self.uploads.pop(upload)
        numbers = sorted(data.draw(st.sets(st.sampled_from(sorted(parts)), min_size=1)))
        call = CompleteUpload(
            account=ACCOUNT,
            bucket=self.bucket,
            object=name,
            stream=upload,
            parts=[(number, str(parts[number])) for number in numbers],
            etag="all",
        )
        made = self.ask(call)
        assert self.ask(call) == made
        self.made(made, upload, tuple((number, parts[number]) for number in numbers))

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        name, _ = self.uploads.pop(upload)
        self.ask(AbortUpload(account=ACCOUNT, bucket=self.bucket, object=name, stream=upload))

    @rule(prefix=PREFIXES, folders=st.booleans(), all_versions=st.booleans(), limit=LIMITS)
    def list_all(self, prefix: bytes, folders: bool, all_versions: bool, limit: int) -> None:
        wanted = ListObjects(
            account=ACCOUNT,
            bucket=self.bucket,
            prefix=prefix,
            folders=folders,
            all_versions=all_versions,
            limit=limit,
            heads=True,
        )
        found: list[tuple[bytes, bytes]] = []
        for page in self.pages(wanted):
            shown = [(v.name, v.version) for v in page.versions] + [(folder, b"") for folder in page.folders]
            assert len(shown) <= limit
            found += sorted(shown, key=_in_order)
            assert all(v.latest == (v.version == self.there[v.name][-1].version) for v in page.versions)
        assert found == self.entries(prefix, folders=folders, all_versions=all_versions)

    @rule(prefix=PREFIXES, after=NAMES, folders=st.booleans(), all_versions=st.booleans())
    def list_behind(self, prefix: bytes, after: bytes, folders: bool, all_versions: bool) -> None:
        page = self.ask(
            ListObjects(
                account=ACCOUNT,
                bucket=self.bucket,
                prefix=prefix,
                after=after,
                folders=folders,
                all_versions=all_versions,
            )
        )
        assert not page.more
        found = [(v.name, v.version) for v in page.versions] + [(folder, b"") for folder in page.folders]
        behind = [
            (name, version)
            for name, version in self.entries(prefix, folders=folders, all_versions=all_versions, after=after)
            if version == b"" or name > after
        ]
        assert sorted(found, key=_in_order) == behind

    @rule(prefix=PREFIXES)
    def list_uploads(self, prefix: bytes) -> None:
        uploads = self.ask(ListUploads(account=ACCOUNT, bucket=self.bucket, prefix=prefix))
        begun = sorted((begun.name, stream) for stream, begun in self.uploads.items() if begun.name.startswith(prefix))
        assert [(upload.object, upload.stream) for upload in uploads] == begun

    @rule(name=NAMES)
    def get(self, name: bytes) -> None:
        versions = self.there.get(name, [])
        if not versions:
            self.refused(NotFound, GetObject(account=ACCOUNT, bucket=self.bucket, object=name))
        for kept in versions:
            found = self.ask(GetObject(account=ACCOUNT, bucket=self.bucket, object=name, version=kept.version))
            assert (found.size, found.marker, found.null) == (kept.size, kept.marker, kept.null)
            assert found.latest == (kept == versions[-1])
        if versions:
            latest = self.ask(GetObject(account=ACCOUNT, bucket=self.bucket, object=name))
            assert latest.version == versions[-1].version

    @invariant()
    def totals_and_segments_are_those_of_the_model(self) -> None:
        objects = [kept for versions in self.there.values() for kept in versions if not kept.marker]
        totals = self._run(self.world.totals(self.bucket))
        assert totals == (len(objects), sum(kept.size for kept in objects))
        self._run(self.world.kept(self.bucket))
        stored = [(kept.stream, *part) for kept in objects for part in kept.parts or ()]
        stored += [(stream, *part) for stream, begun in self.uploads.items() for part in begun.parts.items()]
        assert self._run(self.world.segments(self.bucket)) == sorted(stored)

    def latest(self, name: bytes) -> Kept | None:
        versions = self.there.get(name)
        return versions[-1] if versions and not versions[-1].marker else None

    def made(self, version: Version, stream: bytes, parts: tuple[tuple[int, int], ...] | None) -> None:
        assert version.latest
        assert version.null == (self.state != "enabled")
        self.add(version.name, Kept(version.version, version.null, False, version.size, stream, parts))

    def add(self, name: bytes, kept: Kept) -> None:
        before = [other for other in self.there.get(name, []) if not (kept.null and other.null)]
        assert all(kept.version > other.version for other in self.there.get(name, []))
        self.there[name] = [*before, kept]

    def entries(
        self, prefix: bytes, *, folders: bool, all_versions: bool, after: bytes = b""
    ) -> list[tuple[bytes, bytes]]:
        """Names with their versions, folders with none, in their order."""
        found: list[tuple[bytes, bytes]] = []
        for name, versions in sorted(self.there.items()):
            folder = folder_of(name, prefix) if folders else None
            shown = versions[::-1] if all_versions else [kept for kept in versions[-1:] if not kept.marker]
            if not name.startswith(prefix) or not shown or name <= after:
                continue
            if folder is None:
                found += [(name, kept.version) for kept in shown]
            elif (folder, b"") not in found:
                found.append((folder, b""))
        return found

    def pages(self, wanted: ListObjects) -> Iterator[Listed]:
        fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
        for _ in range(PAGES_MAX):
            page = self.ask(ListObjects(**fields))
            yield page
            if not page.more:
                return
            fields |= {"after": page.after, "after_version": page.after_version}
        raise AssertionError("the pages come to no end")

    def refused(self, error: type[Exception], call: Call[Any]) -> None:
        try:
            self.ask(call)
        except error:
            return
        raise AssertionError(call)

    async def forget(self, stream: bytes) -> None:
        async with self.world.database.transaction() as tx:
            await tx.execute("DELETE FROM twin.segment WHERE stream = $1", stream)


def _in_order(entry: tuple[bytes, bytes]) -> tuple[bytes, int]:
    """By name, later versions first."""
    name, version = entry
    return name, -int.from_bytes(version)


@pytest.mark.parametrize("real", [False, True], ids=["twin", "real segments"])
def test_objects_are_as_the_model_says(engines: Engines, real: bool) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> ObjectsWorld:
            dsn = await stack.enter_async_context(fresh_database(engines))
            world = await stack.enter_async_context(objects_world(dsn))
            return RealSegmentsWorld(world.database) if real else world

        world = runner.run(start())
        try:
            run_state_machine_as_test(
                lambda: Machine(world, runner.run),  # type: ignore[arg-type]  # it takes what makes one
                settings=settings(
                    derandomize=True,
                    database=None,
                    deadline=None,
                    max_examples=MAX_EXAMPLES,
                    stateful_step_count=30,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )
        finally:
            runner.run(stack.aclose())
