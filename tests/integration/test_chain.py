"""The embedded chain as its own process, which is killed: what it answered stays so, what it lost is sent again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from coincurve import PrivateKey

from fallow.adapters.engines import launch
from fallow.adapters.engines.folders import write_private
from fallow.bootstrap.chains import chain_of
from fallow.bootstrap.contracts import read_contracts
from fallow.bootstrap.keys import load_keys
from fallow.bootstrap.listening import free_port
from fallow.bootstrap.place import ChainPlace, Place, read_place, write_place
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.up import roles_of
from fallow.domain.chains import chain_id_of
from fallow.domain.epochs.manifest import RECORDS
from fallow.domain.identity import address, address_text
from fallow.domain.wallets import address_of
from tests.engines import child_environment
from tests.evm_accounts import Holder, call_data, requests
from tests.network import BOUND, Net, fallow, network, until, until_async

NET = "public-test"
OWNER, OTHER = Holder(chain_id_of(NET), 1), Holder(chain_id_of(NET), 2)


class Role:
    """`fallow serve --role chain` on a folder, and requests to it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._ready = data / "chain.ready"
        self._port = 0

    def take_key(self, number: int) -> None:
        """Let the operator's key be this one."""
        write_private(self.data / "secrets" / "chain.key", number.to_bytes(32).hex() + "\n")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it; it is killed at the end."""
        self._ready.unlink(missing_ok=True)
        settings = self.data / "effective-settings.json"
        mortal = [launch.__file__, "--parent", str(os.getpid()), "--signal", str(int(signal.SIGKILL)), "--"]
        program = [sys.executable, "-m", "fallow.bootstrap.serve", "chain", self.data, settings, self._ready]
        with (self.data / "chain.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", *mortal, *map(str, program)], stderr=log, env=child_environment()
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    async def up(self) -> None:
        """Wait until it answers."""
        await until(self._ready.exists, "the chain is up")

    async def ask(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Results of some requests."""
        async with httpx2.AsyncClient(timeout=BOUND) as client:
            answer = await client.post(chain_of(read_place(self.data)).url, content=requests(*calls))
        return [one.get("result", one.get("error")) for one in answer.json()]

    async def send(self, *raws: bytes) -> list[str]:
        """Hashes of transactions."""
        return await self.ask(*(("eth_sendRawTransaction", "0x" + raw.hex()) for raw in raws))

    async def receipts(self, hashes: list[str]) -> list[Any]:
        """What is known of transactions by now."""
        return await self.ask(*(("eth_getTransactionReceipt", one) for one in hashes))

    async def mined(self, hashes: list[str], count: int) -> list[Any]:
        """Receipts of transactions, once `count` of them are mined."""
        found: list[Any] = []

        async def enough() -> bool:
            found[:] = await self.receipts(hashes)
            return sum(one is not None for one in found) >= count

        await until_async(enough, f"{count} transactions are mined")
        return found


@pytest.fixture
def role(tmp_path: Path) -> Role:
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    place = Place(
        net=NET, postgres_dsn="", bus_url="", bus_public_url="", url="", http_host="", http_port=0,
        chain=ChainPlace(url=url, own_url=url, id=chain_id_of(NET)),
    )  # fmt: skip
    write_place(tmp_path, place)
    load_keys(tmp_path, create=True)
    (tmp_path / "effective-settings.json").write_bytes(msgspec.json.encode(Settings(chain_port=port)))
    return Role(tmp_path)


async def test_a_killed_chain_goes_on_where_it_was(role: Role) -> None:
    """Many gifts, a kill between blocks: each mined one keeps its receipt, and resending all gives each once."""
    role.take_key(1)
    with role.running() as process:
        await role.up()
        contracts = read_contracts(role.data)
        assert contracts is not None
        dollars = address(contracts.settlement)
        count = ("eth_getTransactionCount", "0x" + OWNER.address.hex(), "latest")
        used = int((await role.ask(count))[0], 16)
        gift = call_data("give(address,uint256)", OTHER.address, 1)
        gifts = [OWNER.send(used + at, dollars, gift) for at in range(40)]
        hashes = await role.send(*gifts[:20])
        known = await role.mined(hashes, 20)
        more = await role.send(*gifts[20:])
        process.send_signal(signal.SIGKILL)
        process.wait()
    with role.running():
        await role.up()
        assert await role.receipts(hashes) == known
        assert await role.send(*gifts) == hashes + more
        await role.mined(more, 20)
        balance = {"to": "0x" + dollars.hex(), "data": "0x" + call_data("balanceOf(address)", OTHER.address).hex()}
        held, sent = await role.ask(("eth_call", balance, "latest"), count)
        assert (int(held, 16), int(sent, 16)) == (40, used + 40)
        (refused,) = await role.ask(("eth_sendRawTransaction", "0x" + OTHER.token().hex()))
        assert "contracts" in refused["message"]


