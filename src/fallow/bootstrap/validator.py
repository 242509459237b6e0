"""Puts a validator together from its parts, and runs it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import NamedTuple

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock
from fallow.adapters.published import HttpPublished
from fallow.bootstrap.plugins import load_meterings, load_verticals
from fallow.domain.epochs.closing import closer
from fallow.domain.epochs.metering import Recount
from fallow.domain.epochs.quorum import Domain, Root, Vote
from fallow.domain.epochs.reading import Place
from fallow.domain.epochs.seeds import PART_BYTES, Pledge, commitment_of, pledge_digest
from fallow.domain.errors import Unavailable
from fallow.ports.published import Published
from fallow.ports.signer import Signer
from fallow.services.validator.book import Book
from fallow.services.validator.parts import Parts
from fallow.services.validator.service import Seen, Validator
from fallow.services.validator.sums import Sums

LOOK_S = 30.0

_log = logging.getLogger(__name__)


class Assignment(NamedTuple):
    """Which network a validator judges, and with what. `home` is its own folder."""

    url: str
    network_key: bytes
    signer: Signer
    home: Path
    tls: SSLContext | bool = True


def run_validator(assignment: Assignment, report: Callable[[Seen], None], *, once: bool) -> None:
    """Judge epochs as they are closed, and report each; for ever, or with `once` those that are closed now.

    Raises:
        Conflict: another process uses this folder.
        Unavailable: with `once`, the network cannot be reached.
    """
    home = assignment.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with data_lock(home, "fallow validator"), closing(HttpPublished(assignment.url, assignment.tls)) as published:
        book = book_of(home, assignment.network_key)
        validator = Validator(
            network_key=assignment.network_key,
            cast=partial(_cast, assignment.signer),
            parts=parts_of(assignment.signer, assignment.network_key, published, book),
            sums=sums_of(assignment.network_key),
            published=published,
            book=book,
            folder=home / "epochs",
            close=closer(assignment.network_key, load_meterings()),
        )
        if once:
            _look(validator, report)
        else:
            asyncio.run(_watch(validator, report))


def _cast(signer: Signer, domain: Domain, root: Root) -> Vote:
    return Vote.signed(domain, root, asyncio.run(signer.sign(root.digest(domain))))


def _pledge(signer: Signer, net: str, number: int, part: bytes) -> Pledge:
    commitment = commitment_of(net, number, signer.address, part)
    signature = asyncio.run(signer.sign(pledge_digest(net, number, commitment)))
    return Pledge(net=net, number=number, commitment=commitment, signature=signature)


def parts_of(signer: Signer, network_key: bytes, published: Published, book: Book) -> Parts:
    """What a validator adds to seeds."""
    return Parts(
        network_key=network_key,
        sign=partial(_pledge, signer),
        published=published,
        book=book,
        new_part=partial(secrets.token_bytes, PART_BYTES),
    )


def sums_of(network_key: bytes, draw: Callable[[int], int] = secrets.randbelow) -> Sums:
    """What a validator adds up again, by the verticals that are installed here."""

    def new_recounts(net: str, since_ms: int, places: Mapping[bytes, Place]) -> list[Recount]:
        made = [one.recount(net, network_key, since_ms, places) for one in load_verticals().values()]
        return [recount for recount in made if recount is not None]

    return Sums(network_key, new_recounts, draw)


def book_of(home: Path, network_key: bytes) -> Book:
    """Open what a validator remembers of one network: each has a folder of its own in `home`."""
    return Book(home / hashlib.sha256(network_key).hexdigest()[:16], network_key)


def _look(validator: Validator, report: Callable[[Seen], None]) -> None:
    for seen in validator.look():
        report(seen)


async def _watch(validator: Validator, report: Callable[[Seen], None]) -> None:
    clock = SystemClock()
    while True:
        try:
            await asyncio.to_thread(_look, validator, report)
        except Unavailable as error:
            _log.warning("nothing is judged for now: %s", error)
        await clock.sleep(LOOK_S)
