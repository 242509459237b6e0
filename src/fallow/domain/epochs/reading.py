"""Reading the files of an epoch: batches put together again and held against their signatures and promises.

Whoever reads passes a function that gives a file's bytes, piece by piece, by its name within the epoch. That a file is
what its manifest says is only known at its end, so that nothing may be concluded from it before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta

from fallow.domain.batches import BATCH_RECORDS_MAX, Batch, Parts, Promise, join_batch, open_batch, promised_at
from fallow.domain.encoding import decode_all_again
from fallow.domain.epochs.manifest import BATCHES, OTHER, RECORDS, File, Manifest, damaged, read_frames
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.records import Record, convert

Read = Callable[[str], Iterable[bytes]]
Place = tuple[int, int]
"""Boot and number of the record that a node signs next."""


class Filed(NamedTuple):
    """A record in an epoch: the batch that brought it (counted in the epoch from 0), its place there, its bytes.

    `received_ms` is when the network took it (milliseconds since 1970), by the promise that it gave for it; 0 where no
    promise was read. All that a record itself says of time is its node's word.
    """

    batch: int
    place: int
    node: bytes
    record: Record
    raw: bytes
    received_ms: int = 0


class FiledBatch(NamedTuple):
    """A batch put together again, and the promise that its sender was given."""

    batch: int
    parts: Parts
    promise: bytes


class Head(NamedTuple):
    """A frame of the file of batches."""

    node: bytes
    boot: int
    seq: int
    records: Annotated[int, Meta(ge=1, le=BATCH_RECORDS_MAX)]
    sig: bytes
    promise: bytes


class Share(NamedTuple):
    """Some of an epoch's records: those of `kinds`, by the nodes that fall to one of several parts."""

    kinds: frozenset[str]
    part: int = 0
    parts: int = 1

    def has(self, node: bytes) -> bool:
        """Whether a node's records are among them."""
        return self.parts == 1 or int.from_bytes(node[:8]) % self.parts == self.part

    def files(self, manifest: Manifest) -> list[File]:
        """Where they are. Kinds that the closer did not know are in `other`."""
        names = {RECORDS + kind for kind in (*self.kinds, OTHER)}
        return [file for file in manifest.record_files if file.name in names]


class _Columns(NamedTuple):
    """A frame of a file of records."""

    batch: int
    places: list[int]
    raws: list[bytes]


def checked_records(manifest: Manifest, read: Read, network_key: bytes) -> Iterator[Filed]:
    """All records in the order of ingest, every signature and promise verified, no number of a node left out or twice.

    Raises:
        InvalidInput: `archive.damaged`, `archive.batch`, `archive.order`, `archive.promise`.
    """
    expected: dict[bytes, tuple[int, int]] = {}
    for filed in read_batches(manifest, read):
        batch = check_batch(filed, manifest, network_key)
        if batch.node in expected:
            _check_order(batch, *expected[batch.node])
        expected[batch.node] = (batch.boot, batch.seq + len(batch.records))
        received_ms = _received_ms(manifest, filed.promise)
        for place, (record, raw) in enumerate(zip(batch.records, filed.parts.records, strict=True)):
            yield Filed(filed.batch, place, batch.node, record, raw, received_ms)


def filed_records(manifest: Manifest, read: Read, share: Share | None = None) -> Iterator[Filed]:
    """All records, or a share of them, in the order of ingest: for whoever wrote the files himself.

    No signature is looked at, and of a share's files only those that it needs.

    Raises:
        InvalidInput: `archive.damaged`.
    """
    for batch, head, found in _frames(
        manifest, read, manifest.record_files if share is None else share.files(manifest)
    ):
        if share is not None and not share.has(head.node):
            continue
        places, raws = _in_place(found)
        if share is None:
            _check_whole(batch, head, places)
        received_ms = _received_ms(manifest, head.promise)
        for place, record, raw in zip(places, _records(manifest.file(BATCHES), raws), raws, strict=True):
            if share is None or record.kind in share.kinds:
                yield Filed(batch, place, head.node, record, raw, received_ms)


def records_of_kind(manifest: Manifest, read: Read, kind: str) -> Iterator[Filed]:
    """Records of one file, as fast as they can be had: held against the manifest, no signature is looked at.

    Raises:
        InvalidInput: `archive.damaged`.
    """
    for file in manifest.record_files:
        if file.name != RECORDS + kind:
            continue
        for columns in _columns(file, read):
            records = _records(file, columns.raws)
            for place, record, raw in zip(columns.places, records, columns.raws, strict=True):
                yield Filed(columns.batch, place, record.node, record, raw)


