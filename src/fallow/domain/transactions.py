"""Transactions with a dynamic fee (EIP-1559), and calls as the ABI encodes them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from eth_abi.abi import decode, encode

from fallow.domain.wallets import RECOVERY_OFFSET, keccak

if TYPE_CHECKING:
    from eth_account.typed_transactions.typed_transaction import TypedTransaction

KIND = 2


class Unsigned(NamedTuple):
    """A transaction before it is signed. `to` is empty where it makes a contract; fees are per gas."""

    chain_id: int
    nonce: int
    to: bytes
    data: bytes
    gas: int
    fee_max: int
    tip: int

    @property
    def digest(self) -> bytes:
        """What its sender signs."""
        return bytes(_typed(self._shape()).hash())

    def signed(self, signature: bytes) -> bytes:
        """The raw transaction; `signature` is 65 bytes r, s, v."""
        parts = {
            "r": int.from_bytes(signature[:32]),
            "s": int.from_bytes(signature[32:64]),
            "v": signature[64] - RECOVERY_OFFSET,
        }
        return bytes(_typed(self._shape() | parts).encode())

    def _shape(self) -> dict[str, Any]:
        return {
            "type": KIND,
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "to": self.to,
            "data": self.data,
            "gas": self.gas,
            "maxFeePerGas": self.fee_max,
            "maxPriorityFeePerGas": self.tip,
            "value": 0,
        }


RECURSION_MAX = 10_240
"""What an EVM in the same process needs. py_ecc, which eth_account loads, asks for 100,000: then nested JSON overflows
the stack. So only who signs loads it, and not so deep."""


def _typed(fields: dict[str, Any]) -> TypedTransaction:
    from eth_account.typed_transactions.typed_transaction import TypedTransaction  # noqa: PLC0415 - see above

    sys.setrecursionlimit(min(sys.getrecursionlimit(), RECURSION_MAX))
    return TypedTransaction.from_dict(fields)


def selector(signature: str) -> bytes:
    """The first 4 bytes of a call to a function such as `burn(uint256)`."""
    return keccak(signature.encode())[:4]


def topic(signature: str) -> bytes:
    """The first topic of an event such as `Deposited(address,address,uint256)`."""
    return keccak(signature.encode())


def call_data(signature: str, *arguments: object) -> bytes:
    """A call to a function."""
    return selector(signature) + encode(types_of(signature), arguments)


def answer_of(types: str, data: bytes) -> tuple[Any, ...]:
    """What a call answered, read as types such as `(uint256,address)`. Raises what eth_abi raises on other bytes."""
    return decode(types_of(types), data)


def arguments_of(types: str, *arguments: object) -> bytes:
    """Arguments of a constructor, of types such as `(address,uint96)`."""
    return encode(types_of(types), arguments)


def types_of(signature: str) -> list[str]:
    """Types between the outermost parentheses, at the commas that lie in no others."""
    types, depth, start = [], 0, signature.index("(") + 1
    for at in range(start, len(signature)):
        depth += {"(": 1, ")": -1}.get(signature[at], 0)
        if depth < 0 or (depth == 0 and signature[at] == ","):
            types.append(signature[start:at])
            start = at + 1
    return [each for each in types if each]
