"""From a deposit to a provider's wallet, on a network of its own chain: as people type it, with kills on the way."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fallow.adapters.evm.rpc import connect_chain
from fallow.domain.identity import address
from fallow.domain.transactions import topic
from tests.dying import SENDING
from tests.network import Agent, Buyer, Net, fallow, network, until, until_async
from tests.programs import SECOND
from tools import verify_epoch

SUBMITTED = topic("RootSubmitted(uint64,bytes32,bytes32,uint96,uint96,uint40)")


class Person:
    """Somebody with a key on the chain, and maybe a key of the network."""

    def __init__(self, net: Net, key: Path, api_key: str) -> None:
        self._variables = {"FALLOW_URL": net.url, "FALLOW_API_KEY": api_key, "FALLOW_ACCOUNT_KEY": str(key)}

    async def types(self, *words: str | Path) -> Any:
        """What a command answers; it must succeed."""
        said = await fallow(*words, "--json", **self._variables)
        assert said.code == 0, said.err
        return json.loads(said.out)

    async def due(self, *words: str) -> tuple[int, int, int]:
        """Pending, claimable and claimed units of the settlement asset, by `fallow claim`."""
        (account,) = (await self.types("claim", *words))["accounts"]
        asset = account["assets"][0]
        return int(asset["pending"]), int(asset["claimable"]), int(asset["claimed"])


async def bind(net: Net, provider: Person, home: Path) -> str:
    """Ask a machine that has not joined yet for its name, and sign for it; returns the code."""
    account = (await provider.types("account", "new"))["account"]
    machine = ["agent", "join", net.url, "--token", net.running.welcome["join_token"], "--yes", "--no-start"]
    told = await fallow(*machine, "--home", home, "--account", account)
    typed = re.search(r"fallow (account bind [0-9a-f]{64} --net \S+)", told.err)
    assert typed is not None, told.err
    code: str = (await provider.types(*typed[1].split()))["code"]
    return code


async def paid_work(net: Net, buyer: Buyer) -> None:
    """Have a second of work done for paid credits."""
    order = await net.submit([SECOND // 20], client=buyer.client)

    async def done() -> bool:
        return (await buyer.client.job(order.id)).state == "done"

    await until_async(done, "the job is done")


async def closed(net: Net, earned: int, agent: Agent) -> int:
    """Close an epoch once all that was earned is among its records."""

    async def all_is_sealed() -> bool:
        (row,) = await net.fetch("SELECT count(*) AS waiting FROM outbox.decision")
        balance = await net.operator.balance_of(agent.account)
        return row["waiting"] == 0 and balance.earned["paid"] > earned

    await until_async(all_is_sealed, "what was decided is among the records")
    return (await net.operator.closed_epoch((await net.operator.end_epoch()).epoch)).epoch


async def on_chain(net: Net, epoch: int) -> bool:
    published = (await net.operator.votes(epoch)).published
    return published is not None and bool(published.root)


async def answers(net: Net) -> int:
    """Number of the newest block."""
    async with connect_chain((await net.operator.network()).chain_url) as chain:
        return await chain.head()


async def roots(net: Net) -> list[int]:
    """Epochs of all roots that the contract ever took."""
    view = await net.operator.network()
    assert view.contracts is not None
    async with connect_chain(view.chain_url) as chain:
        last = await chain.head()
        events = await chain.events([address(view.contracts.distributor)], [SUBMITTED], view.contracts.block, last)
    return [int.from_bytes(event.topics[1]) for event in events]


async def test_a_buyers_deposit_ends_in_a_providers_wallet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    async with network(steps=steps, preset="public", chain_port="0", activation_s="0", gateway_stake_min="7") as net:
        account = await net.new_buyer(0)
        buyer = Person(net, tmp_path / "buyer.key", account.key)
        wallet = (await buyer.types("wallet", "new"))["account"]
        await buyer.types("chain", "give", wallet, "5", "--data", net.data)
        await buyer.types("wallet", "deposit", "5")
        (gateway,) = await buyer.types("storage", "gateways")
        assert (gateway["owner"], gateway["staked_units"]) == ("", "0"), "the operator's word alone"
        assert gateway["least_units"] == str(7 * 10**18), "and he wants more"

        async def credited() -> bool:
            return (await account.client.balance()).spendable["paid"] == 5_000_000

        await until_async(credited, "the deposit is paid credits")
        provider = Person(net, tmp_path / "provider.key", net.running.welcome["operator_key"])
        code = await bind(net, provider, tmp_path / "barn")
        async with net.agent("barn", folder=str(tmp_path / "barn"), price=5, options=["--account", code]) as barn:
            assert await provider.due() == (0, 0, 0)
            await paid_work(net, account)
            for step in SENDING:
                (steps / step).touch()
            epoch = await closed(net, 0, barn)
            await until(lambda: not list(steps.iterdir()), "the chain's process has died at each step")
            await until_async(partial(on_chain, net, epoch), "the root is on the chain")
            await until_async(partial(answers, net), "the chain is there again")
            assert await roots(net) == [epoch]
            pending, owed, claimed = await provider.due()
            assert (pending, claimed) == (0, 0)
            assert owed > 0

            await paid_work(net, account)
            later = await closed(net, 0, barn)
            await until_async(partial(on_chain, net, later), "the next root is on the chain")
        _, more, _ = await provider.due()
        assert more > owed, "sums are cumulative: the newest root has all of it"

        done = await provider.types("claim", "--all")
        assert (len(done["transactions"]), done["balance"]["settlement"]) == (1, str(more))
        again = await provider.types("claim", "--all")
        assert (again["transactions"], again["balance"]) == ([], done["balance"])
        assert await provider.due("--account", barn.account) == (0, 0, more)
        network_view = await net.operator.network()
        assert network_view.contracts is not None
        claim = ["--claim", barn.account, network_view.contracts.settlement]
        words = [net.url, str(later), "--key", network_view.public_key, "--rpc", network_view.chain_url]
        assert verify_epoch.main([*words, *claim]) == 0
        assert f"is owed {more} in all, was paid {more}" in capsys.readouterr().out
