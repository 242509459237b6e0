"""A validator's own memory: how far it has judged, what it signed, why it refused. Files in one folder; calls block.

What was signed is on the disk before anybody sees it, and nothing else is ever signed for that epoch and revision: a
validator that is killed, restored or started twice does not equivocate by accident.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fallow.domain.encoding import decode, encode
from fallow.domain.epochs.judging import Before
from fallow.domain.epochs.quorum import Domain, Vote
from fallow.domain.epochs.reading import Place
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import Conflict, InvalidInput
from fallow.ports.files import write_durably

JUDGED, DOMAIN, VOTES, REFUSED, PARTS = "judged", "domain", "votes", "refused", "parts"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that was not signed, and why."""

    epoch: int
    code: str
    message: str
    statement: str
    """SHA-256 of the file that was judged, in hex."""


class Part(msgspec.Struct, frozen=True):
    """What this validator adds to a seed. Once `shown`: what the operator had committed to then, and all pledges."""

    value: bytes
    commitment: bytes = b""
    pledges: list[bytes] = []
    shown: bool = False


class Book:
    """Keeps the memory of one validator of one network. One process at a time."""

    def __init__(self, folder: Path, network_key: bytes) -> None:
        self._folder = folder
        self._key = network_key
        for name in (VOTES, REFUSED, PARTS):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def before(self) -> Before | None:
        """The last epoch that was judged right."""
        data = _read(self._folder / JUDGED)
        if data is None:
            return None
        sealed, places = decode(data)
        statement = Statement.open(sealed, self._key)
        state = _read(self._state(statement.epoch)) or b""
        return Before(sealed, statement, {node: _place(boot, seq) for node, boot, seq in places}, state)

    def keep(self, before: Before) -> None:
        """Remember an epoch as judged right."""
        places = [[node, *place] for node, place in sorted(before.places.items())]
        epoch = before.statement.epoch
        write_durably(self._state(epoch), before.state)
        write_durably(self._folder / JUDGED, encode([before.sealed, places]))
        self._state(epoch - 1).unlink(missing_ok=True)
        (self._folder / REFUSED / str(epoch)).unlink(missing_ok=True)

    def pin(self, domain: Domain) -> None:
        """Sign for this contract alone from now on.

        Raises:
            Conflict: it is another one than before (`validator.other_contract`).
        """
        pinned = _read(self._folder / DOMAIN)
        if pinned is None:
            write_durably(self._folder / DOMAIN, encode([domain.chain_id, domain.contract]))
        elif Domain(*decode(pinned)) != domain:
            raise Conflict(
                "validator.other_contract",
                f"The statement is for contract 0x{domain.contract.hex()} on chain {domain.chain_id}, not for the one "
                "that this validator signs for.",
                f"If that is right, remove {self._folder / DOMAIN}.",
            )

    def sign_once(self, vote: Vote) -> Vote:
        """Keep a vote before it leaves; returns it, or the same one from an earlier time.

        Raises:
            Conflict: another root of this epoch and revision was signed (`validator.signed_other`).
        """
        path = self._folder / VOTES / f"{vote.epoch}.{vote.revision}"
        kept = _read(path)
        if kept is None:
            write_durably(path, vote.encode())
            return vote
        earlier = Vote.decode(kept)
        if (earlier.domain, earlier.about) != (vote.domain, vote.about):
            raise Conflict(
                "validator.signed_other",
                f"This validator has signed another root for epoch {vote.epoch}: "
                f"{'; '.join(earlier.about.differences(vote.about))}. Signing both would convict it.",
                "The network shows two truths. Keep the files, and ask its operator.",
            )
        return earlier

    def votes(self) -> Iterator[Vote]:
        """All that was signed, in the order of epochs."""
        for path in sorted(_kept(self._folder / VOTES), key=lambda each: tuple(map(int, each.name.split(".")))):
            yield Vote.decode(path.read_bytes())

    def refuse(self, refusal: Refusal) -> bool:
        """Keep why an epoch was refused; whether that is new."""
        path = self._folder / REFUSED / str(refusal.epoch)
        data = msgspec.json.encode(refusal)
        if _read(path) == data:
            return False
        write_durably(path, data)
        return True

    def refusals(self) -> list[Refusal]:
        """What is refused now."""
        paths = sorted(_kept(self._folder / REFUSED), key=lambda each: int(each.name))
        return [msgspec.json.decode(path.read_bytes(), type=Refusal) for path in paths]

    def part(self, number: int) -> Part | None:
        """What was pledged of the seed of an epoch of draws."""
        data = _read(self._folder / PARTS / str(number))
        return None if data is None else msgspec.msgpack.decode(data, type=Part)

    def keep_part(self, number: int, part: Part) -> None:
        """Keep a part before it is pledged, and what was seen when it was shown."""
        write_durably(self._folder / PARTS / str(number), msgspec.msgpack.encode(part))

    def _state(self, epoch: int) -> Path:
        return self._folder / f"state.{epoch}"


def _place(boot: object, seq: object) -> Place:
    if not isinstance(boot, int) or not isinstance(seq, int):
        raise InvalidInput("validator.book", "The validator's own memory is damaged.", "Begin with an empty folder.")
    return boot, seq


def _kept(folder: Path) -> Iterator[Path]:
    """The files of a folder, without what a process left that was killed while it wrote."""
    return folder.glob("[!.]*")


def _read(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None
