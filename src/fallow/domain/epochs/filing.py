"""Writing the files of an epoch: which bytes go where. The caller keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import NamedTuple

from fallow.domain.batches import split_batch
from fallow.domain.encoding import decode_again
from fallow.domain.epochs.manifest import BATCHES, OTHER, RECORDS, File, Manifest, frame


class Piece(NamedTuple):
    """Bytes to append to a file."""

    name: str
    data: bytes


class _Tally:
    def __init__(self) -> None:
        self.size = 0
        self.count = 0
        self.sha256 = hashlib.sha256()


class Filing:
    """Turns the batches of one epoch, in the order of ingest, into the pieces of its files. `kinds` have one each."""

    def __init__(self, net: str, epoch: int, kinds: Collection[str]) -> None:
        self._net = net
        self._epoch = epoch
        self._kinds = frozenset(kinds)
        self._files = {BATCHES: _Tally()}

    def add(self, data: bytes, promise: bytes) -> list[Piece]:
        """File the next batch. `data` and `promise` are as ingest wrote them."""
        parts = split_batch(data)
        batch = self._files[BATCHES].count
        by_file: dict[str, tuple[list[int], list[bytes]]] = {}
        for place, raw in enumerate(parts.records):
            places, raws = by_file.setdefault(self._file_of(raw), ([], []))
            places.append(place)
            raws.append(raw)
        head = [parts.node, parts.boot, parts.seq, len(parts.records), parts.sig, promise]
        return [
            self._piece(BATCHES, head, 1),
            *(self._piece(name, [batch, *columns], len(columns[0])) for name, columns in by_file.items()),
        ]

    def manifest(self) -> Manifest:
        """Name all that was filed."""
        files = [
            File(name=name, size=tally.size, sha256=tally.sha256.digest(), count=tally.count)
            for name, tally in sorted(self._files.items())
        ]
        return Manifest(net=self._net, epoch=self._epoch, files=files)

    def _file_of(self, raw: bytes) -> str:
        kind = decode_again(raw)["kind"]
        return RECORDS + (kind if kind in self._kinds else OTHER)

    def _piece(self, name: str, value: list[object], count: int) -> Piece:
        data = frame(value)
        tally = self._files.setdefault(name, _Tally())
        tally.size += len(data)
        tally.count += count
        tally.sha256.update(data)
        return Piece(name, data)
