"""The seeds that checks are drawn from: committed to an epoch ahead, shown when their epoch is over, as a record."""

from __future__ import annotations

from collections.abc import Collection

from fallow.domain.canaries import Known
from fallow.domain.decisions import Decision
from fallow.domain.draws import Commitment, Draw, Seed, seed_of
from fallow.domain.epochs.seeds import joint_of
from fallow.domain.errors import NotFound
from fallow.domain.network_facts import SeedDrawn
from fallow.domain.reruns import Rerun
from fallow.domain.signing import Sign
from fallow.domain.views.checks import DrawView, SeedView
from fallow.ports.checks import CheckStore, SeedRow
from fallow.ports.database import Transaction
from fallow.ports.decisions import DecisionStore
from fallow.services.market.changes import Changes
from fallow.services.market.parts import SeedParts

SEEDS_SHOWN = 400
RERUNS_LOADED = 10_000


class Seeds:
    """Opens and closes epochs of draws, and shows what may be shown.

    An epoch of draws ends when the calendar's epoch does, and never begins again: where the clock is set back, the
    open one stays open, for the seeds before it are known to everybody.

    Where `validators` (addresses) add parts, what is drawn from is made of theirs and of the operator's own.
    """

    def __init__(
        self,
        *,
        net: str,
        secret: bytes,
        sign: Sign,
        epoch_ms: int,
        store: CheckStore,
        decisions: DecisionStore,
        validators: Collection[bytes] = (),
    ) -> None:
        self._net = net
        self._secret = secret
        self._sign = sign
        self._epoch_ms = epoch_ms
        self._store = store
        self._decisions = decisions
        self.parts = SeedParts(net=net, validators=validators, store=store)

    async def current(self, tx: Transaction, now: int) -> Seed:
        """Return the open epoch's seed; the first call after an epoch's end closes it and opens the next."""
        rows = await self._store.seeds(tx, 2)
        opened = next((row for row in rows if row.opened_at is not None), None)
        if opened is None:
            await self._commit(tx, 1)
            return await self._open(tx, 1, now)
        if now // self._epoch_ms <= (opened.opened_at or 0) // self._epoch_ms:
            return await self._joint(tx, opened.number)
        await self._store.put_seed(tx, opened._replace(closed_at=now))
        await self._decisions.add(tx, [Decision(now, await self._drawn(tx, opened))])
        return await self._open(tx, opened.number + 1, now)

    async def known(self, tx: Transaction) -> list[Known]:
        """Items whose results are known, as they were kept."""
        return await self._store.known(tx)

    async def reruns(self, tx: Transaction, limit: int = RERUNS_LOADED) -> list[Rerun]:
        """The latest of what re-runs have shown, the oldest first."""
        return (await self._store.reruns(tx, limit))[::-1]

    async def keep(self, tx: Transaction, changes: Changes) -> None:
        """Write down what was drawn, what canaries can be made of, and what re-runs have shown."""
        await self._store.add(tx, changes.draws)
        await self._store.put_known(tx, changes.known)
        await self._store.add_reruns(tx, changes.reruns)

    async def shown(self, tx: Transaction) -> list[SeedView]:
        """All commitments, the latest first, with the seeds of epochs that are over."""
        return [self._view(row) for row in await self._store.seeds(tx, SEEDS_SHOWN)]

    async def draws(self, tx: Transaction, number: int, after: tuple[bytes, str], limit: int) -> list[DrawView]:
        """Draws of an epoch that is over.

        Raises:
            NotFound: there is no such epoch, or it is not over: its draws would tell who is checked.
        """
        row = await self._store.seed(tx, number)
        if row is None or row.closed_at is None:
            raise NotFound(
                "checks.not_closed", f"No epoch of draws {number} is over.", "See which are: fallow checks ls"
            )
        return [draw_view(draw) for draw in await self._store.draws(tx, number, after, limit)]

    async def _open(self, tx: Transaction, number: int, now: int) -> Seed:
        row = await self._store.seed(tx, number)
        if row is None:
            raise LookupError(f"seed {number} was never committed to")
        await self._store.put_seed(tx, row._replace(opened_at=now))
        await self._commit(tx, number + 1)
        return await self._joint(tx, number)

    async def _joint(self, tx: Transaction, number: int) -> Seed:
        """What is drawn from. It is fixed by now: no part is taken any more once its epoch is open."""
        added = [(row.pledge, row.part) for row in await self._store.parts(tx, number)]
        return Seed(number, joint_of(seed_of(self._secret, number), self._net, added).value)

    async def _drawn(self, tx: Transaction, row: SeedRow) -> SeedDrawn:
        parts = await self._store.parts(tx, row.number)
        return SeedDrawn(
            number=row.number,
            commitment=row.commitment,
            value=seed_of(self._secret, row.number).value,
            pledges=[one.pledge for one in parts],
            parts=[one.part or b"" for one in parts],
        )

    async def _commit(self, tx: Transaction, number: int) -> None:
        commitment = Commitment(net=self._net, number=number, commitment=seed_of(self._secret, number).commitment).seal(
            self._sign
        )
        await self._store.put_seed(tx, SeedRow(number, commitment, None, None))

    def _view(self, row: SeedRow) -> SeedView:
        return SeedView(
            number=row.number,
            commitment=row.commitment.hex(),
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            seed=seed_of(self._secret, row.number).value.hex() if row.closed_at is not None else None,
        )


def draw_view(draw: Draw) -> DrawView:
    """Show a draw."""
    return DrawView(
        number=draw.number,
        lease=draw.lease.hex(),
        purpose=draw.purpose.value,
        node=draw.node.hex(),
        at=draw.at,
        one_in=draw.one_in,
        hit=draw.hit,
    )
