"""What costs stake: offences that the archive shows, and the slash that is announced for each. Pure.

Each follows from files that anybody can check; the hash of these is what the chain is told. Who is slashed for what
is here alone, so that a validator or provider knows before he stakes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from fallow.domain.epochs.ballots import count, evidence
from fallow.domain.epochs.quorum import Root, Vote, equivocator, wrong_signer
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.facts import NodeShown
from fallow.domain.gateway_facts import GatewayOverstated, LimitMade
from fallow.domain.transactions import call_data
from fallow.domain.verification import WRONG
from fallow.domain.vouching import check_vouch

EQUIVOCATED: Final = "validator.equivocated"
WRONG_ROOT: Final = "validator.wrong_root"
WRONG_RESULT: Final = "node.wrong_result"
OVERSTATED: Final = "gateway.overstated"

SHARES_PPM: Final = {EQUIVOCATED: 50_000, WRONG_ROOT: 50_000, WRONG_RESULT: 10_000, OVERSTATED: 50_000}
"""Of the whole pool, in millionths: delegators chose their operator, and share what he does."""


class Offence(NamedTuple):
    """`operator` is whose pool is slashed; `evidence` the SHA-256 of the file, record or order that shows it."""

    operator: bytes
    reason: str
    evidence: bytes

    @property
    def id(self) -> str:
        """What it is announced by, once."""
        return f"slash/{self.reason}/{self.evidence.hex()}"

    @property
    def call(self) -> bytes:
        """What announces it to the vault."""
        reason = self.reason.encode().ljust(32, b"\0")
        arguments = self.operator, SHARES_PPM[self.reason], reason, self.evidence
        return call_data("announceSlash(address,uint32,bytes32,bytes32)", *arguments)


def take_call(number: int) -> bytes:
    """What takes slash number `number`, once it is due."""
    return call_data("takeSlash(uint256)", number)


def of_validators(statement: Statement, stated: Root, votes: Collection[Vote]) -> list[Offence]:
    """Validators who signed two roots of an epoch, or one that is not what its archive gives.

    What the archive gives is what a quorum of them found: the operator's word alone convicts nobody. A vote about
    another archive shows nothing here, for the operator may have shown two.
    """
    tally = count(votes, statement)
    found = [
        Offence(equivocator(first, second), EQUIVOCATED, hashlib.sha256(evidence(first, second)).digest())
        for first, second in tally.equivocations.values()
    ]
    if tally.decision is None or tally.decision.root != stated:
        return found
    counted = {signer for signers in tally.roots.values() for signer in signers}
    return found + [
        Offence(wrong_signer(vote, stated), WRONG_ROOT, hashlib.sha256(vote.encode()).digest())
        for vote in votes
        if vote.about != stated and vote.about.archive == stated.archive and _signer(vote) in counted
    ]


def of_nodes(records: Iterable[Filed], network: bytes, owners: Mapping[bytes, bytes]) -> list[Offence]:
    """Owners of nodes whose results a check found wrong: once a node and epoch, by the first record that says so."""
    found: dict[bytes, Offence] = {}
    for filed in records:
        body = filed.record.read(NodeShown)
        owner = owners.get(body.node)
        if filed.node == network and body.what == WRONG and owner and body.node not in found:
            found[body.node] = Offence(owner, WRONG_RESULT, hashlib.sha256(filed.raw).digest())
    return list(found.values())


def of_gateways(
    records: Iterable[Filed], net: str, network: bytes, limits_made: Mapping[str, LimitMade]
) -> list[Offence]:
    """Owners who stood for gateways that ordered more than they might: once a gateway and epoch.

    Such a record is good by the signatures in it alone. Filed once more, in whatever epoch, it is the same offence.
    """
    found: dict[bytes, Offence] = {}
    for filed in records:
        body = filed.record.read(GatewayOverstated)
        limit_made = limits_made.get(body.vertical)
        if filed.node != network or body.key in found or limit_made is None:
            continue
        try:
            check_vouch(body, net)
            made_ms = limit_made(net, network, body.key, body.limit, body.order)
        except FallowError:
            continue
        if body.from_ms <= made_ms < body.until_ms:
            found[body.key] = Offence(body.owner, OVERSTATED, hashlib.sha256(body.order).digest())
    return list(found.values())


def _signer(vote: Vote) -> bytes | None:
    try:
        return vote.signer
    except InvalidInput:
        return None
