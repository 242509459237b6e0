"""Holding the network to its promises: whether an epoch's archive has what a node was promised; the proof if not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Self

import msgspec

from fallow.domain.batches import Promise
from fallow.domain.encoding import decode, encode
from fallow.domain.epochs.manifest import BATCHES, Manifest
from fallow.domain.epochs.reading import Read, heads
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.records import convert, to_builtins

EVIDENCE_BYTES_MAX = STATEMENT_BYTES_MAX + (64 << 10)


class BrokenPromise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two documents under the network's key that cannot both be kept.

    It promised that the archive of an epoch will hold a batch, and it stated of which files this archive consists. Who
    has the file of batches that the statement's manifest names sees that the batch is not in it.
    """

    promise: bytes
    statement: bytes

    def encode(self) -> bytes:
        """Return it as the bytes of a file."""
        return encode(to_builtins(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read such a file.

        Raises:
            InvalidInput: it is none.
        """
        if len(data) > EVIDENCE_BYTES_MAX:
            raise InvalidInput("promise.evidence", f"Evidence has at most {EVIDENCE_BYTES_MAX} bytes.")
        return convert(decode(data), cls, "promise.evidence")

    def opened(self, network_key: bytes) -> tuple[Promise, Statement]:
        """Read both documents.

        Raises:
            InvalidInput: they are malformed, or not about one epoch of one network (`promise.evidence`).
            NotAllowed: the network did not sign them.
        """
        promise, statement = Promise.open(self.promise, network_key), Statement.open(self.statement, network_key)
        if (promise.net, promise.epoch) != (statement.net, statement.epoch):
            raise InvalidInput("promise.evidence", "The promise and the statement are not about the same epoch.")
        return promise, statement

    @property
    def name(self) -> str:
        """A name for the file: the same evidence has the same one."""
        return hashlib.sha256(self.encode()).hexdigest()[:16] + ".broken-promise"


def missing(promises: Iterable[Promise], manifest: Manifest, read: Read, network_key: bytes) -> list[Promise]:
    """Return those that the epoch's archive does not keep. Only its file of batches is read.

    A batch counts as there with the network's own promise for it: one with other records fits no promise, which who
    verifies the epoch finds.

    Raises:
        InvalidInput: `archive.damaged`: it is not the file that the manifest names.
    """
    wanted = {(each.node, each.boot, each.seq): each for each in promises}
    for head in heads(manifest.file(BATCHES), read):
        given = wanted.get((head.node, head.boot, head.seq))
        if given is not None and _same(given, head.promise, network_key):
            del wanted[head.node, head.boot, head.seq]
    return list(wanted.values())


def _same(given: Promise, sealed: bytes, network_key: bytes) -> bool:
    try:
        there = Promise.open(sealed, network_key)
    except FallowError:
        return False
    return (there.epoch, there.count, there.root) == (given.epoch, given.count, given.root)
