"""The embedded chain as its own process, which is killed: what it answered stays so, what it lost is sent again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fallow.adapters.engines import launch
from fallow.bootstrap.place import Place, read_place, write_place
from fallow.bootstrap.settings import Settings
from fallow.domain.chains import chain_id_of
from tests.engines import child_environment
from tests.evm_accounts import Holder, call_data, requests
from tests.network import network, until

NET = "public-test"
OWNER, OTHER = Holder(chain_id_of(NET), 1), Holder(chain_id_of(NET), 2)


class Role:
    """`fallow serve --role chain` on a folder, and requests to it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._ready = data / "chain.ready"
        self._port = 0

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it; it is killed at the end."""
        self._ready.unlink(missing_ok=True)
        settings = self._data / "effective-settings.json"
        mortal = [launch.__file__, "--parent", str(os.getpid()), "--signal", str(int(signal.SIGKILL)), "--"]
        program = [sys.executable, "-m", "fallow.bootstrap.serve", "chain", self._data, settings, self._ready]
        with (self._data / "chain.log").open("ab") as log:
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
        async with httpx2.AsyncClient() as client:
            answer = await client.post(read_place(self._data).chain_url, content=requests(*calls))
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
        while sum(one is not None for one in found) < count:
            found = await self.receipts(hashes)
        return found


@pytest.fixture
def role(tmp_path: Path, unused_tcp_port: int) -> Role:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    place = Place(
        net=NET, postgres_dsn="", bus_url="", bus_public_url="", url="", http_host="", http_port=0, chain_url=url
    )
    write_place(tmp_path, place)
    (tmp_path / "effective-settings.json").write_bytes(msgspec.json.encode(Settings(chain_port=unused_tcp_port)))
    return Role(tmp_path)


async def test_a_killed_chain_goes_on_where_it_was(role: Role) -> None:
    """Many transfers, a kill between blocks: each mined one keeps its receipt, and resending all moves each once."""
    with role.running() as process:
        await role.up()
        (made,) = await role.mined(await role.send(OWNER.token()), 1)
        token = bytes.fromhex(made["contractAddress"][2:])
        minter = OWNER.send(1, token, call_data("setMinter(address)", OWNER.address))
        mints = [OWNER.send(2 + at, token, call_data("mint(address,uint256)", OTHER.address, 1)) for at in range(40)]
        hashes = await role.send(minter, *mints[:20])
        known = await role.mined(hashes, 21)
        more = await role.send(*mints[20:])
        process.send_signal(signal.SIGKILL)
        process.wait()
    with role.running():
        await role.up()
        assert await role.receipts(hashes) == known
        assert await role.send(minter, *mints) == hashes + more
        await role.mined(more, 20)
        balance = {"to": "0x" + token.hex(), "data": "0x" + call_data("balanceOf(address)", OTHER.address).hex()}
        held, sent = await role.ask(
            ("eth_call", balance, "latest"), ("eth_getTransactionCount", "0x" + OWNER.address.hex(), "latest")
        )
        assert (int(held, 16), int(sent, 16)) == (40, 42)


async def test_it_has_one_writer(role: Role) -> None:
    with role.running():
        await role.up()
        with role.running() as second:
            assert second.wait(30) == 1
        assert (await role.ask(("eth_blockNumber",))) == ["0x0"]


async def test_the_preset_public_has_a_chain_and_the_others_none() -> None:
    async with network(preset="public", chain_port="0") as net:
        assert len(net.pids("chain")) == 1
        shown = await net.operator.network()
        assert shown.chain_id == chain_id_of(net.running.net)
        async with httpx2.AsyncClient() as client:
            answer = await client.post(shown.chain_url, content=requests(("eth_chainId",)))
            preflight = await client.options(
                shown.chain_url,
                headers={"Origin": "https://wallet.example", "Access-Control-Request-Method": "POST"},
            )
        assert int(answer.json()[0]["result"], 16) == shown.chain_id
        assert preflight.headers["access-control-allow-origin"] == "*"
    async with network() as net:
        assert net.pids("chain") == []
        assert (await net.operator.network()).chain_url == ""
