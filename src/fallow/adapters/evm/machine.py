"""The machine port on py-evm: Ethereum's rules as of Cancun, without mining's proof and without a coin.

Nobody owns any coin and none is made, so gas costs nothing: the base fee begins at 0 and stays there, because blocks
are at most half full.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import eth
from eth.abc import BlockAPI, BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.exceptions import VMError
from eth.vm.forks.cancun import CancunVM
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address, BlockNumber
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from fallow.domain.errors import InvalidInput
from fallow.ports.evm import Block, Log, Message, Outcome, Reverted, Sent

sys.setrecursionlimit(eth.EVM_RECURSION_LIMIT)
"""What calls 1,024 deep take. py_ecc, which py-evm loads, asks for 100,000: then nested JSON overflows the stack."""

GAS_LIMIT = 60_000_000
BLOCK_GAS_MAX = GAS_LIMIT // 2
"""Above half of the limit the base fee would begin to rise (EIP-1559)."""
KINDS = (0, 1, 2)
"""Legacy, with an access list (EIP-2930), with a dynamic fee (EIP-1559)."""
NO_ADDRESS = bytes(20)


class _Vm(CancunVM):
    consensus_class = NoProofConsensus


class PyEvm:
    """See the port. One instance belongs to one chain id."""

    def __init__(self, chain_id: int) -> None:
        chain = MiningChain.configure("Embedded", vm_configuration=((BlockNumber(0), _Vm),), chain_id=chain_id)
        genesis: dict[str, Any] = {
            "difficulty": 0,
            "gas_limit": GAS_LIMIT,
            "timestamp": 0,
            "coinbase": NO_ADDRESS,
            "nonce": bytes(8),
            "mix_hash": bytes(32),
            "extra_data": b"",
            "base_fee_per_gas": 0,
        }
        self._chain_id = chain_id
        # py-evm states the class of which every chain is; what was configured as a MiningChain is one.
        self._chain: MiningChain = chain.from_genesis(AtomicDB(), genesis, {})  # type: ignore[assignment]
        self._head = _block(self._chain.get_canonical_block_by_number(BlockNumber(0)), (), (), ())

    @property
    def head(self) -> Block:
        """See the port."""
        return self._head

    def decode(self, raw: bytes) -> Sent:
        """See the port."""
        try:
            transaction = self._vm().get_transaction_builder().decode(raw)
            kind = raw[0] if raw[0] in KINDS else 0
            if getattr(transaction, "chain_id", None) != self._chain_id:
                raise InvalidInput("chain.other", f"It is signed for another chain; this one is {self._chain_id}.")
            if transaction.max_fee_per_gas or transaction.value:
                raise InvalidInput("chain.coin", "This chain has no coin.", "Send it with fees and value of 0.")
            transaction.validate()
            transaction.check_signature_validity()
            _check_gas(transaction)
            return _sent(raw, kind, transaction)
        except (ValidationError, RLPException, ValueError, TypeError, IndexError, AttributeError) as error:
            raise InvalidInput("chain.transaction", f"It is no transaction that can be mined here: {error}.") from error

    def mine(self, transactions: Sequence[Sent], timestamp_s: int) -> Block:
        """See the port."""
        builder = self._vm().get_transaction_builder()
        decoded = [builder.decode(sent.raw) for sent in transactions]
        self._chain.set_header_timestamp(timestamp_s)
        mined, receipts, computations = self._chain.mine_all(decoded)
        made = tuple(
            computation.msg.storage_address if not sent.to else b""
            for sent, computation in zip(transactions, computations, strict=True)
        )
        self._head = _block(mined.imported_block, transactions, receipts, made)
        return self._head

    def call(self, message: Message, number: int, timestamp_s: int = 0) -> bytes:
        """See the port."""
        header = self._chain.get_canonical_block_header_by_number(BlockNumber(number))
        with _Refusals():
            return bytes(self._chain.get_transaction_result(self._spoof(message), _at(header, timestamp_s)))

    def estimate(self, message: Message, timestamp_s: int = 0) -> int:
        """See the port. First with the gas of the message: py-evm tries with that of a whole block."""
        self.call(message, self._head.number, timestamp_s)
        with _Refusals():
            return int(self._chain.estimate_gas(self._spoof(message), _at(self._header(), timestamp_s)))

    def nonce(self, account: bytes) -> int:
        """See the port."""
        return int(self._vm().state.get_nonce(Address(account)))

    def code(self, account: bytes) -> bytes:
        """See the port."""
        return bytes(self._vm().state.get_code(Address(account)))

    def storage(self, account: bytes, slot: int) -> int:
        """See the port."""
        return int(self._vm().state.get_storage(Address(account), slot))

    def _vm(self) -> Any:  # noqa: ANN401 - its abstract class lacks what every virtual machine has
        return self._chain.get_vm(self._header())

    def _header(self) -> BlockHeaderAPI:
        return self._chain.get_canonical_head()

    def _spoof(self, message: Message) -> SignedTransactionAPI:
        transaction = self._vm().create_unsigned_transaction(
            nonce=self.nonce(message.sender),
            gas_price=0,
            gas=min(message.gas, BLOCK_GAS_MAX),
            to=message.to,
            value=message.value,
            data=message.data,
        )
        # It stands for the transaction that it wraps, with a sender that nobody signed for; its class says so nowhere.
        return SpoofTransaction(transaction, from_=message.sender)  # type: ignore[return-value]


def _at(header: BlockHeaderAPI, timestamp_s: int) -> BlockHeaderAPI:
    return header.copy(timestamp=max(header.timestamp, timestamp_s))


class _Refusals:
    """Turns what py-evm raises about a call into what the port says."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, VMError):
            data = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""
            raise Reverted(data, type(error).__name__) from error
        if isinstance(error, ValidationError):
            raise Reverted(b"", str(error)) from error


