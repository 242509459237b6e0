"""The embedded chain: what it takes, what it mines, what it answers, and that its log leads to the same state again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.machine import BLOCK_GAS_MAX, PyEvm
from fallow.domain.chains import chain_id_of
from fallow.domain.errors import Conflict, InvalidInput, TooMuch
from fallow.services.devchain.pool import SENDER_MAX, WAITING_MAX, Pool
from fallow.services.devchain.rpc import ANSWER_BYTES_MAX, BATCH_MAX, CALL_GAS, PERCENTILES_MAX, Rpc
from fallow.services.devchain.service import DevChain
from tests.evm_accounts import Holder, call_data, requests
from tests.unit.agent_fakes import FakeClock

CHAIN_ID = 777_777
OWNER, OTHER = Holder(CHAIN_ID, 1), Holder(CHAIN_ID, 2)
MINT = "mint(address,uint256)"


class MemoryLog:
    """The log port in memory; another chain may go on from what it holds."""

    def __init__(self, kept: list[bytes] | None = None) -> None:
        self.kept = kept if kept is not None else []

    def entries(self) -> Iterator[bytes]:
        """See the port."""
        yield from list(self.kept)

    def append(self, entry: bytes) -> None:
        """See the port."""
        self.kept.append(entry)


class World:
    """A chain, its clock, and its JSON-RPC."""

    def __init__(self, log: Any = None) -> None:
        self.log = log or MemoryLog()
        self.clock = FakeClock()
        self.chain = DevChain(
            chain_id=CHAIN_ID, machine=PyEvm(CHAIN_ID), log=self.log, clock=self.clock, block_gas_max=BLOCK_GAS_MAX
        )
        self.chain.replay()
        self.rpc = Rpc(self.chain, "1", makes_contracts=True)
        self.door = Rpc(self.chain, "1", makes_contracts=False)

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a request, or its error."""
        (answer,) = json.loads(self.rpc.answer(requests((method, *params))))
        return answer.get("result", answer.get("error"))

    async def mine(self, *raws: bytes) -> list[Any]:
        """Send transactions, let the next block's second come, and return their receipts."""
        async with self.chain.running():
            hashes = ["0x" + self.chain.send(raw).hex() for raw in raws]
            await self.clock.advance(1)
        return [self.ask("eth_getTransactionReceipt", one) for one in hashes]


async def with_token(world: World) -> str:
    """Deploy the token, which its owner may mint."""
    (made,) = await world.mine(OWNER.token())
    await world.mine(OWNER.send(1, unhex(made["contractAddress"]), call_data("setMinter(address)", OWNER.address)))
    return str(made["contractAddress"])


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


async def test_a_real_contract_lives_on_it() -> None:
    world = World()
    token = await with_token(world)
    before = int(world.ask("eth_blockNumber"), 16)
    mint = [OWNER.send(2 + at, unhex(token), call_data(MINT, OTHER.address, 5)) for at in range(3)]
    receipts = await world.mine(*mint)
    assert {one["status"] for one in receipts} == {"0x1"}
    assert {one["blockNumber"] for one in receipts} == {hex(before + 1)}
    balance = "0x" + call_data("balanceOf(address)", OTHER.address).hex()
    assert int(world.ask("eth_call", {"to": token, "data": balance}, "latest"), 16) == 15
    assert int(world.ask("eth_call", {"to": token, "data": balance}, hex(before)), 16) == 0
    transfers = world.ask("eth_getLogs", {"address": token, "fromBlock": hex(before + 1), "toBlock": "0xffff"})
    assert [log["logIndex"] for log in transfers] == ["0x0", "0x1", "0x2"]
    block = world.ask("eth_getBlockByNumber", "latest", True)
    assert [one["hash"] for one in block["transactions"]] == [one["transactionHash"] for one in receipts]
    assert block["hash"] == world.ask("eth_getBlockByHash", block["hash"])["hash"]


async def test_what_a_contract_refuses_is_mined_as_failed_and_said_by_calls() -> None:
    world = World()
    token = await with_token(world)
    data = call_data(MINT, OTHER.address, 5)
    (receipt,) = await world.mine(OTHER.send(0, unhex(token), data))
    assert receipt["status"] == "0x0"
    assert receipt["logs"] == []
    call = {"from": "0x" + OTHER.address.hex(), "to": token, "data": "0x" + data.hex()}
    refusal = "0x" + call_data("NotMinter(address)", OTHER.address).hex()
    for method in ("eth_call", "eth_estimateGas"):
        error = world.ask(method, call)
        assert (error["code"], error["data"]) == (3, refusal)


