"""Proofs over HTTP: what an account is owed by a closed epoch's root, without a download of all leaves."""

from __future__ import annotations

import asyncio

from litestar import get

from fallow.domain.epochs.closing import LEAVES, TREE
from fallow.domain.epochs.leaves import leaves_of
from fallow.domain.epochs.manifest import path_of
from fallow.domain.errors import NotFound
from fallow.domain.identity import address, address_text
from fallow.domain.rewards.tree import Leaf, proof_of
from fallow.domain.views.epochs import ProofView
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.epochs import EpochNumber, archive_of, statement_of
from fallow.http.params import AccountId, Parts
from fallow.ports.archive import Archive

BLOCK_BYTES = 1 << 16
"""Read at once: the last ten steps of a bisection, or the topmost ten of a tree, are within one."""


class Parted:
    """An object of the archive of which only parts are read, and each block of it once. Blocks."""

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive = archive
        self._name = name
        self._size = archive.size(name)
        self._blocks: dict[int, bytes] = {}

    def __len__(self) -> int:
        """Its size in bytes."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Some of its bytes."""
        start, end, _ = part.indices(self._size)
        if start >= end:
            return b""
        first = start // BLOCK_BYTES
        blocks = b"".join(self._block(number) for number in range(first, (end - 1) // BLOCK_BYTES + 1))
        return blocks[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            at = number * BLOCK_BYTES
            self._blocks[number] = b"".join(self._archive.read(self._name, at, at + BLOCK_BYTES))
        return self._blocks[number]


@get("/v1/epochs/{epoch:int}/proofs/{account:str}", guards=[anyone], responses=public(404), tags=["epochs"])
async def proofs(gateway: Parts, epoch: EpochNumber, account: AccountId) -> list[ProofView]:
    """What an account is owed since the beginning, by the root of a closed epoch; nothing where it is owed nothing."""
    return await asyncio.to_thread(_proofs, archive_of(gateway), epoch, address(account))


def _proofs(archive: Archive, epoch: int, account: bytes) -> list[ProofView]:
    statement_of(archive, epoch)
    try:
        leaves, tree = (Parted(archive, path_of(epoch, name)) for name in (LEAVES, TREE))
    except NotFound:
        raise NotFound(
            "epoch.no_proofs",
            f"The archive of epoch {epoch} has no tree to prove anything from.",
            f"Its leaves give it: fallow epoch fetch {epoch}",
        ) from None
    return [_view(leaf, tree) for leaf in leaves_of(leaves, account)]


def _view(leaf: Leaf, tree: Parted) -> ProofView:
    path = [f"0x{node.hex()}" for node in proof_of(tree, leaf)]
    return ProofView(asset=address_text(leaf.asset), cumulative=str(leaf.cumulative), proof=path)


PUBLIC_ROUTES = [proofs]
