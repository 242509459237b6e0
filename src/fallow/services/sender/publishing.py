"""Brings the roots of closed epochs to the chain, as soon as a quorum of validators has signed them.

Which roots are there the contract knows, whose votes there are the archive, and what was sent the sender's log. So a
start after any crash goes on where the last one was, and what others have handed in is done, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import NamedTuple

import msgspec

from fallow.domain.epochs.ballots import count, vote_name
from fallow.domain.epochs.distributor import refusal, submit_call
from fallow.domain.epochs.judging import domain_of, root_of
from fallow.domain.epochs.manifest import STATEMENT, path_of
from fallow.domain.epochs.quorum import Decision, Root, Vote, quorum_of
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, NotFound
from fallow.domain.views.votes import RootView
from fallow.ports.archive import Archive, whole
from fallow.ports.chain import ContractRefused
from fallow.ports.clock import Clock
from fallow.ports.signer import Signer
from fallow.ports.votes import PUBLISHED, votes_of
from fallow.services.sender.distributor import Distributor
from fallow.services.sender.looking import looking
from fallow.services.sender.service import Sender

LOOK_S = 2.0
EPOCHS_MAX = 100
"""Of one look, the latest ones: what those before them owe is in their sums."""

_log = logging.getLogger(__name__)


class Signed(NamedTuple):
    """A closed epoch's root, and what the votes about it come to.

    That is no decision, and why (`code`, `why`), where it is not one; `void`, where it never will be.
    """

    root: Root
    decision: Decision | None
    code: str = ""
    why: str = ""
    void: bool = False


class Publisher:
    """Sends each root once, in the order of epochs.

    `signer` is the operator's: where the contract lists it among the validators, it signs what the network states.
    """

    def __init__(
        self,
        *,
        network_key: bytes,
        archive: Archive,
        distributor: Distributor,
        sender: Callable[[], AbstractAsyncContextManager[Sender]],
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._network_key = network_key
        self._archive = archive
        self._distributor = distributor
        self._sender = sender
        self._signer = signer
        self._clock = clock
        self._noted = 0
        self._latest = -1
        self._void: set[int] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send roots while the context is open."""
        async with looking("chain.roots", self.look, self._clock, every_s=LOOK_S, not_done="no root is sent"):
            yield

    async def look(self) -> int:
        """Send what can be sent now; returns how many roots.

        An epoch without a quorum holds up no later one: what it owes is in their sums, too. Votes are read from the
        latest epoch back, since whoever has voted on one has voted on those before it.

        Raises:
            Unavailable: the chain or the archive is away.
            Conflict: another process sends with the operator's key just now.
            InvalidInput: the node takes nothing from this key, for want of coin for instance.
        """
        sent = await self._distributor.last_epoch()
        if sent != self._noted:
            await self._note(sent)
        closed = await asyncio.to_thread(self._closed_after, sent)
        revision = await self._distributor.revision() if closed else 0
        signed = [await self._signed(epoch, revision) for epoch in reversed(closed)]
        for each in signed:
            if each.decision is None:
                await self._say(each.root.epoch, RootView(root="", code=each.code, why=each.why))
            if each.void:
                self._void.add(each.root.epoch)
        decided = [each.decision for each in reversed(signed) if each.decision is not None]
        return sum([await self._submit(each) for each in decided])

    async def _signed(self, epoch: int, revision: int) -> Signed:
        statement, root = await asyncio.to_thread(self._stated, epoch)
        if domain_of(statement) != self._distributor.domain:
            why = "It was closed for no contract, or for another one."
            return Signed(root, None, "root.other_contract", why, void=True)
        if statement.revision != revision:
            why = "Roots were withdrawn: its signatures are void. The next epoch has all it owes."
            return Signed(root, None, "root.withdrawn", why, void=statement.revision < revision)
        if self._signer.address in statement.validators:
            await self._vote(root)
        tally = count(await asyncio.to_thread(votes_of, self._archive, statement), statement)
        if tally.decision is not None and tally.decision.root == root:
            return Signed(root, tally.decision)
        signed, listed = len(tally.roots.get(root, ())), len(statement.validators)
        why = f"{signed} of {listed} validators have signed it; {quorum_of(listed)} must."
        return Signed(root, None, "root.votes", why)

    async def _vote(self, root: Root) -> None:
        """Sign, as one validator among those of the contract. What was stated never changes, so this is done once."""
        name = path_of(root.epoch, vote_name(self._signer.address))
        if not await asyncio.to_thread(self._has, name):
            domain = self._distributor.domain
            vote = Vote.signed(domain, root, await self._signer.sign(root.digest(domain)))
            await asyncio.to_thread(self._archive.create, name, vote.encode())

    async def _submit(self, decision: Decision) -> bool:
        """Send one root; whether it is there. Where somebody else was faster it is all the same."""
        root, contract = decision.root, self._distributor.domain.contract
        try:
            async with self._sender() as sender:
                await sender.send_anew(_id(root), contract, submit_call(decision))
        except ContractRefused as error:
            there = await self._distributor.root(root.epoch)
            if there is None or there.root != root.root:
                why = f"The contract refuses it: {refusal(error.data)}. It is tried again."
                await self._say(root.epoch, RootView(root="", code="root.refused", why=why))
                return False
        except FallowError as error:
            await self._say(root.epoch, RootView(root="", code=error.code, why=error.message))
            raise
        await self._note(root.epoch)
        return True

    async def _note(self, epoch: int) -> None:
        """Say that a root is there, and by which transaction unless somebody else has sent it."""
        there = await self._distributor.root(epoch)
        if there is not None:
            _, root = await asyncio.to_thread(self._stated, epoch)
            async with self._sender() as sender:
                done = await sender.finish(_id(root))
            said = RootView(
                root=f"0x{there.root.hex()}",
                active_at=there.activates_at * 1000,
                transaction=f"0x{done.transaction.hex()}" if done else "",
            )
            await self._say(epoch, said)
        self._noted = epoch

    async def _say(self, epoch: int, said: RootView) -> None:
        """Put it beside the epoch's files, and into the log, where it is new."""
        if await asyncio.to_thread(self._put, path_of(epoch, PUBLISHED), msgspec.json.encode(said)):
            what = f"is on the chain, by {said.transaction or 'somebody else'}" if said.root else f"waits: {said.why}"
            _log.info("the root of epoch %d %s", epoch, what)

    def _put(self, name: str, data: bytes) -> bool:
        with suppress(NotFound):
            if whole(self._archive, name, len(data)) == data:
                return False
        self._archive.put(name, data)
        return True

    def _stated(self, epoch: int) -> tuple[Statement, Root]:
        sealed = whole(self._archive, path_of(epoch, STATEMENT), STATEMENT_BYTES_MAX)
        statement = Statement.open(sealed, self._network_key)
        return statement, root_of(statement, sealed)

    def _closed_after(self, epoch: int) -> list[int]:
        """The latest closed epochs after one, in order, without those that are void: their numbers leave none out."""
        first = epoch + 1 if epoch else self._first()
        self._latest = max(self._latest, first - 1)
        while self._has(path_of(self._latest + 1, STATEMENT)):
            self._latest += 1
        found = range(max(first, self._latest - EPOCHS_MAX + 1), self._latest + 1)
        return [number for number in found if number not in self._void]

    def _first(self) -> int:
        return min((int(name) for name in self._archive.folders("epochs/") if name.isdecimal()), default=0)

    def _has(self, name: str) -> bool:
        try:
            self._archive.size(name)
        except NotFound:
            return False
        return True


def _id(root: Root) -> str:
    """What the sender knows a root by."""
    return f"root/{root.epoch}/{root.revision}"
