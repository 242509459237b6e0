"""Who can change what about a network's contracts, and what is about to change, as the chain shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    ready_at: int
    value: int = 0
    predecessor: bytes = NONE
    salt: bytes = NONE


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
    """Calls that were scheduled and neither carried out nor cancelled, in the order of the scheduling.

    Raises:
        Unavailable: the chain does not answer.
    """
    waiting: dict[tuple[bytes, int], Change] = {}
    head = await chain.head()
    for first in range(first_block, head + 1, BLOCKS_MAX):
        last = min(head, first + BLOCKS_MAX - 1)
        for event in await chain.events([timelock], [SCHEDULED, SALTED, EXECUTED, CANCELLED], first, last):
            await _take(chain, timelock, waiting, event)
    return list(waiting.values())


async def _take(chain: Chain, timelock: bytes, waiting: dict[tuple[bytes, int], Change], event: Event) -> None:
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
    # The event tells the delay only; the contract knows when it is over.
    (ready_at,) = answer_of("(uint256)", await chain.call(timelock, call_data("getTimestamp(bytes32)", id_)))
    waiting[key] = Change(id_, bytes.fromhex(target[2:]), data, ready_at, value, predecessor)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return address_text(bytes.fromhex(value[2:])) if isinstance(value, str) else str(value)
