"""Writing the files of an epoch: which bytes go where. The caller keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final, NamedTuple

from fallow.domain.batches import split_batch
from fallow.domain.encoding import decode_again
from fallow.domain.epochs.manifest import BATCHES, OTHER, RECORDS, File, Manifest, frame

_KIND: Final = b"dkind"
"""The key as the encoding writes it: a text of four bytes."""
_SHORT_TEXT: Final = 0x60
_SHORT_MAX: Final = 23


class Piece(NamedTuple):
    """Bytes to append to a file."""

    name: str
    data: bytes


def kind_of(raw: bytes) -> str:
    """Find the kind of a record that was checked when it was written, without reading all of it where that is sure.

    A record has the key `kind` once, so that what is there in only one place is the key; what stands before a length
    of up to 23 is a short text. Whoever repeats the key in his record's other fields has it read as a whole.
    """
    at = raw.find(_KIND) + len(_KIND)
    size = raw[at] - _SHORT_TEXT
    if not 0 <= size <= _SHORT_MAX or raw.find(_KIND, at) >= 0:
        return str(decode_again(raw)["kind"])
    return raw[at + 1 : at + 1 + size].decode()


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
        kind = kind_of(raw)
        return RECORDS + (kind if kind in self._kinds else OTHER)

    def _piece(self, name: str, value: list[object], count: int) -> Piece:
        data = frame(value)
        tally = self._files.setdefault(name, _Tally())
        tally.size += len(data)
        tally.count += count
        tally.sha256.update(data)
        return Piece(name, data)
