"""Closed epochs made by hand: a folder as the archive has it, with leaves, a statement and votes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from fallow.domain.encoding import encode
from fallow.domain.epochs.leaves import totals_of, tree_over, write_leaves
from fallow.domain.epochs.quorum import Domain, Root, Vote
from fallow.domain.facts import LeaseAccepted, LeaseDeclined, UsageReceipt
from fallow.domain.rewards.tree import Leaf, root_of
from fallow.domain.signing import signed_message
from fallow.domain.wallets import address_of
from tests.epoch_files import NET, NETWORK, EpochFiles, Node

VALIDATORS = sorted((PrivateKey(bytes([n]) * 32) for n in range(1, 5)), key=address_of)
ADDRESSES = [address_of(key) for key in VALIDATORS]
SETTLEMENT, TOKEN = b"\x05" * 20, b"\x07" * 20
LEAVES = [Leaf(bytes([n]) * 20, TOKEN, 10**27 + n) for n in range(1, 8)]


def batches() -> list[bytes]:
    """What two nodes said in an epoch."""
    first, second = Node(1), Node(2)
    lease = bytes(16)
    return [
        first.batch(LeaseAccepted(lease=lease), LeaseDeclined(lease=lease, reason="node.paused")),
        second.batch(LeaseAccepted(lease=lease)),
        first.batch(UsageReceipt(lease=lease, window=0, used_ms=5, final=True, ok=True)),
    ]


class ClosedEpoch:
    """Makes the files of an epoch; `more` are further files; `fields` replace what the statement says.

    `write` puts them into a folder.
    """

    def __init__(
        self,
        *,
        epoch: int = 1,
        leaves: Sequence[Leaf] = LEAVES,
        domain: Domain | None = None,
        said: Sequence[bytes] | None = None,
        promises: Sequence[bytes] | None = None,
        more: Mapping[str, bytes] | None = None,
        **fields: Any,
    ) -> None:
        self.epoch = epoch
        self.domain = domain or Domain.without_chain(NET)
        made = EpochFiles(epoch, batches() if said is None else said, promises)
        data = write_leaves(leaves)
        totals = totals_of(leaves)
        manifest = made.manifest.encode()
        stated: dict[str, Any] = {
            "net": NET,
            "epoch": epoch,
            "from_ms": 0,
            "until_ms": 86_400_000,
            "manifest": hashlib.sha256(manifest).digest(),
            "files": [_file("leaves", data, len(leaves)), *(_file(*one, 0) for one in (more or {}).items())],
            "root": root_of(tree_over(leaves)),
            "revision": 0,
            "settlement": SETTLEMENT,
            "settlement_total": totals.get(SETTLEMENT, 0).to_bytes(32),
            "token": TOKEN,
            "token_total": totals.get(TOKEN, 0).to_bytes(32),
            "chain_id": self.domain.chain_id,
            "contract": self.domain.contract,
        } | fields
        body = encode(stated)
        sealed = encode([body, NETWORK.sign(signed_message("fallow/statement/1", body)).signature])
        self.files = {name: bytes(file) for name, file in made.files.items()}
        self.files |= {"manifest": manifest, "leaves": data, "statement": sealed, **(more or {})}
        self.root = Root(
            epoch,
            stated["revision"],
            stated["root"],
            int.from_bytes(stated["settlement_total"]),
            int.from_bytes(stated["token_total"]),
            hashlib.sha256(sealed).digest(),
        )

    def vote(self, keys: Sequence[PrivateKey] = VALIDATORS, *, root: Root | None = None) -> None:
        """Have validators sign this root, or another one."""
        for key in keys:
            vote = Vote.cast(key, self.domain, root or self.root)
            self.files[f"votes/0x{address_of(key).hex()}"] = vote.encode()

    def write(self, folder: Path, path: str = "epochs/{epoch}") -> Path:
        """Write all files below a folder; returns it."""
        for name, data in self.files.items():
            target = folder / path.format(epoch=self.epoch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return folder


def _file(name: str, data: bytes, count: int) -> dict[str, Any]:
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).digest(), "count": count}
