"""Who can change what about a network's contracts, and what is about to change, as the chain shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.identity import address_text
from fallow.domain.transactions import answer_of, call_data, topic
from fallow.ports.chain import Chain, Event

BLOCKS_MAX: Final = 2_000
"""Of one request; public nodes answer no more."""

SCHEDULED: Final = topic("CallScheduled(bytes32,uint256,address,uint256,bytes,bytes32,uint256)")
SALTED: Final = topic("CallSalt(bytes32,bytes32)")
EXECUTED: Final = topic("CallExecuted(bytes32,uint256,address,uint256,bytes)")
CANCELLED: Final = topic("Cancelled(bytes32)")

NONE: Final = bytes(32)
CARRIED_OUT: Final = 1
"""What the timelock says in place of a time once a call was carried out."""

PARAMETERS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "distributor": [
        ("owner", "address"),
        ("guardian", "address"),
        ("activationDelay", "uint256"),
        ("epochMintMax", "uint256"),
        ("lastEpoch", "uint256"),
        ("revision", "uint256"),
        ("deposited", "uint256"),
        ("settlementPaid", "uint256"),
    ],
    "token": [
        ("owner", "address"),
        ("minter", "address"),
        ("mintedMax", "uint256"),
        ("mintedTotal", "uint256"),
        ("burnedTotal", "uint256"),
        ("totalSupply", "uint256"),
    ],
    "validators": [("owner", "address"), ("quorum", "uint256"), ("list", "address[]")],
    "vault": [
        ("owner", "address"),
        ("guardian", "address"),
        ("slasher", "address"),
        ("unbondingDelay", "uint256"),
        ("appealDelay", "uint256"),
    ],
    "timelock": [("getMinDelay", "uint256")],
}
"""What is asked of each contract, and of which type the answer is."""


class Change(NamedTuple):
    """A call that the timelock lets happen from `ready_at` on (seconds since 1970), after that of `predecessor`."""

    id: bytes
    target: bytes
    data: bytes
    ready_at: int = 0
    value: int = 0
    predecessor: bytes = NONE
    salt: bytes = NONE


_Waiting = dict[tuple[bytes, int], Change]
"""By the change's id and the call's place in it."""


async def parameters(chain: Chain, contracts: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """All that can be asked, as text, by contract and name.

    Raises:
        ContractRefused: it is none of these contracts.
        Unavailable: the chain does not answer.
    """
    found: dict[str, dict[str, str]] = {}
    for contract, asked in PARAMETERS.items():
        answers = [await chain.call(contracts[contract], call_data(f"{name}()")) for name, _ in asked]
        found[contract] = {
            name: _text(answer_of(f"({kind})", answer)[0]) for (name, kind), answer in zip(asked, answers, strict=True)
        }
    return found


async def pending(chain: Chain, timelock: bytes, first_block: int) -> list[Change]:
    """What waits in a timelock that is looked at once. Raises as `Pending.read`."""
    return await Pending(chain, timelock, first_block, 0).read()


class Pending:
    """Calls that wait in a timelock, read on from where they were read to. `depth` blocks are final."""

    def __init__(self, chain: Chain, timelock: bytes, first_block: int, depth: int) -> None:
        self._chain = chain
        self._timelock = timelock
        self._next = first_block
        self._depth = depth
        self._waiting: _Waiting = {}
        self._reading = asyncio.Lock()

    async def read(self) -> list[Change]:
        """Calls that were scheduled and neither carried out nor cancelled by now, in the order of the scheduling.

        Raises:
            Unavailable: the chain does not answer; what was read of what is final is kept.
        """
        async with self._reading:
            head = await self._chain.head()
            async for last, events in self._events(head - self._depth):
                _take(self._waiting, events)
                self._next = last + 1
            waiting = dict(self._waiting)
            async for _, events in self._events(head):
                _take(waiting, events)
        return [change._replace(ready_at=await self._ready_at(change.id)) for change in waiting.values()]

    async def _events(self, until: int) -> AsyncIterator[tuple[int, list[Event]]]:
        """What happened from the next block on, in portions, each with its last block."""
        kinds = [SCHEDULED, SALTED, EXECUTED, CANCELLED]
        for first in range(self._next, until + 1, BLOCKS_MAX):
            last = min(until, first + BLOCKS_MAX - 1)
            yield last, await self._chain.events([self._timelock], kinds, first, last)

    async def _ready_at(self, change: bytes) -> int:
        """Events tell the delay only; the contract knows when it is over."""
        asked = call_data("getTimestamp(bytes32)", change)
        (ready_at,) = answer_of("(uint256)", await self._chain.call(self._timelock, asked))
        return int(ready_at)


def _take(waiting: _Waiting, events: Sequence[Event]) -> None:
    for event in events:
        _follow(waiting, event)


def _follow(waiting: _Waiting, event: Event) -> None:
    kind, id_ = event.topics[0], event.topics[1]
    if kind == CANCELLED:
        for key in [key for key in waiting if key[0] == id_]:
            del waiting[key]
        return
    if kind == SALTED:
        for key in [key for key in waiting if key[0] == id_]:
            waiting[key] = waiting[key]._replace(salt=event.data)
        return
    key = id_, int.from_bytes(event.topics[2])
    if kind == EXECUTED:
        waiting.pop(key, None)
        return
    target, value, data, predecessor, _ = answer_of("(address,uint256,bytes,bytes32,uint256)", event.data)
    waiting[key] = Change(id_, bytes.fromhex(target[2:]), data, value=value, predecessor=predecessor)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return address_text(bytes.fromhex(value[2:])) if isinstance(value, str) else str(value)
