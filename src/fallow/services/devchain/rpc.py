"""The embedded chain's JSON-RPC: what wallets and clients ask of an Ethereum node, with its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.ports.evm import Block, Log, Message, Reverted
from fallow.services.devchain.service import DevChain
from fallow.services.devchain.shapes import (
    Json,
    block_shape,
    data,
    logs_of,
    mined_shape,
    quantity,
    receipt_shape,
    sent_shape,
)

BATCH_MAX = 100
LOGS_MAX = 10_000
ADDRESS_BYTES = 20
HASH_BYTES = 32
QUANTITY_BYTES = 32
CALL_GAS = 6_000_000
"""What a call may use: enough to make any of the network's contracts, and seconds of this process at the most."""
PERCENTILES_MAX = 100
ANSWER_BYTES_MAX = 16 << 20
"""Of one request, and of a batch: more of it is left out, and said to be."""
SHAPE_BYTES = 1_024
"""What a log's form takes beside its data, roughly."""
PRECOMPILED_MAX = 1 << 16
"""Addresses below are Ethereum's own functions, some of which take minutes for the gas of a block."""
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
REFUSED, LIMIT, REVERTED = -32000, -32005, 3
"""Error codes: of JSON-RPC 2.0, EIP-1474, and 3 for a revert, as nodes answer."""


def free(_: int) -> None:
    """Take nothing for a batch."""


