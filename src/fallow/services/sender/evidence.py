"""What of the archive costs stake. Calls block; use them in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from fallow.domain.epochs.ballots import EVIDENCE, VOTES
from fallow.domain.epochs.judging import root_of
from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, checked, path_of
from fallow.domain.epochs.offences import Offence, of_gateways, of_nodes, of_validators
from fallow.domain.epochs.reading import records_of_kind
from fallow.domain.epochs.state import STATE, read_state
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import NotFound
from fallow.domain.facts import NodeShown
from fallow.domain.gateway_facts import GatewayOverstated, LimitMade
from fallow.ports.archive import Archive, Archived, whole
from fallow.ports.votes import votes_of

EPOCHS_BACK = 14
"""Closed epochs whose evidence counts: what was unbonded before is released by then, at an epoch a day."""


class Evidence:
    """Looks at the latest epochs; at one that it knows only where votes have come since.

    `limits_made` are by vertical, of those whose gateways order.
    """

    def __init__(self, archive: Archive, network_key: bytes, limits_made: Mapping[str, LimitMade]) -> None:
        self._archive = archive
        self._network_key = network_key
        self._limits_made = limits_made
        self._of_records: dict[int, list[Offence]] = {}
        self._of_validators: dict[int, tuple[list[Archived], list[Offence]]] = {}

    def offences(self) -> list[Offence]:
        """All that are shown now, those of old epochs first.

        Raises:
            Unavailable: the archive is away.
            InvalidInput: a file in it is damaged.
        """
        numbers = sorted(int(name) for name in self._archive.folders("epochs/") if name.isdecimal())[-EPOCHS_BACK - 1 :]
        return [offence for epoch in numbers for offence in self._of_epoch(epoch)]

    def _of_epoch(self, epoch: int) -> Iterable[Offence]:
        votes = [*self._archive.names(path_of(epoch, VOTES)), *self._archive.names(path_of(epoch, EVIDENCE))]
        if epoch not in self._of_validators or self._of_validators[epoch][0] != votes:
            sealed = self._sealed(epoch)
            if sealed is None:
                return []
            statement = self._open(sealed)
            found = of_validators(statement, root_of(statement, sealed), votes_of(self._archive, statement))
            self._of_validators[epoch] = votes, found
            self._of_records.setdefault(epoch, self._records(statement))
        return [*self._of_validators[epoch][1], *self._of_records[epoch]]

    def _records(self, statement: Statement) -> list[Offence]:
        """A node's owner is whose it was when the epoch began: nobody hands a node on to get away."""
        before = self._sealed(statement.epoch - 1) if statement.epoch else None
        owners = {**self._owners(statement), **(self._owners(self._open(before)) if before else {})}
        raw = whole(self._archive, path_of(statement.epoch, MANIFEST), MANIFEST_BYTES_MAX)
        manifest, read = statement.check_manifest(raw), partial(self._read, statement.epoch)
        shown = records_of_kind(manifest, read, NodeShown.kind)
        overstated = records_of_kind(manifest, read, GatewayOverstated.kind)
        return [
            *of_nodes(shown, self._network_key, owners),
            *of_gateways(overstated, statement.net, self._network_key, self._limits_made),
        ]

    def _owners(self, statement: Statement) -> Mapping[bytes, bytes]:
        file = next((file for file in statement.files if file.name == STATE), None)
        if file is None:
            return {}
        return read_state(b"".join(checked(file, self._read(statement.epoch, STATE)))).owners

    def _sealed(self, epoch: int) -> bytes | None:
        """The file of an epoch's statement; None where it is not closed, or not yet."""
        try:
            return whole(self._archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX)
        except NotFound:
            return None

    def _open(self, sealed: bytes) -> Statement:
        return Statement.open(sealed, self._network_key)

    def _read(self, epoch: int, name: str) -> Iterable[bytes]:
        return self._archive.read(path_of(epoch, name))
