"""The package's contracts on the embedded chain's EVM, in this process: deployed and called by the ABI, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.evm.machine import PyEvm
from fallow.domain.epochs.quorum import Root
from fallow.domain.wallets import keccak
from fallow.ports.evm import Message, Outcome, Reverted
from tests.evm_accounts import Holder, code_of

GAS = 8_000_000
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
        self._evm = PyEvm(chain_id)
        self._holder = Holder(chain_id)
        self._sent = 0

    def deploy(self, name: str, arguments: bytes) -> bytes:
        """Deploy a contract of the package; returns its address."""
        made = self._mined(b"", code_of(name) + arguments)
        assert made.succeeded
        return made.contract

    def call(self, contract: bytes, signature: str, arguments: bytes = b"") -> bytes:
        """Ask a function, by its signature; nothing changes. Raises Reverted."""
        return self.raw(contract, keccak(signature.encode())[:4] + arguments)

    def raw(self, contract: bytes, data: bytes) -> bytes:
        """Ask a contract with data that is encoded already."""
        return self._evm.call(Message(self._holder.address, contract, data, GAS), self._evm.head.number)

    def send(self, contract: bytes, signature: str, arguments: bytes) -> None:
        """Call a function in a transaction. Raises Reverted."""
        if not self._mined(contract, keccak(signature.encode())[:4] + arguments).succeeded:
            raise Reverted(b"", f"{signature} reverted")

    def _mined(self, to: bytes, data: bytes) -> Outcome:
        raw = self._holder.send(self._sent, to, data, gas=GAS)
        self._sent += 1
        (outcome,) = self._evm.mine([self._evm.decode(raw)], self._evm.head.timestamp_s + 1).outcomes
        return outcome


EPOCH = "(uint64,uint64,bytes32,uint96,uint96,bytes32)"


def epoch_words(root: Root) -> bytes:
    """Words of the distributor's struct `Epoch`."""
    return words(*root)