def read_batches(manifest: Manifest, read: Read) -> Iterator[FiledBatch]:
    """Put the batches together again, in the order of ingest. What they say is not looked at: see `check_batch`.

    Raises:
        InvalidInput: `archive.damaged`: a file is not what the manifest says, or the files do not fit one another.
    """
    for batch, head, found in _frames(manifest, read, manifest.record_files):
        places, raws = _in_place(found)
        _check_whole(batch, head, places)
        yield FiledBatch(batch, Parts(head.node, head.boot, head.seq, raws, head.sig), head.promise)


def check_batch(filed: FiledBatch, manifest: Manifest, network_key: bytes) -> Batch:
    """Verify a batch's signature, and that the promise is the network's word for it.

    Raises:
        InvalidInput: `archive.batch`: no node signed it so; `archive.promise`: it was not promised for this epoch.
    """
    where = f"Batch {filed.batch} of epoch {manifest.epoch}, of node {filed.parts.node.hex()},"
    try:
        batch = open_batch(join_batch(manifest.net, filed.parts), net=manifest.net)
    except FallowError as error:
        raise InvalidInput("archive.batch", f"{where} is no good one. {error.message}") from error
    try:
        promise = Promise.open(filed.promise, network_key)
    except FallowError as error:
        raise InvalidInput("archive.promise", f"{where} has no good promise. {error.message}") from error
    if not promise.covers(batch) or promise.epoch != manifest.epoch:
        raise InvalidInput("archive.promise", f"{where} has the promise of another batch or epoch.")
    return batch


def _frames(manifest: Manifest, read: Read, files: Sequence[File]) -> Iterator[tuple[int, Head, list[_Columns]]]:
    """Go through the batches, and what some files of records have of each."""
    sources = [(file, _columns(file, read)) for file in files]
    waiting = [next(columns, None) for _, columns in sources]
    for batch, head in enumerate(heads(manifest.file(BATCHES), read)):
        found: list[_Columns] = []
        for at, (_, columns) in enumerate(sources):
            part = waiting[at]
            if part is not None and part.batch == batch:
                found.append(part)
                waiting[at] = next(columns, None)
        yield batch, head, found
    for (file, _), left in zip(sources, waiting, strict=True):
        if left is not None:
            raise damaged(file.name, f"It has records of batch {left.batch}, which is not there, or not in order.")


def _check_whole(batch: int, head: Head, places: Sequence[int]) -> None:
    if places != list(range(head.records)):
        raise damaged(BATCHES, f"Batch {batch} has {head.records} records, and not those are in the other files.")


def _columns(file: File, read: Read) -> Iterator[_Columns]:
    count = 0
    for value in read_frames(file, read(file.name)):
        columns = convert(value, _Columns, "archive.damaged")
        if len(columns.places) != len(columns.raws):
            raise damaged(file.name, "A frame has more records than places, or the other way round.")
        count += len(columns.raws)
        yield columns
    if count != file.count:
        raise damaged(file.name, f"It has {count} records, not the {file.count} that the manifest says.")


def heads(file: File, read: Read) -> Iterator[Head]:
    """Read the file of batches alone: what each says of itself, and its promise.

    Raises:
        InvalidInput: `archive.damaged`.
    """
    count = 0
    for value in read_frames(file, read(file.name)):
        yield convert(value, Head, "archive.damaged")
        count += 1
    if count != file.count:
        raise damaged(file.name, f"It has {count} batches, not the {file.count} that the manifest says.")


def _check_order(batch: Batch, boot: int, seq: int) -> None:
    """As ingest takes them: the next number of the same boot, or number 0 of a later one."""
    if (batch.boot, batch.seq) != (boot, seq) and not (batch.boot > boot and batch.seq == 0):
        raise InvalidInput(
            "archive.order",
            f"Node {batch.node.hex()} continues with number {batch.seq} of boot {batch.boot} where number {seq} of "
            f"boot {boot} is next: a batch was left out, added or moved.",
        )


def _received_ms(manifest: Manifest, promise: bytes) -> int:
    try:
        return promised_at(promise)
    except InvalidInput as error:
        raise damaged(manifest.file(BATCHES).name, f"A promise in it is none. {error.message}") from error


def _in_place(found: list[_Columns]) -> tuple[list[int], list[bytes]]:
    """Put records of several files into the order of their batch; most batches are of one kind, and in order."""
    if len(found) == 1:
        return found[0].places, found[0].raws
    placed = sorted(each for part in found for each in zip(part.places, part.raws, strict=True))
    return [place for place, _ in placed], [raw for _, raw in placed]


def _records(file: File, raws: Sequence[bytes]) -> list[Record]:
    """Read a batch's records at once, which is fast: the file's hash says whether they are as they were checked."""
    try:
        return convert(decode_all_again(raws), list[Record], "archive.damaged")
    except InvalidInput as error:
        raise damaged(file.name, f"A record in it is none. {error.message}") from error
