"""What the network says of an epoch: one signed document that names everything that the epoch was made of.

Each statement holds the hash of the one before, so that a whole history is one chain. Two different statements for one
epoch under the network's key are the proof of a lie.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from fallow.domain.epochs.manifest import FILES_MAX, File, Manifest
from fallow.domain.errors import InvalidInput
from fallow.domain.records import Count
from fallow.domain.signing import Signed

STATEMENT_BYTES_MAX = 1 << 20
VALIDATORS_MAX = 31

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Address = Annotated[bytes, Meta(min_length=20, max_length=20)]
NONE = bytes(32)
"""Stands for the hash, root or amount of nothing."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule that the epoch was closed under. `digest` fits one released version of its code and no other."""

    name: Annotated[str, Meta(max_length=60)]
    version: Count
    digest: Bytes32
    parameters: dict[str, Any] = {}


class Statement(Signed, frozen=True, kw_only=True):
    """An epoch, from `from_ms` up to `until_ms` (milliseconds since 1970).

    `manifest`, `previous`, `opening` and `closing` are SHA-256: of the manifest's file, of the statement before (its
    file), of the carried state at the beginning and at the end. `files` are what the closing has made. Amounts are 32
    bytes, most significant first; what does not apply is `NONE`, or empty.
    """

    tag: ClassVar[str] = "fallow/statement/1"
    net: str
    epoch: Count
    from_ms: Count
    until_ms: Count
    manifest: Bytes32
    previous: Bytes32 = NONE
    opening: Bytes32 = NONE
    closing: Bytes32 = NONE
    files: Annotated[list[File], Meta(max_length=FILES_MAX)] = []
    policies: Annotated[list[Policy], Meta(max_length=100)] = []
    seed: Annotated[bytes, Meta(max_length=64)] = b""
    totals: Annotated[dict[str, Bytes32], Meta(max_length=100)] = {}
    root: Bytes32 = NONE
    leaf_count: Count = 0
    revision: Count = 0
    settlement_total: Bytes32 = NONE
    token_total: Bytes32 = NONE
    settlement: Address = bytes(20)
    token: Address = bytes(20)
    chain_id: Count = 0
    contract: Address = bytes(20)
    validators: Annotated[list[Address], Meta(max_length=VALIDATORS_MAX)] = []

    def check_is(self, epoch: int) -> None:
        """Raise InvalidInput (`archive.epoch`) unless it is about this epoch."""
        if self.epoch != epoch:
            raise InvalidInput("archive.epoch", f"This is the statement of epoch {self.epoch}, not of {epoch}.")

    def check_manifest(self, data: bytes) -> Manifest:
        """Read the manifest that this statement means.

        Raises:
            InvalidInput: `archive.manifest`: these are not its bytes, or they are malformed.
        """
        if hashlib.sha256(data).digest() != self.manifest:
            raise InvalidInput("archive.manifest", f"This is not the manifest that epoch {self.epoch} was closed with.")
        manifest = Manifest.decode(data)
        if (manifest.net, manifest.epoch) != (self.net, self.epoch):
            raise InvalidInput("archive.manifest", f"The manifest is of epoch {manifest.epoch} of {manifest.net!r}.")
        return manifest

    def check_follows(self, before: bytes) -> None:
        """Raise InvalidInput (`archive.chain`) unless this statement comes right after the one whose file is given."""
        if hashlib.sha256(before).digest() != self.previous:
            raise InvalidInput("archive.chain", f"Epoch {self.epoch} does not follow the statement that is there.")