class Rpc:
    """Answers requests; its methods' names are Ethereum's.

    Only with `makes_contracts` code of the asker's runs: gas costs nothing here, so a stranger's would stop the chain.
    """

    def __init__(self, chain: DevChain, version: str, *, makes_contracts: bool) -> None:
        self._chain = chain
        self._makes_contracts = makes_contracts
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: f"fallow/{version}",
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: quantity(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_blockNumber": lambda: quantity(chain.blocks[-1].number),
            "eth_gasPrice": lambda: quantity(0),
            "eth_maxPriorityFeePerGas": lambda: quantity(0),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda account, _="latest": quantity(0 * len(_address(account))),
            "eth_getTransactionCount": self._nonce,
            "eth_getCode": lambda account, _="latest": data(chain.machine.code(_address(account))),
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": lambda tag, full=False: self._block(self._by_tag(tag), full=full),
            "eth_getBlockByHash": lambda hash_, full=False: self._block(self._by_hash(hash_), full=full),
            "eth_getLogs": self._logs,
        }

    def answer(self, body: bytes, take: Callable[[int], None] = free) -> bytes:
        """Answer a request, or a batch of them. `take` is told how many it holds beside one, and raises to refuse."""
        try:
            asked = msgspec.json.decode(body)
        except UNREADABLE as error:
            return msgspec.json.encode(_error(None, PARSE_ERROR, f"parse error: {error}"))
        if not isinstance(asked, list):
            return msgspec.json.encode(self._one(asked))
        if not 0 < len(asked) <= BATCH_MAX:
            return msgspec.json.encode(_error(None, INVALID_REQUEST, f"a batch has 1 to {BATCH_MAX} requests"))
        take(len(asked) - 1)
        return self._batch(asked)

    def _batch(self, asked: Sequence[Any]) -> bytes:
        answers: list[bytes] = []
        left = ANSWER_BYTES_MAX
        for one in asked:
            said = self._one(one) if left > 0 else _error(_id(one), LIMIT, "the answer is too long")
            answers.append(msgspec.json.encode(said))
            left -= len(answers[-1])
        return b"[" + b",".join(answers) + b"]"

    def _one(self, asked: Any) -> Json:  # noqa: ANN401 - any JSON value
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
            return _error(None, INVALID_REQUEST, "invalid request")
        id_ = _id(asked)
        try:
            return {"jsonrpc": "2.0", "id": id_, "result": self._result(asked["method"], asked.get("params", []))}
        except Reverted as error:
            return _error(id_, REVERTED, f"execution reverted: {error.reason}", data(error.data))
        except FallowError as error:
            return _error(id_, _code(error), error.message)

    def _result(self, name: str, params: Any) -> Any:  # noqa: ANN401 - any JSON value
        self._chain.check()
        method = self._methods.get(name)
        if method is None:
            raise NotFound("chain.method", f"the method {name[:60]} does not exist/is not available")
        if not isinstance(params, list):
            raise InvalidInput("chain.params", "params is a list")
        try:
            return method(*params)
        except (TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput("chain.params", f"params do not fit: {error}") from error

    def _nonce(self, account: str, tag: str = "latest") -> str:
        return quantity(self._chain.nonce(_address(account), pending=tag == "pending"))

    def _storage(self, account: str, slot: str, _: str = "latest") -> str:
        return data(self._chain.machine.storage(_address(account), _number(slot)).to_bytes(32))

    def _send(self, raw: str) -> str:
        sent = self._chain.machine.decode(_bytes(raw))
        self._check_target(sent.to)
        return data(self._chain.send(sent.raw))

    def _call(self, fields: Json, tag: str = "latest") -> str:
        message = _message(fields)
        self._check_target(message.to)
        number = self._by_tag(tag).number
        now_s = self._chain.now_s if number == self._chain.blocks[-1].number else 0
        return data(self._chain.machine.call(message, number, now_s))

    def _estimate(self, fields: Json, _: str = "latest") -> str:
        message = _message(fields)
        self._check_target(message.to)
        return quantity(self._chain.machine.estimate(message, self._chain.now_s))

    def _check_target(self, to: bytes) -> None:
        if self._makes_contracts:
            return
        if not to:
            raise NotAllowed("chain.makes", "This chain takes no contracts but its network's own.")
        if int.from_bytes(to) < PRECOMPILED_MAX:
            raise NotAllowed("chain.precompiled", "Ethereum's own functions are called by contracts alone here.")

    def _fee_history(self, count: str | int, newest: str, percentiles: list[float] | None = None) -> Json:
        last = self._by_tag(newest).number
        asked = count if isinstance(count, int) else _number(count)
        if len(percentiles or ()) > PERCENTILES_MAX:
            raise TooMuch("chain.percentiles", f"At most {PERCENTILES_MAX} percentiles.")
        first = max(0, last + 1 - max(1, min(asked, 1024)))
        blocks = self._chain.blocks[first : last + 1]
        return {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(0)] * (len(blocks) + 1),
            "gasUsedRatio": [block.gas_used / block.gas_limit for block in blocks],
            "reward": [[quantity(0)] * len(percentiles or ()) for _ in blocks],
        }

    def _transaction(self, hash_: str) -> Json | None:
        key = _hash(hash_)
        place = self._chain.found.get(key)
        if place is not None:
            return mined_shape(self._chain.blocks[place[0]], place[1])
        waiting = self._chain.pool.find(key)
        return sent_shape(waiting) if waiting else None

    def _receipt(self, hash_: str) -> Json | None:
        place = self._chain.found.get(_hash(hash_))
        return receipt_shape(self._chain.blocks[place[0]], place[1]) if place else None

    def _block(self, block: Block, *, full: bool) -> Json:
        return block_shape(block, full=full)

    def _by_tag(self, tag: Any) -> Block:  # noqa: ANN401 - what a client sent
        if isinstance(tag, dict):
            return self._by_hash(tag["blockHash"]) if "blockHash" in tag else self._by_tag(tag.get("blockNumber"))
        if tag == "earliest":
            return self._chain.blocks[0]
        if tag in {"latest", "pending", "safe", "finalized"}:
            return self._chain.blocks[-1]
        number = _number(tag)
        if number >= len(self._chain.blocks):
            raise NotFound("chain.block", f"There is no block {number} yet.")
        return self._chain.blocks[number]

    def _by_hash(self, hash_: str) -> Block:
        key = _hash(hash_)
        number = self._chain.numbers.get(key)
        if number is None:
            raise NotFound("chain.block", "There is no such block.")
        return self._chain.blocks[number]

    def _logs(self, wanted: Json) -> list[Json]:
        if "blockHash" in wanted:
            blocks: Iterable[Block] = [self._by_hash(wanted["blockHash"])]
        else:
            first = self._by_tag(wanted.get("fromBlock", "latest")).number
            last = self._last(wanted.get("toBlock", "latest"))
            blocks = self._chain.blocks[first : last + 1]
        addresses, topics = _addresses(wanted.get("address")), _topics(wanted.get("topics"))
        found: list[Json] = []
        left = ANSWER_BYTES_MAX
        for block in blocks:
            for shape, log in logs_of(block, lambda _, log: _matches(log, addresses, topics)):
                found.append(shape)
                left -= SHAPE_BYTES + 2 * len(log.data)
                if len(found) > LOGS_MAX or left < 0:
                    raise TooMuch("chain.logs", f"More than {LOGS_MAX} logs, or much data: ask for fewer blocks.")
        return found

    def _last(self, tag: str) -> int:
        """A range may end after the newest block."""
        newest = self._chain.blocks[-1].number
        return min(_number(tag), newest) if tag.startswith("0x") else self._by_tag(tag).number


