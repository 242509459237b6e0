"""The archive's side of an audit. Its functions block: they read files, one epoch after the other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from fallow.domain.chain_facts import CHAIN_FACTS
from fallow.domain.chart import Credit, Purpose, account_id, pay_out
from fallow.domain.epochs.closing import LEAVES
from fallow.domain.epochs.leaves import LEAF_BYTES, leaf_of
from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, checked, path_of
from fallow.domain.epochs.paying import earned, lines_that_pay
from fallow.domain.epochs.reading import records_of_kind
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.reconciling import Difference, Item
from fallow.domain.records import Body
from fallow.ports.archive import Archive, whole
from fallow.ports.epochs import Closed
from fallow.services.settle.audit_books import EPOCH_BYTES, Books, Said, event_item

BodyT = TypeVar("BodyT", bound=Body)


class Due(NamedTuple):
    """Up to which epochs the ledger must have everything: what was recorded, and what was earned. -1 is none."""

    recorded: int
    paid: int


class ArchiveSide:
    """Reads closed epochs into the books. `owed` is what all of them until now may owe of the settlement asset."""

    def __init__(self, archive: Archive, network_key: bytes, books: Books, *, has_chain: bool) -> None:
        self._archive = archive
        self._network_key = network_key
        self._books = books
        self._chain_facts = CHAIN_FACTS if has_chain else ()
        self.owed = 0

    def read(self, closed: Closed, due: Due) -> list[Difference]:
        """Read an epoch. What is damaged is a difference, and nothing else is concluded from that epoch.

        Raises:
            Unavailable: the archive does not answer.
        """
        epoch = closed.epoch
        try:
            if whole(self._archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX) != closed.statement:
                self._books.damaged.add(epoch)
                told = "The archive's statement is not the one that was signed when the epoch was closed."
                return [Difference(code="archive.statement", subject=f"epoch {epoch}", detail=told)]
            return self._read(closed, due)
        except Unavailable:
            raise
        except FallowError as error:
            self._books.damaged.add(epoch)
            return [Difference(code="archive.damaged", subject=f"epoch {epoch}", detail=error.message)]

    def _read(self, closed: Closed, due: Due) -> list[Difference]:
        epoch, said = closed.epoch, Statement.open(closed.statement, self._network_key)
        recorded = epoch <= due.recorded
        withdrawn = [withdrawn_item(one, due=recorded) for one in self._records(said, CreditWithdrawn)]
        events = [event_item(one, due=recorded) for kind in self._chain_facts for one in self._records(said, kind)]
        file = lines_that_pay(said)
        sums = earned(file, self._archive.read(path_of(epoch, file.name))) if file else Counter[bytes]()
        self._books.withdrawn.add(withdrawn)
        self._books.recorded.add(events)
        self._books.earned.add(
            _earned(epoch, account, amount, due=epoch <= due.paid) for account, amount in sums.items()
        )
        self._books.said[epoch] = Said(said.root, hashlib.sha256(closed.statement).digest())
        if file is None:
            return []
        self.owed += sum(sums.values()) + sum(item.amount for item in withdrawn)
        total = int.from_bytes(said.settlement_total)
        if total <= self.owed or self._books.damaged:
            return []
        told = "Its root owes more of the settlement asset than was earned and withdrawn until then."
        subject = f"epoch {epoch}"
        return [Difference(code="owed.exceeds", subject=subject, here=str(self.owed), there=str(total), detail=told)]

    def _records(self, said: Statement, fact: type[BodyT]) -> list[BodyT]:
        """What the network itself has recorded of one kind in an epoch."""
        manifest = said.check_manifest(whole(self._archive, path_of(said.epoch, MANIFEST), MANIFEST_BYTES_MAX))

        def read(name: str) -> Iterable[bytes]:
            return self._archive.read(path_of(said.epoch, name))

        found = records_of_kind(manifest, read, fact.kind)
        return [filed.record.read(fact) for filed in found if filed.node == self._network_key]

    def leaves(self, closed: Closed) -> Iterator[Item]:
        """What everybody is owed by an epoch, in the order of accounts and assets.

        Raises:
            InvalidInput: the file is not the statement's.
        """
        said = Statement.open(closed.statement, self._network_key)
        file = next(file for file in said.files if file.name == LEAVES)
        waiting = b""
        for chunk in checked(file, self._archive.read(path_of(closed.epoch, LEAVES))):
            waiting += chunk
            whole_bytes = len(waiting) // LEAF_BYTES * LEAF_BYTES
            for at in range(0, whole_bytes, LEAF_BYTES):
                leaf = leaf_of(waiting[at : at + LEAF_BYTES])
                yield Item(leaf.account + leaf.asset, leaf.cumulative)
            waiting = waiting[whole_bytes:]


def withdrawn_item(body: CreditWithdrawn, *, due: bool) -> Item:
    """A withdrawal as the archive has it."""
    return Item(body.withdrawal, body.amount_microusd, body.account, due)


def _earned(epoch: int, account: bytes, amount: int, *, due: bool) -> Item:
    key = epoch.to_bytes(EPOCH_BYTES) + pay_out(epoch, account, amount).id
    return Item(key, amount, account_id(Purpose.EARNED, Credit.PAID, account), due)
