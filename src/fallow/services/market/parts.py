"""What validators add to the seeds of checks: taken in and shown. See `fallow.domain.epochs.seeds` for when."""

from __future__ import annotations

from collections.abc import Collection

from fallow.domain.epochs.quorum import VALIDATORS_MAX
from fallow.domain.epochs.seeds import Pledge, commitment_of
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound
from fallow.domain.identity import address_text
from fallow.domain.views.checks import SeedPartsView, SeedPartView
from fallow.ports.checks import CheckStore, PartRow
from fallow.ports.database import Transaction


class SeedParts:
    """Takes pledges and parts from those who validate, each as long as its time is."""

    def __init__(self, *, net: str, validators: Collection[bytes], store: CheckStore) -> None:
        self._net = net
        self._validators = validators
        self._store = store

    async def pledge(self, tx: Transaction, data: bytes) -> SeedPartsView:
        """Keep a pledge. The same again changes nothing.

        Raises:
            InvalidInput: it is malformed, not signed, or of another network.
            NotAllowed: it is by nobody who validates here (`seed.not_listed`).
            Conflict: it is not time for it (`seed.not_now`), its validator pledged another part
                (`seed.pledged_twice`), or as many have pledged as a record has room for (`seed.enough`).
        """
        pledge = Pledge.decode(data)
        signer = pledge.signer
        if pledge.net != self._net:
            raise InvalidInput("seed.pledge", f"The pledge is for network {pledge.net!r}, not for {self._net!r}.")
        if signer not in self._validators:
            raise NotAllowed("seed.not_listed", f"{address_text(signer)} does not validate here.")
        # The seed before the pledged one is committed to and not open: that of the pledged one comes when it opens.
        await self._not_open(tx, pledge.number - 1)
        found = await self._of(tx, pledge.number, signer)
        if found is None:
            if len(await self._store.parts(tx, pledge.number)) >= VALIDATORS_MAX:  # others were listed before
                raise Conflict("seed.enough", f"{VALIDATORS_MAX} validators pledged a part of seed {pledge.number}.")
            await self._store.put_part(tx, PartRow(pledge.number, signer, data, None))
        elif Pledge.decode(found.pledge).commitment != pledge.commitment:
            raise Conflict(
                "seed.pledged_twice", f"{address_text(signer)} pledged another part of seed {pledge.number}."
            )
        return await self.shown(tx, pledge.number)

    async def show(self, tx: Transaction, number: int, validator: bytes, part: bytes) -> SeedPartsView:
        """Keep a part that was pledged. Anybody may bring it: it fits one pledge and no other.

        Raises:
            NotFound: nothing was pledged (`seed.not_pledged`).
            InvalidInput: it does not fit the pledge (`seed.part`).
            Conflict: it is not time for it (`seed.not_now`).
        """
        await self._not_open(tx, number)
        found = await self._of(tx, number, validator)
        if found is None:
            raise NotFound("seed.not_pledged", f"{address_text(validator)} pledged no part of seed {number}.")
        if commitment_of(self._net, number, validator, part) != Pledge.decode(found.pledge).commitment:
            raise InvalidInput("seed.part", "The part is not the one that was pledged.")
        await self._store.put_part(tx, found._replace(part=part))
        return await self.shown(tx, number)

    async def shown(self, tx: Transaction, number: int) -> SeedPartsView:
        """Show who adds to a seed, and what of it is known."""
        return SeedPartsView(number=number, parts=[_view(row) for row in await self._store.parts(tx, number)])

    async def _not_open(self, tx: Transaction, number: int) -> None:
        row = await self._store.lock_seed(tx, number)
        if row is None or row.opened_at is not None:
            raise Conflict("seed.not_now", "It is not, or no longer, time for that.", "See when: fallow checks ls")

    async def _of(self, tx: Transaction, number: int, validator: bytes) -> PartRow | None:
        return next((row for row in await self._store.parts(tx, number) if row.validator == validator), None)


def _view(row: PartRow) -> SeedPartView:
    part = None if row.part is None else row.part.hex()
    return SeedPartView(validator=address_text(row.validator), pledge=row.pledge.hex(), part=part)
