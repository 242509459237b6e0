"""Adds up closed epochs by vertical, once each, and puts that beside their files: pages read it and add up nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from fallow.domain.epochs.by_vertical import NETWORKS, ByVertical
from fallow.domain.epochs.lines import LINES, lines_of
from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, path_of
from fallow.domain.epochs.reading import records_of_kind
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.domain.facts import LeaseSettled
from fallow.domain.network_facts import SubscriptionSettled
from fallow.ports.archive import Archive, whole

BACK_MAX: Final = 31
"""Epochs before the latest one that are added up where that was not done: a month of days."""

_log = logging.getLogger(__name__)


def add_up(archive: Archive, last: int, network_key: bytes) -> None:
    """Add up the closed epoch `last`, and those before it that nobody has. It blocks, for as long as reading takes.

    One whose files are damaged is left out, so that those after it are added up all the same.

    Raises:
        Unavailable: `archive.unavailable`.
    """
    for epoch in reversed(_missing(archive, last)):
        try:
            found = _sums(archive, epoch, network_key)
        except Unavailable:
            raise
        except FallowError as error:
            _log.warning("epoch %d cannot be added up: %s", epoch, error)
        else:
            archive.create(path_of(epoch, NETWORKS), msgspec.json.encode(found.sums()))


def _missing(archive: Archive, last: int) -> list[int]:
    """The latest epochs that are closed and not added up, down to one that is."""
    missing: list[int] = []
    for epoch in range(last, max(-1, last - BACK_MAX), -1):
        if _is_there(archive, epoch, NETWORKS) or not _is_there(archive, epoch, STATEMENT):
            break
        missing.append(epoch)
    return missing


def _is_there(archive: Archive, epoch: int, name: str) -> bool:
    try:
        archive.size(path_of(epoch, name))
    except NotFound:
        return False
    return True


def _sums(archive: Archive, epoch: int, network_key: bytes) -> ByVertical:
    said = Statement.open(whole(archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX), network_key)
    manifest = said.check_manifest(whole(archive, path_of(epoch, MANIFEST), MANIFEST_BYTES_MAX))
    found = ByVertical()
    for file in said.files:
        if file.name == LINES:
            found.add_lines(lines_of(file, archive.read(path_of(epoch, LINES))))

    def read(name: str) -> Iterable[bytes]:
        return archive.read(path_of(epoch, name))

    own = (filed for filed in records_of_kind(manifest, read, LeaseSettled.kind) if filed.node == network_key)
    found.add_leases(filed.record.read(LeaseSettled) for filed in own)
    own = (filed for filed in records_of_kind(manifest, read, SubscriptionSettled.kind) if filed.node == network_key)
    found.add_subscriptions(filed.record.read(SubscriptionSettled) for filed in own)
    return found
