"""A network that settles on a chain of others: its contracts, deposits, roots and governance there, by commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fallow.domain.identity import address
from fallow.domain.transactions import arguments_of, call_data
from fallow.domain.views.network import ContractsView
from fallow.domain.wallets import keccak
from tests.anvil import CHAIN_ID, Anvil, running_anvil
from tests.capability import require
from tests.engines import reachable_folder
from tests.network import BOUND, fallow, network, until_async

pytestmark = pytest.mark.xdist_group("contracts")

COIN = hex(10**18)
CHAIN = {"preset": "public", "chain_id": str(CHAIN_ID), "chain_depth": "2", "chain_settlement": "test"}


@pytest.fixture(scope="module", autouse=True)
def _npm() -> None:
    require("npm")


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    with running_anvil("--block-time", "0.2") as chain:
        yield chain


async def typed(*words: str | Path, **variables: str) -> Any:
    said = await fallow(*words, "--json", **variables)
    assert said.code == 0, said.err
    return json.loads(said.out)


def in_environment(settings: dict[str, str]) -> dict[str, str]:
    return {f"FALLOW_{name.upper()}": value for name, value in settings.items()}


async def deployed(data: Path, anvil: Anvil, settings: dict[str, str]) -> None:
    """`fallow chain deploy`, first without coin."""
    variables = in_environment(settings)
    poor = await fallow("chain", "deploy", "--data", data, **variables)
    assert (poor.code, "nsufficient funds" in poor.err) == (2, True), poor.err
    payer = re.search("(0x[0-9a-f]{40}) pays", poor.err)
    assert payer is not None, poor.err
    anvil.ask("anvil_setBalance", payer[1], COIN)
    made = await typed("chain", "deploy", "--data", data, **variables)
    assert made["chain_id"] == CHAIN_ID
    assert await typed("chain", "deploy", "--data", data, **variables) == made


@pytest.fixture
def data() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder / "data"


async def test_a_network_settles_on_a_chain_of_others(tmp_path: Path, data: Path, anvil: Anvil) -> None:
    settings = {**CHAIN, "chain_rpc": anvil.url}
    ports = {"http_port": "0", "bus_port": "0"}
    unmade = await fallow("up", "--data", data, **in_environment(settings | ports))
    assert (unmade.code, "fallow chain deploy" in unmade.err) == (1, True), unmade.err
    await deployed(data, anvil, settings)
    async with network(data, None, **settings) as net:
        shown = await net.operator.network()
        assert (shown.chain_id, shown.chain_url) == (CHAIN_ID, "")
        buyer = await net.new_buyer()
        key = tmp_path / "account.key"
        his = {"FALLOW_URL": net.running.url, "FALLOW_API_KEY": buyer.key, "FALLOW_ACCOUNT_KEY": str(key)}
        account = (await typed("wallet", "new", **his))["account"]
        refused = await fallow("wallet", "balance", **his)
        assert (refused.code, "fallow wallet use 31337" in refused.err) == (1, True)
        his |= {"FALLOW_WALLET_CHAIN": str(CHAIN_ID), "FALLOW_WALLET_RPC": anvil.url}
        anvil.ask("anvil_setBalance", account, COIN)
        await typed("chain", "give", account, "12.5", "--data", data)
        await typed("wallet", "deposit", "10", **his)

        async def credited() -> bool:
            return (await buyer.client.balance()).spendable["paid"] == 10_000_000

        await until_async(credited, "the deposit is credits")
        await typed("wallet", "withdraw", "4", **his)
        closed = await net.operator.end_epoch()

        async def on_chain() -> bool:
            return (await typed("chain", "show", **his))["parameters"]["distributor"]["lastEpoch"] == str(closed.epoch)

        await until_async(on_chain, "the root of the epoch is on the chain", every=0.5)
        assert (await typed("chain", "withdraw-root", str(closed.epoch), "--data", data))["succeeded"]
        after = await typed("chain", "show", **his)
        assert after["parameters"]["distributor"]["revision"] == "1"
        assert after["parameters"]["distributor"]["deposited"] == "10000000"
        assert after["pending"] == []
        await waiting_changes_are_shown(anvil, data, shown.contracts, his)
        await a_change_is_announced_and_carried_out(anvil, data, his)
        again = await fallow("chain", "withdraw-root", str(closed.epoch), "--data", data)
        assert (again.code, "root.refused" in again.err) == (1, True)


async def governance(data: Path, url: str) -> Any:
    """What the operator's page is told."""
    key = json.loads((data / "secrets" / "first-keys.json").read_text())["operator_key"]
    async with httpx2.AsyncClient(timeout=BOUND) as client:
        answer = await client.get(f"{url}/v1/operator/governance", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def waiting_changes_are_shown(
    anvil: Anvil, data: Path, contracts: ContractsView | None, his: dict[str, str]
) -> None:
    """The operator speaks to the timelock: a change waits, and is gone when it is cancelled."""
    assert contracts is not None
    change = call_data("setGuardian(address)", b"\x11" * 20)
    scheduled = (address(contracts.distributor), 0, change, bytes(32), bytes(32))
    anvil.ask("anvil_impersonateAccount", contracts.operator)

    def send(data: bytes) -> None:
        sent = {"from": contracts.operator, "to": contracts.timelock, "data": "0x" + data.hex()}
        anvil.ask("eth_sendTransaction", sent)

    async def pending(count: int) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []

        async def there() -> bool:
            found[:] = (await typed("chain", "show", **his))["pending"]
            return len(found) == count

        await until_async(there, f"{count} changes wait", every=0.3)
        return found

    send(call_data("schedule(address,uint256,bytes,bytes32,bytes32,uint256)", *scheduled, 2 * 86_400))
    (waiting,) = await pending(1)
    assert (waiting["contract"], waiting["call"]) == ("distributor", "setGuardian(address)")
    assert waiting["data"] == "0x" + change.hex()
    shown = await governance(data, his["FALLOW_URL"])
    (seen,) = shown["pending"]
    assert {name: seen[name] for name in ("id", "contract", "call", "data")} == {
        name: waiting[name] for name in ("id", "contract", "call", "data")
    }
    assert f"{datetime.fromtimestamp(seen['ready_at'] / 1000, UTC):%Y-%m-%d %H:%M:%S}" == waiting["ready"]
    assert shown["parameters"] == (await typed("chain", "show", **his))["parameters"]
    send(call_data("cancel(bytes32)", keccak(arguments_of("(address,uint256,bytes,bytes32,bytes32)", *scheduled))))
    await pending(0)


async def a_change_is_announced_and_carried_out(anvil: Anvil, data: Path, his: dict[str, str]) -> None:
    """By the operator's commands: two are announced, one is given up, and the other holds after its time."""
    change = ("distributor", "epochMintMax", str(10**22))
    first = await typed("chain", "schedule", *change, "--id", "first", "--data", data)
    assert await typed("chain", "schedule", *change, "--id", "first", "--data", data) == first
    other = await typed("chain", "schedule", "vault", "delays", "2000000", "1000000", "--data", data)
    waiting = (await typed("chain", "show", **his))["pending"]
    assert {one["id"] for one in waiting} == {first["id"], other["id"]}
    early = await fallow("chain", "execute", first["id"], "--data", data)
    assert (early.code, "timelock.refused" in early.err) == (1, True), early.err
    await typed("chain", "cancel", other["id"], "--data", data)
    anvil.ask("evm_increaseTime", 2 * 86_400 + 1)
    anvil.ask("evm_mine")
    await typed("chain", "execute", first["id"][:10], "--data", data)
    after = await typed("chain", "show", **his)
    assert (after["parameters"]["distributor"]["epochMintMax"], after["pending"]) == (str(10**22), [])


async def test_a_chain_that_is_another_one_is_not_settled_on(data: Path, anvil: Anvil) -> None:
    variables = in_environment({**CHAIN, "chain_id": "1"})
    wrong = await fallow("chain", "deploy", "--data", data, FALLOW_CHAIN_RPC=anvil.url, **variables)
    assert (wrong.code, "chain.other" in wrong.err) == (1, True), wrong.err
    plain = await fallow("chain", "deploy", "--data", data, FALLOW_CHAIN_RPC="http://rpc.example", **variables)
    assert (plain.code, "chain.settings" in plain.err) == (2, True)