async def test_its_log_leads_to_the_same_chain_again() -> None:
    world = World()
    token = await with_token(world)
    await world.mine(*(OWNER.send(2 + at, unhex(token), call_data(MINT, OTHER.address, at)) for at in range(5)))
    again = World(MemoryLog(world.log.kept))
    assert again.chain.blocks == world.chain.blocks
    again.clock.ms = world.clock.ms
    assert again.ask("eth_getTransactionCount", "0x" + OWNER.address.hex(), "latest") == "0x7"
    (receipt,) = await again.mine(OWNER.send(7, unhex(token), call_data(MINT, OTHER.address, 1)))
    assert receipt["status"] == "0x1"


async def test_a_log_that_leads_elsewhere_is_not_served() -> None:
    world = World()
    await world.mine(OWNER.token())
    twisted = world.log.kept[0][:-1] + bytes([world.log.kept[0][-1] ^ 1])
    with pytest.raises(Conflict, match=r"chain\.diverged"):
        World(MemoryLog([twisted]))


async def test_a_block_that_could_not_be_written_is_never_shown() -> None:
    """Or a wallet would take its nonce as used, by what the next start knows nothing of."""

    class FullDisk(MemoryLog):
        """Takes nothing."""

        def append(self, entry: bytes) -> None:
            raise OSError(28, f"No space left for {len(entry)} bytes")

    world = World(FullDisk())
    with pytest.raises(ExceptionGroup):
        await world.mine(OWNER.token())
    for method, *params in (("eth_blockNumber",), ("eth_getTransactionCount", "0x" + OWNER.address.hex(), "latest")):
        assert world.ask(method, *params)["code"] == -32005


async def test_the_same_transaction_again_changes_nothing() -> None:
    world = World()
    raw = OWNER.token()
    first, again = world.ask("eth_sendRawTransaction", "0x" + raw.hex()), world.chain.send(raw)
    assert first == "0x" + again.hex()
    assert world.ask("eth_getTransactionByHash", first)["blockHash"] is None
    assert world.ask("eth_getTransactionCount", "0x" + OWNER.address.hex(), "pending") == "0x1"
    await world.mine(raw)
    assert world.chain.send(raw) == again
    assert [len(block.outcomes) for block in world.chain.blocks] == [0, 1]
    assert world.ask("eth_getTransactionByHash", first)["blockNumber"] == "0x1"


async def test_nonces_are_mined_in_their_order_and_never_twice() -> None:
    world = World()
    sent = [OWNER.send(nonce, OTHER.address, b"") for nonce in range(3)]
    world.chain.send(sent[2])
    assert world.chain.nonce(OWNER.address, pending=True) == 0
    receipts = await world.mine(sent[1], sent[0])
    assert [one["status"] for one in receipts] == ["0x1", "0x1"]
    assert world.chain.nonce(OWNER.address, pending=False) == 3
    with pytest.raises(InvalidInput, match="nonce too low"):
        world.chain.send(OWNER.send(2, OTHER.address, b"other"))


async def test_a_block_waits_for_its_second() -> None:
    world = World()
    async with world.chain.running():
        for nonce in range(3):
            world.chain.send(OWNER.send(nonce, OTHER.address, b""))
            await world.clock.advance(0.2)
        assert [len(block.outcomes) for block in world.chain.blocks] == [0, 1]
        await world.clock.advance(1)
    assert [len(block.outcomes) for block in world.chain.blocks] == [0, 1, 2]
    times = [block.timestamp_s for block in world.chain.blocks]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (Holder(1).send(0, OTHER.address, b""), "another chain"),
        (OWNER.send(0, OTHER.address, b"", maxFeePerGas=1), "no coin"),
        (OWNER.send(0, OTHER.address, b"", gasPrice=7), "no coin"),
        (OWNER.send(0, OTHER.address, b"", value=1), "no coin"),
        (OWNER.send(0, OTHER.address, b"", gas=20_999), "gas must be"),
        (OWNER.send(0, OTHER.address, b"", gas=BLOCK_GAS_MAX + 1), "gas must be"),
        (OWNER.send(SENDER_MAX, OTHER.address, b""), "nonce too high"),
        (OWNER.send(0, OTHER.address, b"") + b"\0", "superfluous"),
        (b"", "no transaction"),
        (b"\x03\xc0", "no transaction"),
    ],
)
def test_what_can_never_be_mined_is_refused_at_the_door(raw: bytes, says: str) -> None:
    world = World()
    with pytest.raises(InvalidInput, match=says):
        world.chain.send(raw)
    assert world.ask("eth_sendRawTransaction", "0x" + raw.hex())["code"] in {-32000, -32602}


