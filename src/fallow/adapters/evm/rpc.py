"""The chain port on the JSON-RPC of an Ethereum node."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, FallowError, InvalidInput, Unavailable
from fallow.ports.chain import ContractRefused, Event, Fees, Receipt, Seen

TIMEOUT_S = 15.0
"""Without a byte."""
ANSWER_S = 60.0
ANSWER_BYTES_MAX = 64 << 20
"""Several times what nodes send of events at once. A node may be anybody's: it fills no memory, and holds nobody up."""
REVERTED, LIMIT = 3, -32005
"""Error codes of a revert, and of too many requests (EIP-1474)."""

BEHIND = ("header not found", "unknown block", "block not found")
"""Words of a node that has not seen yet what another one of the same address has shown."""

KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
NOT_NOW = ("nonce too low", "nonce is too low", "already been used", "underpriced", "less than block base fee")
"""Words by which nodes tell why they take no transaction: geth, reth, nethermind, erigon and anvil share no codes."""

TRY_ANOTHER = "Try again, or use another node of this chain."
NUMBER, BYTES = re.compile(r"0x[0-9a-fA-F]{1,64}"), re.compile(r"0x(?:[0-9a-fA-F]{2})*")
ADDRESS_BYTES, HASH_BYTES, WORD_BYTES = 20, 32, 32

Call = tuple[str, list[Any]]


