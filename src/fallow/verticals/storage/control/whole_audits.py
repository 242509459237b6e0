"""Audits of whole pieces: what a node gave, or did not, when it was read from, held against what its client claimed.

Repairs and exits read pieces anyway, and readers say which of theirs were altered. What that shows of a node is booked
like an answer to an auditor, by `Verdicts` alone; what shows nothing, an auditor asks for. That the code of a segment
finds a piece altered is not enough: a client may have brought pieces that do not fit, and claimed them so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError, InvalidInput
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.vertical.control import Ask, ControlGround
from fallow.verticals.storage.control.audits import live
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.lost_pieces import lose
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.questioning import ANSWER_BYTES_MAX, SHOWN, Contained, Result, printable
from fallow.verticals.storage.control.recovering import recovering_in
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.control.verdicts import Also, Verdicts
from fallow.verticals.storage.control.whole_pieces import hash_of
from fallow.verticals.storage.core.auditing import claim_by
from fallow.verticals.storage.core.questions import Evidence, ShowClaim

OTHER_PIECE: Final = "storage.other_piece"
SHOWN_OF_WHOLE: Final = SHOWN | {OTHER_PIECE, "storage.range"}
"""What shows that a node cannot give a piece; `storage.range`: its own is shorter."""
_SEALED: Final = msgspec.msgpack.Decoder(bytes)


class OtherPiece(InvalidInput):
    """What came has another BLAKE3 than the one in the sealed `claim` that the node shows, if that is one."""

    def __init__(self, hashed: bytes, claim: bytes) -> None:
        super().__init__(OTHER_PIECE, "The piece is not what its client claimed to have brought.")
        self.hashed = hashed
        self.claim = claim


Given = memoryview | FallowError
"""What came in place of a piece."""


class WholeAudits:
    """Judges and books them."""

    def __init__(self, ground: ControlGround, nodes: Nodes) -> None:
        self._net = ground.net
        self._clock: Clock = ground.clock
        self._database: Database = ground.database
        self._ask: Ask = ground.ask
        self._secrets = Secrets(ground.secret)
        self._nodes = nodes
        self._verdicts = Verdicts(ground.clock, ground.database, nodes, ground.decisions)

    async def book(
        self,
        segment: Damaged,
        lenders: Mapping[int, Lender],
        when: str,
        *,
        given: Mapping[int, Given],
        sound: Collection[int] = (),
    ) -> frozenset[int]:
        """Book what pieces of a segment show of their nodes, by the pieces' numbers; `when` says when they were read.

        `sound` are those that others show to be right. Returns those that count as lost from now on: while enough
        others are left. Nothing counts of what audits do not ask for either.
        """
        async with self._database.transaction() as tx:
            (row,) = (await live(tx, [segment.id])).values() or (None,)
            recovering = await recovering_in(tx)
        if row is None:
            return frozenset()
        fair = {
            number: lenders[alias]
            for number, alias in enumerate(row["nodes"])
            if alias in lenders and alias == segment.nodes[number] and alias not in recovering
        }
        results = [Result(fair[number], "success", segment.id) for number in sound if number in fair]
        failed: list[int] = []
        for number in given.keys() & fair.keys():
            signers = [*row["signers"], self._secrets.repairs(number)]
            result = await self._judged(segment, fair[number], when, signers, given[number])
            results.append(result)
            if result.outcome == "failed":
                failed.append(number)
        return await self._book(segment, results, failed)

    async def fail(self, segment: bytes, lender: Lender, when: str, error: FallowError, also: Also) -> None:
        """Book that a node did not give its piece, and do `also` in the same transaction."""
        await self._verdicts.book([self._failure(segment, lender, when, error)], also)

    async def check(self, segment: bytes, lender: Lender, signers: Sequence[bytes], piece: memoryview) -> None:
        """Hold a piece against what its client claimed.

        Raises:
            OtherPiece: it is something else.
            FallowError: the node does not say what was claimed.
        """
        id_ = self._secrets.piece(segment, lender.node)
        answer = await self._ask(lender.node, msgspec.msgpack.encode(ShowClaim(id_)))
        try:
            sealed = _SEALED.decode(answer)
        except UNREADABLE:
            sealed = answer
        claim = claim_by(signers, sealed)
        hashed = await asyncio.to_thread(hash_of, piece)
        if claim is None or (claim.net, claim.piece, claim.length, claim.hash) != (self._net, id_, len(piece), hashed):
            raise OtherPiece(hashed, sealed)

    async def _judged(
        self, segment: Damaged, lender: Lender, when: str, signers: Sequence[bytes], given: Given
    ) -> Result:
        try:
            if isinstance(given, FallowError):
                raise given
            await self.check(segment.id, lender, signers, given)
        except FallowError as error:
            if error.code in SHOWN_OF_WHOLE:
                return self._failure(segment.id, lender, when, error)
            return Result(lender, None, segment.id, contained=await self._asked(segment.id, lender, given))
        return Result(lender, "success", segment.id)

    async def _asked(self, segment: bytes, lender: Lender, given: Given) -> Contained | None:
        """What an auditor asks of a node that is there: who gave a piece answers for that one, too."""
        if not self._nodes.is_online(lender):
            return None
        hashed = b"" if isinstance(given, FallowError) else await asyncio.to_thread(hash_of, given)
        return Contained(segment, -1, 0, hashed)

    def _failure(self, segment: bytes, lender: Lender, when: str, error: FallowError) -> Result:
        found, answer = (
            f"failed: not given {when} ({error.code})",
            f"{error.code}: {error.message}".encode(errors="replace"),
        )
        if isinstance(error, OtherPiece):
            found, answer = f"{found}: it has the BLAKE3 {error.hashed.hex()}", error.claim
        evidence = Evidence(
            piece=self._secrets.piece(segment, lender.node),
            chunk=0,
            asked_ms=self._clock.now_ms(),
            took_ms=0,
            found=printable(found),
            answer=answer[:ANSWER_BYTES_MAX],
        )
        return Result(lender, "failed", segment, code="storage.audit_failed", evidence=evidence)

    async def _book(self, segment: Damaged, results: Sequence[Result], failed: Sequence[int]) -> frozenset[int]:
        lost: set[int] = set()

        async def lose_all(tx: Transaction) -> None:
            now_ms = self._clock.now_ms()
            for number in failed:
                if await lose(tx, segment.nodes[number], [segment.id], now_ms, others_min=segment.code.needed):
                    lost.add(number)

        await self._verdicts.book(results, lose_all)
        return frozenset(lost)
