"""Accounts of tests that send transactions to EVM chains, signed by the Ethereum Foundation's own library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from eth_abi.abi import encode
from eth_account import Account

from fallow.domain.wallets import keccak


class Holder:
    """An account with a key; `number` tells it from others."""

    def __init__(self, chain_id: int, number: int = 1) -> None:
        self._account = Account.from_key(number.to_bytes(32))
        self._chain_id = chain_id
        self.address = bytes.fromhex(self._account.address[2:])

    def send(self, nonce: int, to: bytes, data: bytes, *, gas: int = 300_000, **fields: Any) -> bytes:
        """A signed transaction, raw."""
        free = {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0, "value": 0, "type": 2}
        if "gasPrice" in fields:
            free = {"value": 0}
        transaction = {"chainId": self._chain_id, "nonce": nonce, "to": to, "data": data, "gas": gas, **free, **fields}
        return bytes(self._account.sign_transaction(transaction).raw_transaction)

    def token(self, nonce: int = 0) -> bytes:
        """A transaction that deploys `FallowToken`, which this account owns."""
        owner = ["uint96", "address"]
        arguments = encode(["string", "string", *owner], ["Token", "TOK", 10**27, self.address])
        return self.send(nonce, b"", code_of("FallowToken") + arguments, gas=3_000_000)


def code_of(name: str) -> bytes:
    """Bytecode that deploys a contract of the package."""
    return bytes.fromhex(json.loads((files("fallow.data") / "contracts" / f"{name}.json").read_text())["bytecode"])


def call_data(signature: str, *arguments: Any) -> bytes:
    """A call, such as `call_data("burn(uint256)", 5)`."""
    types = signature.partition("(")[2].removesuffix(")")
    return keccak(signature.encode())[:4] + encode(types.split(",") if types else [], arguments)


def requests(*calls: Sequence[Any]) -> bytes:
    """A batch of JSON-RPC requests, each a method and its parameters."""
    listed = [{"jsonrpc": "2.0", "id": at, "method": one[0], "params": one[1:]} for at, one in enumerate(calls)]
    return json.dumps(listed).encode()
