"""Epochs made by hand: nodes' batches, the network's promises, and the files that they end in."""

# ruff: noqa: D102

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from nacl.signing import SigningKey

from fallow.domain.batches import Promise, open_batch, seal_batch
from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, Manifest, path_of
from fallow.domain.epochs.statement import Statement
from fallow.domain.facts import CORE_FACTS
from fallow.domain.records import Body, make_record
from fallow.ports.archive import Archive

NET = "lab-1"
KINDS = frozenset(fact.kind for fact in CORE_FACTS)
NETWORK = SigningKey(b"n" * 32)
NETWORK_KEY = bytes(NETWORK.verify_key)


class Node:
    """Signs batches of whatever it is told to say, under consecutive numbers."""

    def __init__(self, number: int) -> None:
        self.key = SigningKey(number.to_bytes(32, "big"))
        self.id = bytes(self.key.verify_key)
        self.boot, self.seq = 1, 0

    def batch(self, *bodies: Body, at: int = 5) -> bytes:
        records = [
            make_record(
                body, net=NET, node=self.id, boot=self.boot, seq=self.seq + index, at=at, new_salt=lambda: bytes(32)
            )[0]
            for index, body in enumerate(bodies)
        ]
        self.seq += len(bodies)
        return seal_batch(records, lambda message: self.key.sign(message).signature)


def promise(batch: bytes, epoch: int, *, key: SigningKey = NETWORK, at: int = 9) -> bytes:
    """The network's sealed word for a batch."""
    said = open_batch(batch, net=NET)
    return Promise(
        net=NET,
        epoch=epoch,
        node=said.node,
        boot=said.boot,
        seq=said.seq,
        count=len(said.records),
        root=said.root,
        at=at,
    ).seal(lambda message: key.sign(message).signature)


class EpochFiles:
    """Files of an epoch in memory; tests change them as an enemy would."""

    def __init__(self, epoch: int, batches: Sequence[bytes], promises: Sequence[bytes] | None = None) -> None:
        filing = Filing(NET, epoch, KINDS)
        self.files: dict[str, bytearray] = {"batches": bytearray()}
        for batch, promised in zip(batches, promises or [promise(batch, epoch) for batch in batches], strict=True):
            for piece in filing.add(batch, promised):
                self.files.setdefault(piece.name, bytearray()).extend(piece.data)
        self.manifest: Manifest = filing.manifest()

    def sealed(self, **fields: Any) -> bytes:
        """A statement of these files, signed by the network."""
        manifest = self.manifest
        hashed = hashlib.sha256(manifest.encode()).digest()
        said = Statement(net=NET, epoch=manifest.epoch, from_ms=0, until_ms=1, manifest=hashed)
        return msgspec.structs.replace(said, **fields).seal(lambda message: NETWORK.sign(message).signature)

    def put(self, archive: Archive, **fields: Any) -> None:
        """Put all of it into an archive."""
        epoch = self.manifest.epoch
        for name, data in self.files.items():
            archive.put(path_of(epoch, name), bytes(data))
        archive.put(path_of(epoch, MANIFEST), self.manifest.encode())
        archive.create(path_of(epoch, STATEMENT), self.sealed(**fields))

    def read(self, name: str, piece_bytes: int = 1000) -> Iterable[bytes]:
        data = bytes(self.files[name])
        return [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