def test_legacy_transactions_of_this_chain_are_taken() -> None:
    assert World().chain.send(OWNER.send(0, OTHER.address, b"", gasPrice=0))


def test_the_pool_is_bounded_and_takes_one_for_each_nonce() -> None:
    machine, pool = PyEvm(CHAIN_ID), Pool()
    first = machine.decode(OWNER.send(0, OTHER.address, b""))
    pool.add(first, unused)
    pool.add(first, unused)
    with pytest.raises(Conflict, match=r"chain\.replacement"):
        pool.add(first._replace(hash=b"other"), unused)
    for number in range(1, WAITING_MAX):
        pool.add(first._replace(sender=number.to_bytes(20), hash=number.to_bytes(32)), unused)
    with pytest.raises(TooMuch):
        pool.add(first._replace(sender=b"one more"), unused)
    assert pool.take(lambda _: 0, first.gas * 3) == [first, *pool_of(first, 1, 2)]
    assert len(pool) == WAITING_MAX - 3


def test_what_waits_behind_a_gap_keeps_nobody_out() -> None:
    """Keys cost nothing: whoever leaves out the first nonce of some could fill the pool for ever."""
    first, pool = PyEvm(CHAIN_ID).decode(OWNER.send(0, OTHER.address, b"")), Pool()
    pool.add(first, unused)
    for number in range(1, WAITING_MAX):
        pool.add(first._replace(sender=number.to_bytes(20), hash=number.to_bytes(32), nonce=1), unused)
    assert pool.take(unused, 0) == []
    late = first._replace(sender=b"late")
    pool.add(late, unused)
    assert pool.take(unused, first.gas * 3) == [first, late]
    assert len(pool) == 0


def unused(_: bytes) -> int:
    return 0


LOOP = bytes.fromhex("5b600056")
"""JUMPDEST, and back to it."""


async def test_strangers_run_no_code_of_their_own() -> None:
    world = World()
    token = await with_token(world)
    refused = [
        ("eth_sendRawTransaction", "0x" + OTHER.token().hex()),
        ("eth_sendRawTransaction", "0x" + OTHER.send(0, bytes(19) + b"\x08", b"").hex()),
        *((method, {"data": "0x" + LOOP.hex()}) for method in ("eth_call", "eth_estimateGas")),
        *((method, {"to": "0x" + "00" * 19 + "08"}) for method in ("eth_call", "eth_estimateGas")),
    ]
    answers = json.loads(world.door.answer(requests(*refused)))
    assert {one["error"]["code"] for one in answers} == {-32000}
    assert not len(world.chain.pool)
    asked = {"to": token, "data": "0x" + call_data("totalSupply()").hex()}
    (supply,) = json.loads(world.door.answer(requests(("eth_call", asked))))
    assert int(supply["result"], 16) == 0


def test_no_code_runs_longer_than_a_call_may() -> None:
    gas: list[int] = []

    class Counting(PyEvm):
        """Notes with how much gas py-evm runs something."""

        def _spoof(self, message: Any) -> Any:
            gas.append(message.gas)
            return super()._spoof(message._replace(gas=60_000))

    world = World()
    world.chain.machine = Counting(CHAIN_ID)
    for method in ("eth_call", "eth_estimateGas"):
        assert world.ask(method, {"data": "0x" + LOOP.hex(), "gas": "0xffffffff"})["code"] == 3
    assert gas == [CALL_GAS, CALL_GAS]


