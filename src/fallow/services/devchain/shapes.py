"""Blocks, transactions, receipts and logs in the forms of Ethereum's JSON-RPC (github.com/ethereum/execution-apis)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fallow.ports.evm import Block, Log, Outcome, Sent

Json = dict[str, Any]
NO_UNCLES = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
"""keccak256 of an empty RLP list."""
NO_BLOOM = bytes(256)


def quantity(number: int) -> str:
    """A number: hexadecimal without leading zeros."""
    return hex(number)


def data(raw: bytes) -> str:
    """Bytes: two digits for each."""
    return "0x" + raw.hex()


def block_shape(block: Block, *, full: bool) -> Json:
    """A block, with its transactions or their hashes."""
    sent: list[Any] = [outcome.sent for outcome in block.outcomes]
    listed = [mined_shape(block, at) if full else data(one.hash) for at, one in enumerate(sent)]
    return {
        "number": quantity(block.number),
        "hash": data(block.hash),
        "parentHash": data(block.parent),
        "timestamp": quantity(block.timestamp_s),
        "gasUsed": quantity(block.gas_used),
        "gasLimit": quantity(block.gas_limit),
        "stateRoot": data(block.state_root),
        "transactionsRoot": data(block.transactions_root),
        "receiptsRoot": data(block.receipts_root),
        "logsBloom": data(block.bloom),
        "baseFeePerGas": quantity(0),
        "difficulty": quantity(0),
        "totalDifficulty": quantity(0),
        "sha3Uncles": data(NO_UNCLES),
        "uncles": [],
        "miner": data(bytes(20)),
        "nonce": data(bytes(8)),
        "mixHash": data(bytes(32)),
        "extraData": "0x",
        "size": quantity(sum(len(one.raw) for one in sent)),
        "transactions": listed,
    }


def sent_shape(sent: Sent) -> Json:
    """A transaction that waits for its block."""
    v, r, s = sent.signature
    shape: Json = {
        "hash": data(sent.hash),
        "type": quantity(sent.kind),
        "from": data(sent.sender),
        "nonce": quantity(sent.nonce),
        "to": data(sent.to) if sent.to else None,
        "value": quantity(sent.value),
        "gas": quantity(sent.gas),
        "gasPrice": quantity(sent.fee_max),
        "input": data(sent.data),
        "v": quantity(v),
        "r": quantity(r),
        "s": quantity(s),
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
    }
    if sent.kind:
        shape |= {"chainId": quantity(sent.chain_id), "accessList": [], "yParity": quantity(v)}
    if sent.kind > 1:
        shape |= {"maxFeePerGas": quantity(sent.fee_max), "maxPriorityFeePerGas": quantity(sent.tip_max)}
    return shape


def mined_shape(block: Block, at: int) -> Json:
    """Transaction number `at` of a block."""
    return sent_shape(block.outcomes[at].sent) | _place(block, at)


def receipt_shape(block: Block, at: int) -> Json:
    """What transaction number `at` of a block did."""
    outcome = block.outcomes[at]
    return _place(block, at) | {
        "transactionHash": data(outcome.sent.hash),
        "from": data(outcome.sent.sender),
        "to": data(outcome.sent.to) if outcome.sent.to else None,
        "type": quantity(outcome.sent.kind),
        "status": quantity(int(outcome.succeeded)),
        "gasUsed": quantity(outcome.gas_used),
        "cumulativeGasUsed": quantity(sum(one.gas_used for one in block.outcomes[: at + 1])),
        "effectiveGasPrice": quantity(0),
        "contractAddress": data(outcome.contract) if outcome.contract and outcome.succeeded else None,
        "logs": [shape for shape, _ in logs_of(block, lambda place, _: place == at)],
        "logsBloom": data(block.bloom if outcome.logs else NO_BLOOM),
    }


def logs_of(block: Block, wanted: Callable[[int, Log], bool]) -> Iterator[tuple[Json, Log]]:
    """The form of each log of a block that is wanted, and the log; `wanted` hears its transaction's number, too."""
    index = 0
    for at, outcome in enumerate(block.outcomes):
        for log in outcome.logs:
            if wanted(at, log):
                yield _log_shape(block, at, outcome, log, index), log
            index += 1


def _log_shape(block: Block, at: int, outcome: Outcome, log: Log, index: int) -> Json:
    return _place(block, at) | {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "transactionHash": data(outcome.sent.hash),
        "logIndex": quantity(index),
        "removed": False,
    }


def _place(block: Block, at: int) -> Json:
    return {"blockHash": data(block.hash), "blockNumber": quantity(block.number), "transactionIndex": quantity(at)}
