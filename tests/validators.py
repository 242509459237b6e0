"""A network's epochs as outsiders see them, an enemy in between, and validators that judge them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from fallow.bootstrap.validator import parts_of, sums_of
from fallow.domain.epochs.judging import close_without_policies
from fallow.domain.epochs.quorum import Vote
from fallow.domain.errors import Conflict, NotFound, Unavailable
from fallow.domain.facts import LeaseAccepted
from fallow.ports.published import Published
from fallow.services.validator.book import Book
from fallow.services.validator.parts import Parts
from fallow.services.validator.service import Seen, Validator
from tests.closed_epochs import ADDRESSES, VALIDATORS, ClosedEpoch
from tests.epoch_files import NETWORK_KEY, Node, promise
from tests.instant_chain import KeySigner

DAY_MS = 86_400_000
FIRST = 100
Alter = Callable[[list[bytes]], list[bytes]]
NOTHING: dict[str, Any] = {"files": [], "settlement": bytes(20), "token": bytes(20)}


class History:
    """Epochs one after the other, of two nodes that never stop talking, on a network without policies."""

    def __init__(self) -> None:
        self.nodes = Node(1), Node(2)
        self.epochs: list[ClosedEpoch] = []

    def close(self, *, alter: Alter = list, forge: Alter = list, **fields: Any) -> ClosedEpoch:
        """Close another epoch. `alter` changes which batches it holds, `forge` what they are after being promised."""
        first, second = self.nodes
        accepted = LeaseAccepted(lease=bytes(16))
        said = [first.batch(accepted, accepted), second.batch(accepted), first.batch(accepted)]
        number = FIRST + len(self.epochs)
        before = hashlib.sha256(self.epochs[-1].files["statement"]).digest() if self.epochs else bytes(32)
        chain: dict[str, Any] = {
            "previous": before,
            "from_ms": number * DAY_MS,
            "until_ms": (number + 1) * DAY_MS,
            "validators": ADDRESSES,
        }
        said = alter(said)
        promises = [promise(batch, number) for batch in said]
        closed = ClosedEpoch(epoch=number, leaves=[], said=forge(said), promises=promises, **(NOTHING | chain | fields))
        self.epochs.append(closed)
        return closed

    def published(self) -> Network:
        """What somebody outside can fetch of it."""
        return Network({closed.epoch: dict(closed.files) for closed in self.epochs})


class Network:
    """The port, from memory. `away` counts calls that fail before one succeeds."""

    def __init__(self, files: dict[int, dict[str, bytes]]) -> None:
        self.files = files
        self.votes: list[Vote] = []
        self.away = 0

    def first(self) -> int | None:
        """See the port."""
        return min(self.files, default=None)

    def read(self, epoch: int, name: str) -> Iterator[bytes]:
        """See the port."""
        if name not in self.files.get(epoch, {}):
            raise NotFound("archive.missing", f"There is no {name}.")
        data = self.files[epoch][name]
        yield from (data[at : at + 100] for at in range(0, len(data), 100))

    def vote(self, epoch: int, vote: bytes) -> None:
        """See the port."""
        if self.away:
            self.away -= 1
            raise Unavailable("test.away", "The network is away.")
        found = Vote.decode(vote)
        assert found.epoch == epoch
        self.votes.append(found)

    def next_seed(self) -> bytes | None:
        """See the port: it draws nothing."""
        return None

    def pledges(self, number: int) -> list[bytes]:
        """See the port."""
        raise NotFound("test.seed", f"There is no seed {number}.")

    def pledge(self, pledge: bytes) -> None:
        """See the port."""
        raise Conflict("test.seed", f"Nobody takes {len(pledge)} bytes.")

    def show_part(self, number: int, validator: bytes, part: bytes) -> None:
        """See the port."""
        raise Conflict("test.seed", f"Nobody takes {len(part)} bytes of {validator.hex()} for {number}.")


def validator(
    network: Published,
    folder: Path,
    key: PrivateKey = VALIDATORS[0],
    *,
    parts: Parts | None = None,
    draw: Callable[[int], int] | None = None,
) -> Validator:
    """A validator with its own memory in a folder. `draw` says of which part of the nodes it adds up sums again."""
    book = Book(folder / "book", NETWORK_KEY)
    return Validator(
        network_key=NETWORK_KEY,
        cast=lambda domain, root: Vote.cast(key, domain, root),
        parts=parts or parts_of(KeySigner(key), NETWORK_KEY, network, book),
        sums=sums_of(NETWORK_KEY, draw) if draw else sums_of(NETWORK_KEY),
        published=network,
        book=book,
        folder=folder / "epochs",
        close=close_without_policies,
    )


def judged(network: Published, folder: Path) -> list[Seen]:
    """What a new process of the validator comes to."""
    return list(validator(network, folder).look())
