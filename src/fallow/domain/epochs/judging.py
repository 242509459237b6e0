"""Judging an epoch: whether what its operator states is what the epoch's files give. Pure.

A validator reads the statement and the files as they are published, computes again whatever follows from them, and
holds the operator's word against it, field by field. What it signs is the root that both come to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX
from fallow.domain.epochs.quorum import Domain, Root
from fallow.domain.epochs.reading import Filed, Place, Read, checked_records
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.errors import InvalidInput


class Inputs(NamedTuple):
    """What an epoch is closed from: the operator's statement for what he chose, the carried state, the records."""

    statement: Statement
    opening: bytes
    records: Iterable[Filed]


class Redone(NamedTuple):
    """The statement with all that follows from its inputs computed again, and the state that is carried on."""

    statement: Statement
    closing: bytes


Close = Callable[[Inputs], Redone]
"""Closes an epoch.

Raises:
    InvalidInput: the statement names a policy that this code does not have.
"""


class Before(NamedTuple):
    """The epoch before, as this validator has judged it. `places` are where each node's numbers go on.

    `sealed` is the file of its statement, `state` what it carries on.
    """

    sealed: bytes
    statement: Statement
    places: Mapping[bytes, Place]
    state: bytes


class Judged(NamedTuple):
    """An epoch that is right: what to sign, and what to judge the next one by."""

    root: Root
    domain: Domain
    after: Before


def judge(sealed: bytes, before: Before | None, read: Read, network_key: bytes, close: Close) -> Judged:
    """Compute an epoch again and compare.

    Raises:
        NotAllowed: the statement is not signed by the network.
        InvalidInput: `epoch.wrong`, with every difference in words; `epoch.order`: it does not follow the one before;
            `epoch.gap`: a node's records are missing; `archive.*`: its files are not what they should be.
    """
    statement = Statement.open(sealed, network_key)
    _check_follows(statement, before)
    manifest = statement.check_manifest(_whole(read, MANIFEST, MANIFEST_BYTES_MAX))
    places = dict(before.places) if before else {}
    records = _placed(checked_records(manifest, read, network_key), places)
    redone = close(Inputs(statement, before.state if before else b"", records))
    for _ in records:
        pass  # whoever closed did not need all of them; that they are in order is checked all the same
    found = differences(statement, redone.statement)
    if found:
        raise InvalidInput(
            "epoch.wrong", f"Epoch {statement.epoch} is not what its records give: {'; '.join(found)}.", HINT
        )
    return Judged(root_of(statement, sealed), domain_of(statement), Before(sealed, statement, places, redone.closing))


def differences(said: Statement, redone: Statement) -> list[str]:
    """Say in words where a statement differs from the one computed again."""
    return [
        f"{name} is {_text(getattr(said, name))} in the statement, and {_text(getattr(redone, name))} by computing it"
        for name in Statement.__struct_fields__
        if getattr(said, name) != getattr(redone, name)
    ]


def root_of(statement: Statement, sealed: bytes) -> Root:
    """What validators sign of a statement, whose file is `sealed`."""
    return Root(
        epoch=statement.epoch,
        revision=statement.revision,
        root=statement.root,
        settlement_total=int.from_bytes(statement.settlement_total),
        token_total=int.from_bytes(statement.token_total),
        archive=hashlib.sha256(sealed).digest(),
    )


def domain_of(statement: Statement) -> Domain:
    """Where signatures under a statement's root hold."""
    return Domain(statement.chain_id, statement.contract)


def close_without_policies(inputs: Inputs) -> Redone:
    """Close an epoch of a network that has no policies yet: nobody is owed anything by it.

    Raises:
        InvalidInput: `epoch.policy`: the statement names policies.
    """
    if inputs.statement.policies:
        names = ", ".join(f"{policy.name} {policy.version}" for policy in inputs.statement.policies)
        raise InvalidInput("epoch.policy", f"This code does not have the policies {names}.", "Install a newer Fallow.")
    nothing = dict.fromkeys(("opening", "closing", "root", "settlement_total", "token_total"), NONE)
    return Redone(msgspec.structs.replace(inputs.statement, files=[], totals={}, leaf_count=0, **nothing), b"")


def _check_follows(statement: Statement, before: Before | None) -> None:
    if before is None:
        if statement.previous != NONE:
            raise InvalidInput(
                "epoch.order",
                f"Epoch {statement.epoch} has one before it, which was not judged.",
                "Begin at the first.",
            )
        return
    statement.check_follows(before.sealed)
    last = before.statement
    if (statement.net, statement.epoch, statement.from_ms) != (last.net, last.epoch + 1, last.until_ms):
        raise InvalidInput(
            "epoch.order", f"Epoch {statement.epoch} of {statement.net!r} does not begin where {last.epoch} ended."
        )


def _placed(records: Iterator[Filed], places: dict[bytes, Place]) -> Iterator[Filed]:
    """Pass records on while each node's numbers are followed from epoch to epoch: what was left out leaves a gap."""
    for filed in records:
        boot, seq = filed.record.boot, filed.record.seq
        expected = places.get(filed.node)
        if expected is not None and (boot, seq) != expected and not (boot > expected[0] and seq == 0):
            raise InvalidInput(
                "epoch.gap",
                f"Node {filed.node.hex()} goes on with number {seq} of boot {boot} where number {expected[1]} of boot "
                f"{expected[0]} is next: records were left out of this epoch or of the one before.",
                HINT,
            )
        places[filed.node] = (boot, seq + 1)
        yield filed


def _whole(read: Read, name: str, bytes_max: int) -> bytes:
    data = bytearray()
    for chunk in read(name):
        data += chunk
        if len(data) > bytes_max:
            raise InvalidInput("archive.damaged", f"The file {name} has more than {bytes_max} bytes.")
    return bytes(data)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() if any(value) else "nothing"
    return f"{value:,}" if isinstance(value, int) else str(value)


HINT = "Do not sign it. Ask the operator; the files that show it are kept."
