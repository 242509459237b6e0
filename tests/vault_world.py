"""The token and the vault on a real EVM in this process, holders who stake, and events as settle reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fallow.adapters.evm.machine import PyEvm
from fallow.domain.chain_events import read_event
from fallow.domain.chain_facts import ChainFact
from fallow.domain.transactions import answer_of, arguments_of
from fallow.ports.evm import Log, Message, Outcome
from tests.evm_accounts import Holder, call_data, code_of

CHAIN_ID, GAS = 7, 8_000_000
RICH = 10**24


class VaultWorld:
    """`holders` have tokens and let the vault take them; the first one is the operator of the network, too."""

    def __init__(self, holders: int = 3) -> None:
        self._evm = PyEvm(CHAIN_ID)
        self.holders = [Holder(CHAIN_ID, number + 1) for number in range(holders)]
        self.facts: list[ChainFact] = []
        owner = self.holders[0].address
        self.token = self._made("FallowToken", "(string,string,uint96,address)", "Token", "TOK", 10**27, owner)
        types = "(address,address,address,address,uint64,uint64,address)"
        self.vault = self._made("StakeVault", types, self.token, b"\xde" * 20, owner, owner, 0, 0, owner)
        self.send(0, self.token, "setMinter(address)", owner)
        for number, holder in enumerate(self.holders):
            self.send(0, self.token, "mint(address,uint256)", holder.address, RICH)
            self.send(number, self.token, "approve(address,uint256)", self.vault, RICH)

    def send(self, holder: int, contract: bytes, signature: str, *arguments: Any) -> bool:
        """Call a function in a transaction; whether the contract let it through."""
        outcome = self._mined(holder, contract, call_data(signature, *arguments))
        self.facts += self._read(outcome.logs)
        return outcome.succeeded

    def ask(self, contract: bytes, signature: str, types: str, *arguments: Any) -> tuple[Any, ...]:
        """Ask a contract."""
        message = Message(self.holders[0].address, contract, call_data(signature, *arguments), GAS)
        return answer_of(types, self._evm.call(message, self._evm.head.number))

    def _made(self, name: str, types: str, *arguments: Any) -> bytes:
        return self._mined(0, b"", code_of(name) + arguments_of(types, *arguments)).contract

    def _mined(self, holder: int, to: bytes, data: bytes) -> Outcome:
        sender = self.holders[holder]
        raw = sender.send(self._evm.nonce(sender.address), to, data, gas=GAS)
        (outcome,) = self._evm.mine([self._evm.decode(raw)], self._evm.head.timestamp_s + 1).outcomes
        return outcome

    def _read(self, logs: Sequence[Log]) -> list[ChainFact]:
        names = {self.token: "token", self.vault: "vault"}
        block = self._evm.head.number
        read = [
            read_event(names[log.address], log.topics, log.data, block=block, place=place, transaction=bytes(32))
            for place, log in enumerate(logs)
        ]
        return [fact for fact in read if fact is not None]