def test_answers_are_bounded_whatever_is_asked_for() -> None:
    world = World()
    many = world.ask("eth_feeHistory", "0x400", "latest", [0] * (PERCENTILES_MAX + 1))
    assert many["code"] == -32005
    world.chain.blocks[0] = world.chain.blocks[0]._replace(bloom=bytes(ANSWER_BYTES_MAX // 5))
    answers = json.loads(world.rpc.answer(requests(*[("eth_getBlockByNumber", "0x0")] * 5)))
    assert [one.get("error", {}).get("code") for one in answers] == [None, None, None, -32005, -32005]
    assert [one["id"] for one in answers] == list(range(5))


def test_each_request_of_a_batch_counts() -> None:
    taken: list[int] = []
    World().rpc.answer(requests(*[("eth_chainId",)] * 7), taken.append)
    assert taken == [6]


@pytest.mark.parametrize("nested", ["[" * 400_000, '{"id":' * 100_000, '{"method":"eth_call","params":[{},' * 10_000])
def test_what_is_nested_deeply_is_answered(nested: str) -> None:
    assert json.loads(World().rpc.answer(nested.encode()))["error"]["code"] == -32700


def test_what_is_no_text_is_answered() -> None:
    assert json.loads(World().rpc.answer(b'{"method": "\xff"}'))["error"]["code"] == -32700


def test_an_id_is_a_scalar_and_a_tag_ends() -> None:
    tag = '{"blockNumber":' * 3_000 + '"latest"' + "}" * 3_000
    body = f'{{"id":{"[" * 3_000}{"]" * 3_000},"method":"eth_getBlockByNumber","params":[{tag}]}}'
    answer = json.loads(World().rpc.answer(body.encode()))
    assert answer["id"] is None


def pool_of(first: Any, *numbers: int) -> list[Any]:
    return [first._replace(sender=number.to_bytes(20), hash=number.to_bytes(32)) for number in numbers]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.sampled_from(["0x", "0x1", "latest"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["to", "data", "topics"]), inner),
    max_leaves=8,
)
WORLD = World()


@given(st.sampled_from(sorted(WORLD.rpc._methods)), st.lists(json_values, max_size=4) | json_values)
def test_any_request_gets_an_answer(method: str, params: Any) -> None:
    body = json.dumps({"id": 7, "method": method, "params": params}).encode()
    answer = json.loads(WORLD.rpc.answer(body))
    assert answer["id"] == 7
    assert len({"result", "error"} & set(answer)) == 1


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_gets_an_answer(body: bytes) -> None:
    assert json.loads(WORLD.rpc.answer(body))


def test_batches_are_bounded() -> None:
    body = requests(*[("eth_chainId",)] * (BATCH_MAX + 1))
    assert json.loads(World().rpc.answer(body))["error"]["code"] == -32600


def test_chain_numbers_are_those_that_javascript_counts() -> None:
    assert {1 << 40 <= chain_id_of(f"public-{at}") < 1 << 53 for at in range(100)} == {True}
    assert chain_id_of("a") != chain_id_of("b")


def filled(path: Path, *entries: bytes) -> bytes:
    log = BlockLog(path)
    assert list(log.entries()) == []
    for entry in entries:
        log.append(entry)
    log.close()
    return path.read_bytes()


def read(path: Path) -> list[bytes]:
    log = BlockLog(path)
    try:
        return list(log.entries())
    finally:
        log.close()


def test_a_log_ends_where_its_last_whole_entry_does(tmp_path: Path) -> None:
    """Whatever a crash left of the last entry, zeros of a file system included, is cut off, and writing goes on."""
    path = tmp_path / "log"
    whole = filled(path, b"one", b"two" * 50)
    ends = len(whole) - 48 + 8 - 150
    for size in range(ends, len(whole)):
        path.write_bytes(whole[:size])
        assert read(path) == [b"one"]
        assert path.stat().st_size == ends
    path.write_bytes(whole + bytes(100))
    assert read(path) == [b"one", b"two" * 50]
    log = BlockLog(path)
    assert len(list(log.entries())) == 2
    log.append(b"three")
    log.close()
    assert read(path) == [b"one", b"two" * 50, b"three"]


def test_a_log_whose_disk_was_full_for_a_moment_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, wrote = tmp_path / "log", os.pwrite
    log = BlockLog(path)
    log.append(b"one")

    def half(handle: int, raw: bytes, at: int) -> int:
        wrote(handle, raw[: len(raw) // 2], at)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            log.append(b"two" * 500)
    log.append(b"three")
    log.close()
    assert read(path) == [b"one", b"three"]


def test_a_log_in_which_any_bit_flipped_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = filled(path, b"one", b"two")
    for place in range(len(whole)):
        twisted = bytearray(whole)
        twisted[place] ^= 4
        path.write_bytes(twisted)
        with pytest.raises(InvalidInput, match=r"chain\.log_damaged"):
            read(path)
        assert path.read_bytes() == twisted
