"""Changes to the contracts, announced through the timelock and carried out when their time has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from eth_abi.exceptions import EncodingError

from fallow.domain.errors import Conflict, InvalidInput, NotFound
from fallow.domain.identity import address
from fallow.domain.transactions import answer_of, arguments_of, call_data, selector, types_of
from fallow.domain.wallets import keccak
from fallow.ports.chain import Chain, ContractRefused
from fallow.services.sender.governance import CARRIED_OUT, NONE, Change, pending
from fallow.services.sender.service import Sender

SETTERS: Final[Mapping[str, Mapping[str, str]]] = {
    "distributor": {
        "owner": "transferOwnership(address)",
        "guardian": "setGuardian(address)",
        "activationDelay": "setActivationDelay(uint40)",
        "epochMintMax": "setEpochMintMax(uint96)",
    },
    "token": {"owner": "transferOwnership(address)", "minter": "setMinter(address)"},
    "validators": {"owner": "transferOwnership(address)", "list": "set(address[])"},
    "vault": {
        "owner": "transferOwnership(address)",
        "guardian": "setGuardian(address)",
        "slasher": "setSlasher(address)",
        "delays": "setDelays(uint64,uint64)",
    },
    "timelock": {"getMinDelay": "updateDelay(uint256)"},
}
"""What the timelock can change, by contract and by the name that `governance.PARAMETERS` shows it under."""

SCHEDULE: Final = "schedule(address,uint256,bytes,bytes32,bytes32,uint256)"
EXECUTE: Final = "execute(address,uint256,bytes,bytes32,bytes32)"
CANCEL: Final = "cancel(bytes32)"
_OPERATION: Final = "(address,uint256,bytes,bytes32,bytes32)"

_WORDS: Final = {
    selector("TimelockUnexpectedOperationState(bytes32,bytes32)"): "it is not time for that, or it is done already",
    selector("TimelockUnexecutedPredecessor(bytes32)"): "another change has to be carried out before",
    selector("AccessControlUnauthorizedAccount(address,bytes32)"): "the operator has no say in this timelock",
    selector("OwnableUnauthorizedAccount(address)"): "the timelock does not own this contract",
    selector("UnbondingShorterThanAppeal(uint64,uint64)"): "unbonding may not be shorter than the time for an appeal",
}


class Scheduled(NamedTuple):
    """A change that waits in the timelock; `ready_at` is in seconds since 1970."""

    id: bytes
    ready_at: int
    transaction: bytes


def change_call(contract: str, name: str, values: Sequence[str]) -> bytes:
    """Read a change as it is typed: numbers in the contract's own units, as it shows them, and addresses.

    Raises:
        InvalidInput: nobody can change that, or these are no such values.
    """
    setter = SETTERS.get(contract, {}).get(name)
    if setter is None:
        known = ", ".join(f"{each} {one}" for each, names in SETTERS.items() for one in names)
        raise InvalidInput("timelock.what", f"Nobody can change {name} of {contract}.", f"These can change: {known}.")
    kinds = types_of(setter)
    try:
        if kinds == ["address[]"]:
            return call_data(setter, [address(value.lower()) for value in values])
        return call_data(setter, *(_value(kind, value) for kind, value in zip(kinds, values, strict=True)))
    except (ValueError, EncodingError) as error:
        wanted = " ".join(kinds)
        raise InvalidInput("timelock.value", f"{name} of {contract} takes {wanted}, in whole numbers.") from error


class Timelock:
    """The timelock of a network's `contracts`, which are known by name, and began after block `first_block`."""

    def __init__(self, chain: Chain, contracts: Mapping[str, bytes], first_block: int) -> None:
        self._chain = chain
        self._contracts = contracts
        self._first_block = first_block

    async def schedule(self, sender: Sender, id_: str, contract: str, data: bytes) -> Scheduled:
        """Announce a change; the same `id_` is one change, once.

        Raises:
            Conflict: the contract would refuse it now, the operator may not, or the id is another change's, or one's
                that was carried out.
            Unavailable: the chain does not answer.
        """
        timelock, target = self._contracts["timelock"], self._contracts[contract]
        operation = target, 0, data, NONE, keccak(id_.encode())
        (delay_s,) = answer_of("(uint256)", await self._chain.call(timelock, call_data("getMinDelay()")))
        with _refused():
            await self._chain.estimate(timelock, target, data)
            call = call_data(SCHEDULE, *operation, delay_s)
            done = await sender.send_anew(f"timelock/{id_}", timelock, call)
        change = keccak(arguments_of(_OPERATION, *operation))
        asked = call_data("getTimestamp(bytes32)", change)
        (ready_at,) = answer_of("(uint256)", await self._chain.call(timelock, asked))
        if not ready_at:
            raise Conflict("timelock.id", "This id was used for another change, or for one that was given up.")
        if ready_at == CARRIED_OUT:
            raise Conflict("timelock.done", "This change was announced before, and is carried out.")
        return Scheduled(change, ready_at, done.transaction)

    async def execute(self, sender: Sender, beginning: str) -> bytes:
        """Carry out a change whose time has come; returns the transaction.

        Raises:
            NotFound: none whose id begins so waits.
            Conflict: several do, it is not time, or the contract refuses.
            Unavailable: the chain does not answer.
        """
        change, *more = await self._waiting(beginning)
        operation = change.target, change.value, change.data, change.predecessor, change.salt
        if more or keccak(arguments_of(_OPERATION, *operation)) != change.id:
            raise Conflict("timelock.batch", "This change is one of several that are carried out together.")
        return await self._send(sender, f"timelock/execute/{change.id.hex()}", call_data(EXECUTE, *operation))

    async def cancel(self, sender: Sender, beginning: str) -> bytes:
        """Give up a change that waits; returns the transaction. Raises as `execute`."""
        change, *_ = await self._waiting(beginning)
        return await self._send(sender, f"timelock/cancel/{change.id.hex()}", call_data(CANCEL, change.id))

    async def _waiting(self, beginning: str) -> list[Change]:
        """What waits under one id: a batch, which others can announce, has several calls."""
        wanted = beginning.lower().removeprefix("0x")
        waiting = await pending(self._chain, self._contracts["timelock"], self._first_block)
        found = [change for change in waiting if wanted and change.id.hex().startswith(wanted)]
        if not found:
            raise NotFound("timelock.none", f"No change {beginning} waits.", "See which do: fallow chain show")
        if (several := len({change.id for change in found})) > 1:
            raise Conflict("timelock.several", f"{several} changes begin with {beginning}.", "Type more of its id.")
        return found

    async def _send(self, sender: Sender, id_: str, data: bytes) -> bytes:
        with _refused():
            return (await sender.send_anew(id_, self._contracts["timelock"], data)).transaction


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except ContractRefused as error:
        why = _WORDS.get(error.data[:4], f"0x{error.data.hex()}")
        raise Conflict("timelock.refused", f"The contract refuses: {why}.", "fallow chain show") from error


def _value(kind: str, text: str) -> bytes | int:
    return address(text.lower()) if kind == "address" else int(text)