@asynccontextmanager
async def connect_chain(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[EvmRpc]:
    """Ask the node at `url` while the context is open."""
    async with httpx2.AsyncClient(verify=tls or True, timeout=TIMEOUT_S) as client:
        yield EvmRpc(client, url)


class EvmRpc:
    """See the port."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def chain_id(self) -> int:
        """See the port."""
        return _number(await self._ask("eth_chainId"))

    async def head(self) -> int:
        """See the port."""
        return _number(await self._ask("eth_blockNumber"))

    async def look(self, account: bytes, hashes: Sequence[bytes], depth: int) -> Seen:
        """See the port. One batch, so that one node answers all of it; its head is asked first and last."""
        head = await self.head()
        deep = max(0, head - depth + 1)
        asked: list[Call] = [
            ("eth_getTransactionCount", [_hex(account), hex(deep)]),
            ("eth_getTransactionCount", [_hex(account), "latest"]),
            *(("eth_getTransactionReceipt", [_hex(one)]) for one in hashes),
            ("eth_getBlockByNumber", ["latest", False]),
        ]
        final, mined, *receipts, newest = await self._ask_all(asked)
        if newest is None or _number(_field(newest, "number")) < head:
            raise Unavailable("chain.behind", "The chain's node is behind another one that answered before.")
        return Seen(head, _number(mined), _number(final), tuple(_receipt(one) for one in receipts))

    async def fees(self) -> Fees:
        """See the port."""
        block, tip = await self._ask_all(
            [("eth_getBlockByNumber", ["latest", False]), ("eth_maxPriorityFeePerGas", [])]
        )
        return Fees(_number(_field(block, "baseFeePerGas", "0x0")), _number(tip))

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        message = {"from": _hex(sender), "data": _hex(data)} | ({"to": _hex(to)} if to else {})
        return _number(await self._ask("eth_estimateGas", message))

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """See the port."""
        at = "latest" if block is None else hex(block)
        return _bytes(await self._ask("eth_call", {"to": _hex(to), "data": _hex(data)}, at))

    async def submit(self, raw: bytes) -> None:
        """See the port."""
        try:
            await self._ask("eth_sendRawTransaction", _hex(raw))
        except InvalidInput as error:
            said = error.message.lower()
            if any(word in said for word in KNOWN):
                return
            if any(word in said for word in NOT_NOW):
                raise Conflict("chain.not_now", error.message) from error
            raise

    async def events(self, contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        """See the port. The node's newest block is asked for in the same batch: one that is behind knows fewer."""
        wanted = {
            "address": [_hex(contract) for contract in contracts],
            "topics": [[_hex(topic) for topic in topics]],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        try:
            newest, found = await self._ask_all([("eth_blockNumber", []), ("eth_getLogs", [wanted])])
        except InvalidInput as error:  # too many, in some node's words and code: what is asked is always well formed
            raise Unavailable("chain.refused", f"The chain's node gives no events: {error.message}") from error
        if _number(newest) < last:
            raise Unavailable("chain.behind", "The chain's node is behind another one that answered before.")
        return [_event(one) for one in _listed(found)]

    async def _ask(self, method: str, *params: object) -> Any:  # noqa: ANN401 - any JSON value
        (result,) = await self._ask_all([(method, list(params))])
        return result

    async def _ask_all(self, calls: Sequence[Call]) -> list[Any]:
        body = [
            {"jsonrpc": "2.0", "id": at, "method": method, "params": params}
            for at, (method, params) in enumerate(calls)
        ]
        try:
            data = await self._answer(msgspec.json.encode(body))
            listed = msgspec.json.decode(data, type=list[dict[str, Any]])
            by_id = {str(one["id"]): one for one in listed}
            return [_result(by_id[str(at)]) for at in range(len(calls))]
        except httpx2.HTTPStatusError as error:
            # Its own words name the address, which may hold the key of whoever asks.
            why = f"status {error.response.status_code}"
            raise Unavailable("chain.silent", f"The chain's node does not answer: {why}.", "Try again.") from None
        except (httpx2.HTTPError, *UNREADABLE, LookupError, TimeoutError) as error:
            raise Unavailable("chain.silent", f"The chain's node does not answer: {error!r}.", "Try again.") from error

    async def _answer(self, body: bytes) -> bytes:
        data, headers = bytearray(), {"Content-Type": "application/json"}
        async with (
            asyncio.timeout(ANSWER_S),
            self._client.stream("POST", self._url, content=body, headers=headers) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > ANSWER_BYTES_MAX:
                    raise Unavailable("chain.much", f"The chain's node answers more than {ANSWER_BYTES_MAX} bytes.")
        return bytes(data)


def _result(answer: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    if "error" not in answer:
        return answer.get("result")
    raise _error(answer["error"])


def _error(error: object) -> FallowError:
    message, data = str(_field(error, "message", "")), _field(error, "data", None)
    if _field(error, "code", None) == REVERTED or "revert" in message:
        return ContractRefused(_bytes(data) if isinstance(data, str) and data.startswith("0x") else b"", message)
    if _field(error, "code", None) == LIMIT or any(word in message.lower() for word in BEHIND):
        return Unavailable("chain.busy", f"The chain's node does not answer now: {message}.", "Try again.")
    return InvalidInput("chain.refused", message)


def _receipt(shape: object) -> Receipt | None:
    if shape is None or _field(shape, "blockNumber", None) is None:
        return None
    made = _field(shape, "contractAddress", None)
    return Receipt(
        transaction=_bytes(_field(shape, "transactionHash"), HASH_BYTES),
        block=_number(_field(shape, "blockNumber")),
        block_hash=_bytes(_field(shape, "blockHash"), HASH_BYTES),
        succeeded=_number(_field(shape, "status")) == 1,
        contract=_bytes(made, ADDRESS_BYTES) if made else b"",
    )


def _event(shape: object) -> Event:
    return Event(
        contract=_bytes(_field(shape, "address"), ADDRESS_BYTES),
        topics=tuple(_bytes(topic, WORD_BYTES) for topic in _listed(_field(shape, "topics"))),
        data=_bytes(_field(shape, "data")),
        block=_number(_field(shape, "blockNumber")),
        transaction=_bytes(_field(shape, "transactionHash"), HASH_BYTES),
        place=_number(_field(shape, "logIndex")),
    )


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _field(shape: object, name: str, *instead: object) -> object:
    """What an answer says under a name, or what stands there instead of nothing."""
    if not isinstance(shape, dict):
        raise _malformed(shape)
    if name not in shape and not instead:
        raise Unavailable("chain.malformed", f"The chain's node answers without {name}.", TRY_ANOTHER)
    return shape.get(name, *instead)


def _listed(said: object) -> list[object]:
    if not isinstance(said, list):
        raise _malformed(said)
    return said


def _number(said: object) -> int:
    if not isinstance(said, str) or not NUMBER.fullmatch(said):
        raise _malformed(said)
    return int(said, 16)


def _bytes(said: object, size: int | None = None) -> bytes:
    if not isinstance(said, str) or not BYTES.fullmatch(said) or size not in {None, len(said) // 2 - 1}:
        raise _malformed(said)
    return bytes.fromhex(said[2:])


def _malformed(said: object) -> Unavailable:
    return Unavailable("chain.malformed", f"The chain's node answers what is malformed: {said!r:.80}.", TRY_ANOTHER)
