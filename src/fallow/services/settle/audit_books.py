"""What an audit has read of the ledger, the archive and the chain, sorted so that it can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from fallow.domain.chain_facts import ChainFact
from fallow.domain.chart import Credit, Kind, Purpose, account_id
from fallow.domain.encoding import encode
from fallow.domain.identity import address_text
from fallow.domain.ledger import Movement
from fallow.domain.reconciling import Difference, Item, beyond, differences
from fallow.domain.records import to_builtins
from fallow.services.settle.sorting import RUN_ITEMS, Sorter

EPOCH_BYTES, ACCOUNT_BYTES, PLACE_BYTES = 8, 20, 8
ISSUER = account_id(Purpose.ISSUER, Credit.PAID)


class Said(NamedTuple):
    """What is stated of an epoch: its root, and the hash of its statement."""

    root: bytes
    archive: bytes


class Books:
    """Transfers of paid credits, and what stands for each of them; the chain's events, and their records.

    `said` and `submitted` are the roots that statements have, and that the chain has. Epochs whose files are `damaged`
    say nothing. `issued` are transfers that are none of the three kinds.
    """

    def __init__(self, folder: Path, run_items: int) -> None:
        def sorter() -> Sorter:
            return Sorter(folder, run_items=run_items)

        self.deposits, self.deposited = sorter(), sorter()
        self.withdrawals, self.withdrawn = sorter(), sorter()
        self.payouts, self.earned = sorter(), sorter()
        self.claims = sorter()
        self.events, self.recorded = sorter(), sorter()
        self.said: dict[int, Said] = {}
        self.submitted: dict[int, Said] = {}
        self.damaged: set[int] = set()
        self.issued: list[Difference] = []

    def move(self, one: Movement) -> None:
        """Take a movement of the issuer of paid credits."""
        id_, inwards = one.id or b"", one.debit == ISSUER
        if one.code == Kind.DEPOSIT and inwards:
            self.deposits.add([Item(id_, one.amount, one.credit)])
        elif one.code == Kind.WITHDRAWAL and not inwards:
            self.withdrawals.add([Item(id_, one.amount, one.ref)])
        elif one.code == Kind.PAID_OUT and not inwards:
            self.payouts.add([Item(one.ref + id_, one.amount, one.debit)])
        else:
            why = "Paid credits come by deposits, and go by withdrawals and by what closed epochs pay out."
            code = "ledger.issued"
            self.issued.append(Difference(code=code, subject=id_.hex(), here=str(one.amount), detail=why))

    def highest_claims(self) -> Iterator[Item]:
        """What each account has claimed of each asset until now."""
        for _, items in groupby(self.claims, key=lambda item: item.key):
            yield max(items, key=lambda item: item.amount)

    def compared(self) -> Iterator[Difference]:
        """Hold one side against the other."""
        yield from self.issued
        yield from differences("deposit", self.deposits, self.deposited)
        yield from differences("paid_out", self._readable(), self.earned, _of_epoch)
        for epoch, there in sorted(self.submitted.items()):
            if epoch not in self.damaged and (here := self.said.get(epoch)) != there:
                shown = f"0x{here.root.hex()} {here.archive.hex()}" if here else ""
                submitted = f"0x{there.root.hex()} {there.archive.hex()}"
                yield Difference(code="root.differs", subject=f"epoch {epoch}", here=shown, there=submitted)

    def withdrawals_apart(self) -> Iterator[Difference]:
        """Differences of withdrawals as the archive has them; what it lacks may still be on its way there."""
        return differences("withdrawal", self.withdrawals, self.withdrawn)

    def events_apart(self) -> Iterator[Difference]:
        """Differences of the chain's events as the archive has them; what it lacks may still be on its way there."""
        return differences("event", self.recorded, self.events, name_of_event)

    def overdrawn(self, owed: Iterator[Item]) -> Iterator[Difference]:
        """Claims beyond what is owed by the latest epoch."""
        return beyond("claim", self.highest_claims(), owed, _of_account)

    def _readable(self) -> Iterator[Item]:
        for item in self.payouts:
            epoch = int.from_bytes(item.key[:EPOCH_BYTES])
            yield item._replace(due=False) if epoch in self.damaged else item

    def close(self) -> None:
        """Forget what was read."""
        for each in vars(self).values():
            if isinstance(each, Sorter):
                each.close()


@contextmanager
def books(folder: Path, run_items: int = RUN_ITEMS) -> Iterator[Books]:
    """Empty books, whose files in `folder` end with the context."""
    made = Books(folder, run_items)
    try:
        yield made
    finally:
        made.close()


def event_item(fact: ChainFact, *, due: bool) -> Item:
    """An event of the chain, or its record: they are the same when their fields are. Its amount is its block."""
    key = fact.transaction + fact.place.to_bytes(PLACE_BYTES)
    return Item(key, fact.block, hashlib.sha256(encode([fact.kind, to_builtins(fact)])).digest(), due)


def name_of_event(key: bytes) -> str:
    """How people read the key of an event."""
    return f"transaction 0x{key[:-PLACE_BYTES].hex()}, log {int.from_bytes(key[-PLACE_BYTES:])}"


def _of_epoch(key: bytes) -> str:
    return f"epoch {int.from_bytes(key[:EPOCH_BYTES])}, transfer {key[EPOCH_BYTES:].hex()}"


def _of_account(key: bytes) -> str:
    return f"account {address_text(key[:ACCOUNT_BYTES])}, asset {address_text(key[ACCOUNT_BYTES:])}"
