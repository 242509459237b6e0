"""The package's contracts on a real EVM in this process: deployed and called by the ABI, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from pyrevm import EVM, CfgEnv, Env

from fallow.domain.epochs.quorum import Root
from fallow.domain.wallets import keccak

DEPLOYER = "0x" + "d0" * 20
Argument = int | bytes | Sequence["Argument"]
"""Static words: a number, or bytes of an address or hash. A sequence is a dynamic array; bytes past 32 are `bytes`."""


def words(*arguments: Argument) -> bytes:
    """Arguments as the ABI encodes them: heads, then tails of what has no fixed length."""
    heads, tails = [], b""
    for each in arguments:
        if isinstance(each, int):
            heads.append(each.to_bytes(32))
        elif isinstance(each, bytes) and len(each) <= 32:
            heads.append(each.rjust(32, b"\0"))
        else:
            heads.append((32 * len(arguments) + len(tails)).to_bytes(32))
            inner = each.ljust(-(-len(each) // 32) * 32, b"\0") if isinstance(each, bytes) else words(*each)
            tails += len(each).to_bytes(32) + inner
    return b"".join(heads) + tails


class Contracts:
    """A chain that lives as long as this object."""

    def __init__(self, chain_id: int) -> None:
        self._evm = EVM(env=Env(cfg=CfgEnv(chain_id=chain_id)))

    def deploy(self, name: str, arguments: bytes) -> bytes:
        """Deploy a contract of the package; returns its address."""
        compiled = json.loads((files("fallow.data") / "contracts" / f"{name}.json").read_text())
        code = bytes.fromhex(compiled["bytecode"].removeprefix("0x"))
        return bytes.fromhex(self._evm.deploy(DEPLOYER, code + arguments)[2:])

    def call(self, contract: bytes, signature: str, arguments: bytes = b"") -> bytes:
        """Call a function by its signature. Raises RuntimeError, with the revert's data, where it reverts."""
        return self.raw(contract, keccak(signature.encode())[:4] + arguments)

    def raw(self, contract: bytes, data: bytes) -> bytes:
        """Call a contract with data that is encoded already."""
        result: Any = self._evm.message_call(DEPLOYER, "0x" + contract.hex(), data)
        return bytes(result)


EPOCH = "(uint64,uint64,bytes32,uint96,uint96,bytes32)"


def epoch_words(root: Root) -> bytes:
    """Words of the distributor's struct `Epoch`."""
    return words(*root)