def _code(error: FallowError) -> int:
    by_code = {"chain.params": INVALID_PARAMS, "chain.method": NO_METHOD}
    return LIMIT if isinstance(error, TooMuch | Unavailable) else by_code.get(error.code, REFUSED)


def _id(asked: Any) -> str | float | None:  # noqa: ANN401 - any JSON value
    found = asked.get("id") if isinstance(asked, dict) else None
    return found if isinstance(found, str | int | float) else None


def _matches(log: Log, addresses: set[bytes], topics: Sequence[frozenset[str] | None]) -> bool:
    if (addresses and log.address not in addresses) or len(topics) > len(log.topics):
        return False
    return all(asked is None or data(topic) in asked for topic, asked in zip(log.topics, topics, strict=False))


def _topics(asked: Any) -> list[frozenset[str] | None]:  # noqa: ANN401 - what a client sent
    """For each place what may stand there; None is anything."""
    return [None if one is None else frozenset([one] if isinstance(one, str) else one) for one in asked or []]


def _addresses(asked: Any) -> set[bytes]:  # noqa: ANN401 - what a client sent
    if asked is None:
        return set()
    return {_address(one) for one in ([asked] if isinstance(asked, str) else asked)}


def _message(fields: Any) -> Message:  # noqa: ANN401 - what a client sent
    if not isinstance(fields, dict):
        raise InvalidInput("chain.params", "a call is an object")
    to, sender = fields.get("to"), fields.get("from")
    return Message(
        sender=_address(sender) if sender else bytes(ADDRESS_BYTES),
        to=_address(to) if to else b"",
        data=_bytes(fields.get("input") or fields.get("data") or "0x"),
        gas=min(_number(fields["gas"]), CALL_GAS) if fields.get("gas") else CALL_GAS,
        value=_number(fields.get("value") or "0x0"),
    )


def _address(text: Any) -> bytes:  # noqa: ANN401 - what a client sent
    return _bytes(text, ADDRESS_BYTES)


def _hash(text: Any) -> bytes:  # noqa: ANN401 - what a client sent
    return _bytes(text, HASH_BYTES)


def _number(text: Any) -> int:  # noqa: ANN401 - what a client sent
    if not isinstance(text, str) or not text.startswith("0x") or len(text) > 2 + 2 * QUANTITY_BYTES:
        raise InvalidInput("chain.params", "a number is 0x and hexadecimal digits")
    try:
        return int(text, 16)
    except ValueError as error:
        raise InvalidInput("chain.params", "a number is 0x and hexadecimal digits") from error


def _bytes(text: Any, length: int | None = None) -> bytes:  # noqa: ANN401 - what a client sent
    try:
        if not isinstance(text, str) or not text.startswith("0x"):
            raise ValueError  # noqa: TRY301 - the same answer as for other digits
        raw = bytes.fromhex(text[2:])
    except ValueError as error:
        raise InvalidInput("chain.params", "bytes are 0x and two hexadecimal digits for each") from error
    if length is not None and len(raw) != length:
        raise InvalidInput("chain.params", f"it has {len(raw)} bytes instead of {length}")
    return raw


def _error(id_: Any, code: int, message: str, more: str | None = None) -> Json:  # noqa: ANN401 - an id is any scalar
    error: Json = {"code": code, "message": message}
    if more is not None:
        error["data"] = more
    return {"jsonrpc": "2.0", "id": id_, "error": error}
