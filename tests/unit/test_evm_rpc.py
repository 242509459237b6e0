"""What nodes answer, and what the chain port says of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fallow.adapters.evm.rpc import ANSWER_BYTES_MAX, EvmRpc
from fallow.domain.errors import Conflict, FallowError, InvalidInput, Unavailable
from fallow.ports.chain import ContractRefused


async def submitted(error: dict[str, Any] | None, status: int = 200, body: bytes | None = None) -> None:
    """Hand in a transaction to a node that answers so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        (asked,) = json.loads(request.content)
        said = {"jsonrpc": "2.0", "id": asked["id"]} | ({"error": error} if error else {"result": "0x"})
        return httpx2.Response(status, content=json.dumps([said]).encode() if body is None else body)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        await EvmRpc(client, "http://node/key-of-ours").submit(b"\x02")


@pytest.mark.parametrize("said", ["already known", "ALREADY known", "transaction already imported"])
async def test_what_a_node_has_already_is_taken(said: str) -> None:
    await submitted({"code": -32000, "message": said})


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (-32000, "nonce too low: next nonce 5, tx nonce 4", Conflict),
        (-32000, "replacement transaction underpriced", Conflict),
        (-32000, "max fee per gas less than block base fee", Conflict),
        (-32000, "insufficient funds for gas * price + value", InvalidInput),
        (-32000, "header not found", Unavailable),
        (-32005, "limit exceeded", Unavailable),
        (3, "execution reverted", ContractRefused),
    ],
)
async def test_refusals_are_told_apart(code: int, said: str, kind: type[FallowError]) -> None:
    with pytest.raises(FallowError) as refused:
        await submitted({"code": code, "message": said})
    assert type(refused.value) is kind


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, None),
        (502, b"<html>"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'[{"id":0,"result":"\xff"}]'),
        (200, b'[{"id":0,"result":' + NESTED + b"}]"),
    ],
)
async def test_what_is_no_answer_says_nothing_about_a_transaction(status: int, body: bytes | None) -> None:
    with pytest.raises(Unavailable) as refused:
        await submitted(None, status, body)
    assert "key-of-ours" not in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-32005, "query returned more than 10000 results"),
        (-32602, "query exceeds max results 20000, retry with the range 1-9"),
        (-32600, "block range is too wide"),
        (-32000, "exceed maximum block range: 5000"),
    ],
)
async def test_a_node_that_has_too_many_events_for_one_answer_is_asked_for_fewer(code: int, said: str) -> None:
    """Nodes share no code for it. Whoever fills blocks with events would otherwise keep all later ones out."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        results: dict[str, Any] = {
            "eth_blockNumber": {"result": "0x9"},
            "eth_getLogs": {"error": {"code": code, "message": said}},
        }
        return httpx2.Response(
            200, json=[{"id": one["id"]} | results[one["method"]] for one in json.loads(request.content)]
        )

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        with pytest.raises(Unavailable, match=r"chain\.(busy|refused)"):
            await EvmRpc(client, "http://node/").events([bytes(20)], [bytes(32)], 1, 9)


async def test_a_node_that_is_behind_has_no_say_about_events() -> None:
    """What it leaves out would be taken for what never was."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        results = {"eth_blockNumber": "0x9", "eth_getLogs": []}
        said = [{"id": one["id"], "result": results[one["method"]]} for one in json.loads(request.content)]
        return httpx2.Response(200, json=said)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        node = EvmRpc(client, "http://node/")
        assert await node.events([bytes(20)], [bytes(32)], 1, 9) == []
        with pytest.raises(Unavailable, match=r"chain\.behind"):
            await node.events([bytes(20)], [bytes(32)], 1, 10)


async def test_an_answer_without_an_end_is_read_up_to_a_bound() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 20
            yield b" " * (1 << 20)

    async with httpx2.AsyncClient(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=endless()))
    ) as client:
        with pytest.raises(Unavailable, match=r"chain\.much"):
            await EvmRpc(client, "http://node/").head()
    assert sent <= ANSWER_BYTES_MAX + (2 << 20)


HASH, ADDRESS = "0x" + "ab" * 32, "0x" + "cd" * 20
LOG = {
    "address": ADDRESS,
    "topics": [HASH],
    "data": "0x",
    "blockNumber": "0x2",
    "transactionHash": HASH,
    "logIndex": "0x0",
}
RECEIPT = {"transactionHash": HASH, "blockNumber": "0x2", "blockHash": HASH, "status": "0x1", "contractAddress": None}
SOUND: dict[str, Any] = {
    "eth_chainId": "0x1",
    "eth_blockNumber": "0x9",
    "eth_getTransactionCount": "0x1",
    "eth_getTransactionReceipt": RECEIPT,
    "eth_getBlockByNumber": {"number": "0x9", "baseFeePerGas": "0x7"},
    "eth_maxPriorityFeePerGas": "0x1",
    "eth_estimateGas": "0x5208",
    "eth_call": "0x",
    "eth_getLogs": [LOG],
}


async def ask_everything(answers: dict[str, Any]) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        said = [{"id": one["id"], "result": answers[one["method"]]} for one in json.loads(request.content)]
        return httpx2.Response(200, json=said)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        node = EvmRpc(client, "http://node/")
        await node.chain_id()
        await node.look(bytes(20), [bytes(32)], 2)
        await node.fees()
        await node.estimate(bytes(20), b"", b"")
        await node.call(bytes(20), b"")
        await node.events([bytes(20)], [bytes(32)], 1, 9)


async def test_what_is_sound_is_read() -> None:
    await ask_everything(SOUND)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        *((method, said) for method in SOUND for said in ([7], "", "-0x1", "0x1_0", "0xzz", True)),
        *((method, None) for method in SOUND.keys() - {"eth_getTransactionReceipt", "eth_getBlockByNumber"}),
        *(("eth_getLogs", [{name: each for name, each in LOG.items() if name != left}]) for left in LOG),
        *(("eth_getLogs", [LOG | {name: "0x0g"}]) for name in LOG),
        ("eth_getLogs", [LOG | {"address": HASH}]),
        ("eth_getLogs", [LOG | {"topics": ["0x00"]}]),
        ("eth_getLogs", [LOG | {"blockNumber": "0x" + "f" * 65}]),
        *(
            ("eth_getTransactionReceipt", {name: each for name, each in RECEIPT.items() if name != left})
            for left in ("transactionHash", "blockHash", "status")
        ),
        *(("eth_getTransactionReceipt", RECEIPT | {name: [1]}) for name in RECEIPT),
        ("eth_getBlockByNumber", {}),
        ("eth_getBlockByNumber", None),
        ("eth_getBlockByNumber", {"number": "0x9", "baseFeePerGas": None}),
    ],
)
async def test_what_is_malformed_is_told_in_words(method: str, said: object) -> None:
    with pytest.raises(Unavailable, match=r"chain\.(malformed|behind)"):
        await ask_everything(SOUND | {method: said})


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "no"},
        {"error": None},
        {"error": {"code": 3, "message": "execution reverted", "data": "0xzz"}},
        {"error": {"code": [], "message": {}, "data": []}},
        {"id": []},
    ],
)
async def test_malformed_errors_are_told_in_words(answer: dict[str, Any]) -> None:
    said = httpx2.Response(200, json=[{"id": 0} | answer])
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: said)) as client:
        with pytest.raises(FallowError):
            await EvmRpc(client, "http://node/").head()