async def test_it_has_one_writer(role: Role) -> None:
    with role.running():
        await role.up()
        before = await role.ask(("eth_blockNumber",))
        with role.running() as second:
            assert second.wait(60) == 1
        assert await role.ask(("eth_blockNumber",)) == before


async def _deposits_become_paid_credits_once(net: Net, key: Path) -> None:
    """As people type it; the chain and the core are killed on the way, and everything is asked for twice."""
    buyer = await net.new_buyer()
    his = {"FALLOW_URL": net.running.url, "FALLOW_API_KEY": buyer.key, "FALLOW_ACCOUNT_KEY": str(key)}

    async def typed(*words: str | Path) -> Any:
        said = await fallow(*words, "--json", **his)
        assert said.code == 0, said.err
        return json.loads(said.out)

    account = (await typed("wallet", "new"))["account"]
    gift = ("chain", "give", account, "12.5", "--id", "gift", "--data", net.data)
    assert await typed(*gift) == await typed(*gift)
    net.running.kill("chain")
    first = await typed_again(typed, "wallet", "deposit", "10", "--id", "first")
    net.running.kill("core")
    assert await typed_again(typed, "wallet", "deposit", "10", "--id", "first") == first
    assert first["succeeded"]
    await typed("wallet", "deposit", "1.25", "--id", "second")

    async def credited() -> bool:
        return (await buyer.client.balance()).spendable["paid"] == 11_250_000

    await until_async(credited, "deposits are credits")
    held = await typed("wallet", "balance")
    assert (held["settlement_units"], held["paid_microusd"]) == ("1250000", 11_250_000)
    poor = await fallow("wallet", "deposit", "2", **his)
    assert (poor.code, "wallet.funds" in poor.err) == (1, True)
    rows = await buyer.client.statement()
    assert [row.amount_microusd for row in rows if row.kind == "deposit"] == [10_000_000, 1_250_000]
    check = await net.operator.ledger_check()
    assert (check.ok, check.sums["paid"]) == (True, 0)


async def _what_happened_is_in_the_archive(net: Net, feed: Path) -> None:
    """Deposits as the chain had them, the word of a feed and of an operator as they signed it: each once."""
    his = {"FALLOW_URL": net.running.url, "FALLOW_API_KEY": net.running.welcome["buyer_key"]}
    for words in (("price", "report", "0.25"), ("wallet", "stake", "take", "20")):
        said = await fallow(*words, **his, FALLOW_ACCOUNT_KEY=str(feed))
        assert said.code == 0, said.err
    view = await net.buyer.price()
    assert (view.price_microusd, view.waiting, len(view.quotes)) == (250_000, 0, 1)

    async def sealed() -> bool:
        (row,) = await net.fetch("SELECT count(*) AS waiting FROM outbox.decision")
        return row["waiting"] == 0

    await until_async(sealed, "what happened is among the records")
    epoch = await net.operator.closed_epoch((await net.operator.end_epoch()).epoch)
    counts = {file.name.removeprefix(RECORDS): file.count for file in epoch.files}
    assert [counts.get(kind) for kind in ("chain.deposited", "price.reported", "stake.take")] == [2, 1, 1]


async def typed_again(typed: Callable[..., Awaitable[Any]], *words: str) -> Any:
    """Type a command until the chain is there again, as people do."""
    found: list[Any] = []

    async def done() -> bool:
        with suppress(AssertionError):
            found.append(await typed(*words))
        return bool(found)

    await until_async(done, "the chain is there again")
    return found[0]


async def test_the_preset_public_has_a_chain_whose_deposits_become_credits_once(tmp_path: Path) -> None:
    feed = tmp_path / "feed.key"
    write_private(feed, "07" * 32 + "\n")
    feeds = address_text(address_of(PrivateKey.from_hex("07" * 32)))
    async with network(preset="public", chain_port="0", price_feeds=feeds) as net:
        assert len(net.pids("chain")) == 1
        shown = await net.operator.network()
        assert shown.chain_id == chain_id_of(net.running.net)
        async with httpx2.AsyncClient(timeout=BOUND) as client:
            answer = await client.post(shown.chain_url, content=requests(("eth_chainId",)))
            preflight = await client.options(
                shown.chain_url,
                headers={"Origin": "https://wallet.example", "Access-Control-Request-Method": "POST"},
            )
        assert int(answer.json()[0]["result"], 16) == shown.chain_id
        assert preflight.headers["access-control-allow-origin"] == "*"
        await _deposits_become_paid_credits_once(net, tmp_path / "account.key")
        await _what_happened_is_in_the_archive(net, feed)


def test_only_the_preset_public_starts_a_chain() -> None:
    assert "chain" not in roles_of(Settings())
    assert roles_of(Settings(preset="public"))[0] == "chain"
