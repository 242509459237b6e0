"""What other rules would have given over closed epochs: from the archive alone, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from fallow.adapters.archive import StoreArchive
from fallow.adapters.processes import found_apart
from fallow.bootstrap.plugins import load_meterings
from fallow.domain.calls.epochs import WhatIf
from fallow.domain.epochs.lines import LINES, lines_of
from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, Manifest, checked, path_of
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.network_line import network_line
from fallow.domain.epochs.otherwise import ClosedEpoch, Sums, compared, refolded, summed, together
from fallow.domain.epochs.reading import filed_records
from fallow.domain.epochs.rules import Rules, pinned_rules
from fallow.domain.epochs.state import NOTHING, STATE, State, amount, read_state
from fallow.domain.epochs.statement import NONE, STATEMENT_BYTES_MAX, Statement
from fallow.domain.epochs.written_rules import changed, of_model, written
from fallow.domain.errors import NotFound, TooMuch
from fallow.domain.identity import address_text
from fallow.domain.views.what_if import WhatIfEpochView, WhatIfView
from fallow.ports.archive import whole
from fallow.ports.otherwise import Begin

RECORDS_MAX: Final = 5_000_000
"""Of all epochs together: a processor judges some hundred thousand a second."""

ACCOUNTS_SHOWN: Final = 20


def apart(archive: StoreArchive, network_key: bytes) -> Begin:
    """Make what begins to compute, in a process of its own, what a request asks for."""

    def begin(asked: WhatIf) -> AbstractContextManager[Iterator[WhatIfEpochView | WhatIfView]]:
        return found_apart(compute, archive, network_key, asked)

    return begin


def compute(archive: StoreArchive, network_key: bytes, asked: WhatIf) -> Iterator[WhatIfEpochView | WhatIfView]:
    """Each epoch in its order, and what they come to in the end.

    Raises:
        NotFound: `epoch.not_closed`: none is closed.
        TooMuch: `what_if.records`: these epochs have too many records.
        InvalidInput: `epoch.rules`: a change is none; `epoch.policy`: a policy of theirs is not here; `archive.*`: a
            file is not what the statement says.
        Unavailable: the archive does not answer.
    """
    epochs = _Epochs(archive, network_key)
    chosen = epochs.latest(asked)
    change = partial(_changed, asked)
    rules = change(pinned_rules(chosen[-1].policies))  # what is no rule is refused before anything is computed
    was, then = dict[str, Sums](), dict[str, Sums]()
    closed = map(epochs.closed, chosen)
    for one, folded in refolded(epochs.opening(chosen[0]), closed, change, network_key, load_meterings()):
        lines = list(one.lines)
        was = together(was, summed(lines, lambda line: address_text(line.account)))
        then = together(then, summed(folded.lines, lambda line: address_text(line.account)))
        yield WhatIfEpochView(
            epoch=one.statement.epoch,
            until_ms=one.statement.until_ms,
            was=network_line(one.statement.totals),
            then=network_line({name: amount(total) for name, total in folded.totals.items()}),
            verticals=compared(*(summed(each, lambda line: line.vertical) for each in (lines, folded.lines))),
        )
    accounts = [one for one in compared(was, then) if one.was != one.then]
    yield WhatIfView(
        accounts=accounts[:ACCOUNTS_SHOWN],
        accounts_changed=len(accounts),
        file=written(rules),
        mint_max=str(rules.mint_max),
    )


def _changed(asked: WhatIf, rules: Rules) -> Rules:
    return changed(of_model(rules, MODELS[asked.model]) if asked.model else rules, asked.changes)


class _Epochs:
    """Closed epochs of an archive, with each file held against the statement that the network signed."""

    def __init__(self, archive: StoreArchive, network_key: bytes) -> None:
        self._archive = archive
        self._key = network_key

    def latest(self, asked: WhatIf) -> list[Statement]:
        """The statements of those that were asked for, each following the one before."""
        numbers = sorted(int(name) for name in self._archive.folders("epochs/") if name.isdecimal())
        found: list[Statement] = []
        records = 0
        for number in reversed([number for number in numbers if number <= asked.until]):
            try:
                said = self._said(number)
            except NotFound:
                if found:
                    break
                continue  # its closing is not over
            if len(found) == asked.epochs or (found and found[-1].epoch != number + 1):
                break
            records += sum(file.count for file in self._manifest(said).record_files)
            if records > RECORDS_MAX:
                break
            found.append(said)
        if not found and records:
            raise TooMuch(
                "what_if.records", f"Epochs of more than {RECORDS_MAX:,} records are not computed here.", HINT
            )
        if not found:
            raise NotFound("epoch.not_closed", "No such epoch is closed yet.", "See which are: fallow epoch ls")
        return found[::-1]

    def opening(self, first: Statement) -> State:
        """Where the first epoch really began."""
        if first.previous == NONE:
            return NOTHING
        before = self._said(first.epoch - 1)
        return read_state(b"".join(self._file(before, STATE))) if before.closing != NONE else NOTHING

    def closed(self, said: Statement) -> ClosedEpoch:
        """An epoch with all that its folding takes."""
        manifest = self._manifest(said)
        lines = next((file for file in said.files if file.name == LINES), None)
        return ClosedEpoch(
            said,
            lines_of(lines, self._file(said, LINES)) if lines else [],
            filed_records(manifest, partial(self._read, said.epoch)),
        )

    def _said(self, number: int) -> Statement:
        said = Statement.open(whole(self._archive, path_of(number, STATEMENT), STATEMENT_BYTES_MAX), self._key)
        said.check_is(number)
        return said

    def _manifest(self, said: Statement) -> Manifest:
        return said.check_manifest(whole(self._archive, path_of(said.epoch, MANIFEST), MANIFEST_BYTES_MAX))

    def _read(self, number: int, name: str) -> Iterable[bytes]:
        return self._archive.read(path_of(number, name))

    def _file(self, said: Statement, name: str) -> Iterator[bytes]:
        for file in said.files:
            if file.name == name:
                yield from checked(file, self._read(said.epoch, name))


HINT: Final = "Take it from the archive with: fallow epoch what-if"