def _check_gas(transaction: SignedTransactionAPI) -> None:
    if not transaction.intrinsic_gas <= transaction.gas <= BLOCK_GAS_MAX:
        raise InvalidInput(
            "chain.gas",
            f"Its gas must be from {transaction.intrinsic_gas} (what it is sure to use) to {BLOCK_GAS_MAX}.",
        )


def _sent(raw: bytes, kind: int, transaction: Any) -> Sent:  # noqa: ANN401 - the kinds share no type with all fields
    return Sent(
        raw=raw,
        hash=bytes(transaction.hash),
        kind=kind,
        chain_id=transaction.chain_id,
        sender=bytes(transaction.sender),
        nonce=transaction.nonce,
        to=bytes(transaction.to),
        value=transaction.value,
        gas=transaction.gas,
        fee_max=transaction.max_fee_per_gas,
        tip_max=transaction.max_priority_fee_per_gas,
        data=bytes(transaction.data),
        signature=(transaction.v if kind == 0 else transaction.y_parity, transaction.r, transaction.s),
    )


def _block(block: BlockAPI, sent: Sequence[Sent], receipts: Sequence[ReceiptAPI], made: Sequence[bytes]) -> Block:
    header, outcomes, before = block.header, [], 0
    for one, receipt, contract in zip(sent, receipts, made, strict=True):
        logs = tuple(
            Log(bytes(log.address), tuple(topic.to_bytes(32) for topic in log.topics), bytes(log.data))
            for log in receipt.logs
        )
        succeeded = receipt.state_root == b"\x01"
        outcomes.append(Outcome(one, succeeded, receipt.gas_used - before, contract, logs))
        before = receipt.gas_used
    return Block(
        number=header.block_number,
        hash=bytes(header.hash),
        parent=bytes(header.parent_hash),
        timestamp_s=header.timestamp,
        gas_used=header.gas_used,
        gas_limit=header.gas_limit,
        state_root=bytes(header.state_root),
        transactions_root=bytes(header.transaction_root),
        receipts_root=bytes(header.receipt_root),
        bloom=header.bloom.to_bytes(256),
        outcomes=tuple(outcomes),
    )
