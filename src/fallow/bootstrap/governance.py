"""What an operator and everybody else sees of who governs a network's contracts, and what a guardian does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from fallow.adapters.clock import SystemClock
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.contracts import operator_sender, the_contracts
from fallow.bootstrap.place import read_place
from fallow.bootstrap.wallet import Outside, open_chain
from fallow.domain.errors import Conflict, Unavailable
from fallow.domain.identity import address, address_text
from fallow.domain.sending import Done
from fallow.domain.transactions import call_data, selector
from fallow.domain.views.governance import ChangeView, GovernanceView, GovernedView, HolderView
from fallow.domain.views.network import ContractsView, NetworkView
from fallow.ports.chain import Chain, ContractRefused
from fallow.ports.clock import Clock
from fallow.ports.rpc import Empty
from fallow.services.sender.governance import PARAMETERS, Pending, parameters
from fallow.services.sender.holders import Holders
from fallow.services.sender.service import Sender
from fallow.services.sender.timelock import SETTERS, Scheduled, Timelock, change_call

WITHDRAW: Final = "withdraw(uint64)"
READ_EVERY_MS: Final = 300_000
HOLDERS_SHOWN: Final = 20

REFUSALS: Final = {
    selector("RootUnknown(uint64)"): "it has no root of this epoch",
    selector("RootActive(uint64)"): "a root that is active stays",
    selector("NotGuardian(address)"): "the guardian is somebody else",
}
"""What the distributor means by what it says to that."""

CHANGES: Final = {selector(one): one for names in SETTERS.values() for one in names.values()}
"""What owners of the contracts can do, so that a waiting call is shown by its name."""


class WaitingChange(msgspec.Struct, frozen=True):
    """A call that waits in the timelock: its id, from when it can happen, on which contract, and which it is."""

    id: str
    ready: str
    contract: str
    call: str
    data: str


class Governance(msgspec.Struct, frozen=True):
    """Parameters by contract and name, and what is about to change."""

    parameters: dict[str, dict[str, str]]
    pending: list[WaitingChange]


async def read_governance(network: NetworkView, tls: ssl.SSLContext | None, outside: Outside) -> Governance:
    """Read it from the chain. Raises what `open_chain` raises, or Unavailable."""
    async with open_chain(network, tls, outside) as (view, chain):
        found = await governance_of(chain, view, Pending(chain, address(view.timelock), view.block, 0))
    changes = [
        WaitingChange(
            id=one.id,
            ready=f"{datetime.fromtimestamp(one.ready_at / 1000, UTC):%Y-%m-%d %H:%M:%S}",
            contract=one.contract,
            call=one.call,
            data=one.data,
        )
        for one in found.pending
    ]
    return Governance(found.parameters, changes)


async def governance_of(chain: Chain, view: ContractsView, pending: Pending) -> GovernanceView:
    """Read it from the chain. Raises what `parameters` and `Pending.read` raise."""
    contracts = {name: address(getattr(view, name)) for name in PARAMETERS}
    names: dict[bytes, str] = {contract: name for name, contract in contracts.items()}
    return GovernanceView(
        parameters=await parameters(chain, contracts),
        pending=[
            ChangeView(
                id="0x" + one.id.hex(),
                ready_at=one.ready_at * 1000,
                contract=names.get(one.target) or address_text(one.target),
                call=CHANGES.get(one.data[:4], "0x" + one.data[:4].hex()),
                data="0x" + one.data.hex(),
            )
            for one in await pending.read()
        ],
    )


class Governed:
    """What operators and everybody else may know of it, while the chain's events are read on.

    For everybody it is read from the chain at most every five minutes, however many ask. While the chain does not
    answer, what was read before stays, and says of when it is.
    """

    def __init__(self, chain: Chain, contracts: ContractsView, depth: int, clock: Clock) -> None:
        self._chain = chain
        self._contracts = contracts
        self._clock = clock
        self._pending = Pending(chain, address(contracts.timelock), contracts.block, depth)
        self._holders = Holders(chain, address(contracts.token), contracts.block, depth)
        self._reading = asyncio.Lock()
        self._view: GovernedView | None = None
        self._again_ms = 0

    async def now(self, _: Empty) -> GovernanceView:
        """Read it anew, for operators. Raises what `governance_of` raises."""
        return await governance_of(self._chain, self._contracts, self._pending)

    async def view(self, asked: Empty) -> GovernedView:
        """Show it to everybody. Raises what `governance_of` raises where it was never read."""
        async with self._reading:
            if self._view is None or self._clock.monotonic_ms() >= self._again_ms:
                try:
                    self._view = await self._read(asked)
                except Unavailable:
                    if self._view is None:
                        raise
                self._again_ms = self._clock.monotonic_ms() + READ_EVERY_MS
            return self._view

    async def _read(self, asked: Empty) -> GovernedView:
        now = await self.now(asked)
        await self._holders.read()
        return GovernedView(
            parameters=now.parameters,
            pending=now.pending,
            at=self._clock.now_ms(),
            holders=[
                HolderView(account=address_text(account), amount=str(amount))
                for account, amount in self._holders.largest(HOLDERS_SHOWN)
            ],
            holders_total=self._holders.total,
        )


async def withdraw(data: Path, epoch: int) -> Done:
    """Take back the root of an epoch that is not active yet, as the contract's guardian.

    Raises:
        NotFound: the network has no chain, or no contracts on it.
        Conflict: there is no such root, it is active, or the guardian is somebody else.
    """
    place = await asyncio.to_thread(read_place, data)
    contracts = await asyncio.to_thread(the_contracts, data)
    distributor, where = address(contracts.distributor), chain_of(place)
    call = call_data(WITHDRAW, epoch)
    async with own_chain(place) as chain, operator_sender(data, where, chain, SystemClock()) as sender:
        try:
            await chain.estimate(address(contracts.operator), distributor, call)
        except ContractRefused as error:
            why = REFUSALS.get(error.data[:4], f"0x{error.data.hex()}")
            raise Conflict("root.refused", f"The contract refuses: {why}.") from error
        # A root of the same epoch can come again and be withdrawn again: each time is another thing to be done.
        revision = int.from_bytes(await chain.call(distributor, call_data("revision()")))
        return await sender.send_anew(f"withdraw-root/{epoch}/{revision}", distributor, call)


@asynccontextmanager
async def _timelock(data: Path) -> AsyncIterator[tuple[Timelock, Sender]]:
    """Speak to the timelock with the operator's key.

    Raises:
        NotFound: the network has no chain, or no contracts on it.
        Conflict: another process sends with the operator's key just now.
    """
    place = await asyncio.to_thread(read_place, data)
    view = await asyncio.to_thread(the_contracts, data)
    contracts = {name: address(getattr(view, name)) for name in PARAMETERS}
    async with own_chain(place) as chain, operator_sender(data, chain_of(place), chain, SystemClock()) as sender:
        yield Timelock(chain, contracts, view.block), sender


async def schedule(data: Path, id_: str, contract: str, name: str, values: Sequence[str]) -> Scheduled:
    """Announce a change of a contract's parameter. Raises as `_timelock`, `change_call`, `Timelock.schedule`."""
    call = change_call(contract, name, values)
    async with _timelock(data) as (timelock, sender):
        return await timelock.schedule(sender, id_, contract, call)


async def execute(data: Path, beginning: str) -> bytes:
    """Carry out a change that was announced. Raises as `_timelock` and `Timelock.execute`."""
    async with _timelock(data) as (timelock, sender):
        return await timelock.execute(sender, beginning)


async def cancel(data: Path, beginning: str) -> bytes:
    """Give up a change that was announced. Raises as `_timelock` and `Timelock.cancel`."""
    async with _timelock(data) as (timelock, sender):
        return await timelock.cancel(sender, beginning)
