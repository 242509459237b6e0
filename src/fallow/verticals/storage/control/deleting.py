"""Deleting objects: many at a time, in runs, each of which is one transaction with a few statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import TooMuch
from fallow.ports.database import Transaction
from fallow.verticals.storage.control import conditions, ids, locks, tally
from fallow.verticals.storage.control.buckets import Buckets, Shelf
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.placing import marker_row
from fallow.verticals.storage.control.rows import COLUMNS, checked_slashes
from fallow.verticals.storage.control.standing import (
    Freed,
    Held,
    Standing,
    bring_back,
    exactly,
    forget,
    make_way,
    standings,
)
from fallow.verticals.storage.core.calls.objects import Deleted, DeleteObjects, Deletion

RUN_MAX: Final = 100
"""Deletions in one transaction, which holds the locks of their names."""

Named = tuple[bytes, bytes]
"""A version by its object's name and its id, which is empty for the one known as "null"."""


class Wish(NamedTuple):
    """What is asked of all deletions of a call."""

    bypass: bool
    purge: bool


class Deleting:
    """The handler of the call."""

    def __init__(self, ground: Ground, buckets: Buckets) -> None:
        self._ground = ground
        self._buckets = buckets

    async def delete(self, call: DeleteObjects) -> list[Deleted]:
        """See the call. InvalidInput: `storage.slashes`."""
        for deletion in call.deletions:
            checked_slashes(deletion.object, deletion.slashes)
        wish = Wish(call.bypass, call.purge)
        answers = list[Deleted]()
        for run in _runs(call.deletions):
            try:
                answers += await self._run(call, run, wish)
            except TooMuch as error:  # of delete markers: what was deleted before stays so
                answers += [Deleted(error=error.code, message=f"{error.message} {error.hint}") for _ in run]
        return answers

    async def _run(self, call: DeleteObjects, run: Sequence[Deletion], wish: Wish) -> list[Deleted]:
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, [deletion.object for deletion in run])
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            work = self._exactly if _is_exact(run[0]) else self._latest
            freed, answers = await work(tx, shelf, run, wish)
            if freed.streams:
                await self._ground.segments.drop(tx, shelf.id, freed.streams, purge=wish.purge)
            await self._ground.keeping.check(tx, shelf.account, freed.change)
            await tally.add(tx, shelf.id, freed.change)
            return answers

    async def _latest(
        self, tx: Transaction, shelf: Shelf, run: Sequence[Deletion], _: Wish
    ) -> tuple[Freed, list[Deleted]]:
        """Have objects be gone, as far as who does not ask for their versions can see."""
        found = await standings(tx, shelf.id, [deletion.object for deletion in run])
        wanted = {deletion.object: deletion for deletion in run if _is_wanted(deletion, found.get(deletion.object))}
        freed = await make_way(tx, shelf, [found.get(name, Standing()) for name in wanted])
        markers = await self._mark(tx, shelf, wanted, found) if shelf.versioning != "off" else {}
        for name in markers:
            freed = freed._replace(change=freed.change.plus(tally.of_marker(name)))
        return freed, [_gone(deletion, found.get(deletion.object), markers, wanted, shelf) for deletion in run]

    async def _mark(
        self, tx: Transaction, shelf: Shelf, wanted: Mapping[bytes, Deletion], found: Mapping[bytes, Standing]
    ) -> Mapping[bytes, bytes]:
        """Make delete markers; returns their ids by name."""
        now_ms, drawn = self._ground.clock.now_ms(), self._ground.random_bytes
        made = {
            name: ids.next_version(found.get(name, Standing()).last_version, now_ms, drawn(ids.RANDOM_BYTES))
            for name in wanted
        }
        rows = [
            marker_row(shelf, name, made[name], checked_slashes(name, deletion.slashes))
            for name, deletion in wanted.items()
        ]
        await tx.copy("storage.version", COLUMNS, rows)
        return made

    async def _exactly(
        self, tx: Transaction, shelf: Shelf, run: Sequence[Deletion], wish: Wish
    ) -> tuple[Freed, list[Deleted]]:
        """Delete versions for good."""
        found: dict[Named, Held] = {}
        for held in await exactly(tx, shelf.id, [_named(deletion) for deletion in run]):
            found[held.name, held.version] = held
            if held.is_null:
                found[held.name, b""] = held
        now_ms = self._ground.clock.now_ms()
        answers = [_deleted(deletion, found.get(_named(deletion)), wish, now_ms) for deletion in run]
        deleted = [found[_named(deletion)] for deletion, answer in zip(run, answers, strict=True) if answer.gone]
        gone = {(held.name, held.version): held for held in deleted}
        freed = await forget(tx, shelf.id, [*gone.values()])
        names = {name for name, _ in gone}
        if names:
            await bring_back(tx, shelf.id, [*names])
        return freed, answers


def _runs(deletions: Sequence[Deletion]) -> Iterator[list[Deletion]]:
    """Cut deletions where one kind follows the other, where a name comes again, and at `RUN_MAX`.

    Versions of one name may be together, but not under conditions.
    """
    run: list[Deletion] = []
    names: set[bytes] = set()
    for deletion in deletions:
        exact = _is_exact(deletion)
        again = deletion.object in names and not (exact and not conditions.is_conditional(deletion.only_if))
        if run and (len(run) == RUN_MAX or exact != _is_exact(run[0]) or again):
            yield run
            run, names = [], set()
        run.append(deletion)
        names.add(deletion.object)
    yield run


def _is_exact(deletion: Deletion) -> bool:
    return bool(deletion.version) or deletion.null


def _named(deletion: Deletion) -> Named:
    return deletion.object, deletion.version


def _is_wanted(deletion: Deletion, there: Standing | None) -> bool:
    """Whether there is something to do: under a condition only where there is an object, which fulfils it."""
    if not conditions.is_conditional(deletion.only_if):
        return True
    latest = there.latest if there is not None else None
    return latest is not None and conditions.holds(deletion.only_if, latest)


def _gone(
    deletion: Deletion,
    there: Standing | None,
    markers: Mapping[bytes, bytes],
    wanted: Mapping[bytes, Deletion],
    shelf: Shelf,
) -> Deleted:
    """What became of an object."""
    name = deletion.object
    latest = there.latest if there is not None else None
    if name in markers:
        return Deleted(version=markers[name], null=shelf.versioning != "enabled", marker=True)
    if name in wanted:
        return Deleted(gone=latest is not None)
    return _refused() if latest is not None else Deleted()


def _deleted(deletion: Deletion, held: Held | None, wish: Wish, now_ms: int) -> Deleted:
    """What is to become of a version."""
    if deletion.version and len(deletion.version) != ids.VERSION_BYTES:
        return Deleted(error="storage.no_version", message="There is no such version of this object.")
    if held is None:
        return Deleted(version=deletion.version, null=deletion.null)
    if not conditions.holds(deletion.only_if, held):
        return _refused()
    if held.kept.binds(now_ms, bypass=wish.bypass):
        return Deleted(error="storage.retained", message="The version is retained, or held.")
    return Deleted(version=held.version, null=held.is_null, marker=held.marker, gone=True)


def _refused() -> Deleted:
    return Deleted(error="storage.condition", message="The object is not as the request's condition says.")
