"""What `fallow up` says when it cannot start, how it stops while it starts, and what it never writes down."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.engines import reachable_folder
from tests.network import BOUND, Said, fallow, network, processes_of, start, stop, until
from tests.programs import SECOND


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as path:
        yield path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def up(data: Path, *options: str) -> Said:
    """Type it, where it cannot work."""
    free = [part for name in ("--port", "--bus-port") if name not in options for part in (name, "0")]
    return await fallow("up", "--data", data, *free, *options)


def is_one_sentence(said: Said, code: str) -> bool:
    """Whether it failed with one sentence on stderr, and a hint."""
    lines = said.err.strip().splitlines()
    return said.code in {1, 2} and not said.out and code in lines[0] and len(lines) <= 2


@pytest.mark.parametrize("option", ["--port", "--bus-port"])
async def test_a_port_in_use(folder: Path, taken: int, option: str) -> None:
    said = await up(folder / "data", option, str(taken))
    assert is_one_sentence(said, "http.port"), said.err
    assert said.code == 1
    assert str(taken) in said.err
    assert f"{option} N" in said.err
    assert processes_of(folder) == []
    assert not (folder / "data").exists(), "nothing is left of a network that never was"
    (folder / "old").mkdir()
    assert is_one_sentence(said := await up(folder / "old", option, str(taken)), "http.port"), said.err
    assert (folder / "old").exists(), "what was there before stays"
    assert not (folder / "old" / "ports.json").exists(), "a port that was not to be had is not the network's"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "localhost.example", "::", "::1234"])
async def test_nothing_listens_to_the_outside_without_tls(folder: Path, host: str) -> None:
    assert is_one_sentence(said := await up(folder / "data", "--host", host), "up.no_tls"), said.err
    assert not (folder / "data").exists()


async def test_a_data_folder_that_is_none(folder: Path) -> None:
    (folder / "file").write_text("")
    assert is_one_sentence(said := await up(folder / "file"), "engine.data_unusable"), said.err
    if os.geteuid() == 0:
        # The engines run as another user, who has to get there.
        (folder / "closed").mkdir(mode=0o700)
        assert is_one_sentence(said := await up(folder / "closed" / "data"), "engine.data_unreachable"), said.err
        assert f"chmod o+x {folder / 'closed'}" in said.err


async def test_settings_that_make_no_sense(folder: Path) -> None:
    (folder / "fallow.toml").write_text("windw_s = 10\n")
    assert is_one_sentence(said := await up(folder), "settings.invalid"), said.err
    assert "windw_s" in said.err
    (folder / "fallow.toml").write_text("window_s = \n")
    assert is_one_sentence(said := await up(folder), "settings.file"), said.err


async def test_a_second_one_on_the_same_folder() -> None:
    async with network() as net:
        said = await up(net.data)
        assert is_one_sentence(said, "engine.data_in_use"), said.err
        assert f"process {net.process.pid}" in said.err
        assert (await net.operator.ledger_check()).ok, "and the first one does not notice"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_can_be_stopped_while_it_starts(folder: Path, number: signal.Signals) -> None:
    data, log = folder / "data", folder / "up.log"
    process = start("up", "--data", data, "--port", "0", "--bus-port", "0", "--json", log=log)
    try:
        await until((data / "postgres" / "postmaster.pid").exists, "PostgreSQL starts")
        process.send_signal(number)
        assert process.wait(BOUND) == 0
        assert processes_of(folder) == []
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        stop(process)


async def test_an_archive_elsewhere_is_reached_with_its_operators_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "operators-key"), ("SECRET_ACCESS_KEY", "x"), ("ALLOW_HTTP", "true")):
        monkeypatch.setenv(f"AWS_{name}", value)
    asked: list[str] = []

    class Store(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_error(404)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as store:
        Thread(target=store.serve_forever, daemon=True).start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
            async with network(archive_url="s3://bucket/of-it") as net:
                await net.operator.end_epoch()
                await until(lambda: bool(asked), "the closed epoch is on its way to the archive")
        finally:
            store.shutdown()
    assert all("Credential=operators-key/" in each for each in asked)


async def test_it_goes_on_with_what_is_there() -> None:
    async with network() as net, net.agents("barn"):
        order = await net.submit([SECOND // 50])
        await net.finished(order.id)
        balance = await net.buyer.balance()
        for _ in range(2):
            net.process.terminate()
            assert net.process.wait(BOUND) == 0
            net.running.up_again()
            assert (await net.job(order.id)).state == "done"
            assert await net.buyer.balance() == balance


async def test_no_secret_is_in_a_log_or_a_command_line() -> None:
    async with network() as net, net.agents("barn", "mill") as agents:
        one = await net.operator.create_token(uses=3)
        async with net.agent("orchard", token=one.secret):
            order = await net.submit([SECOND // 50 + index for index in range(3)])
            await net.finished(order.id)
        wrong = await fallow("agent", "join", net.url, "--yes", "--home", net.data.parent / "x", "--token", "fj_wrong")
        assert "fj_wrong" not in wrong.err
        net.running.kill("core")
        await until(lambda: bool(net.pids("core")), "the core is back")
        await net.finished(order.id)
        secrets = {one.secret, net.first.key, net.running.place["postgres_dsn"], "fj_wrong"}
        secrets |= {net.running.welcome[name] for name in ("buyer_key", "operator_key", "join_token")}
        for path in (net.data / "secrets").iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
            content = path.read_text("ascii").strip()
            secrets |= set(json.loads(content).values()) if content.startswith("{") else set(content.splitlines())
        secrets |= {agent.home.joinpath("node.key").read_bytes().hex() for agent in agents}
        secrets -= {net.running.welcome["buyer_account"]}
        assert len(secrets) > 10
        logs = [*(net.data / "logs").iterdir(), net.running.log, *(agent.log for agent in agents)]
        said = {str(path): path.read_text("utf-8", "replace") for path in logs}
        said |= {f"command {pid}": command_line(pid) for pid in processes_of(net.data)}
        assert len(said) > 8
        for name, text in said.items():
            assert not [each for each in secrets if len(each) > 6 and each in text], name


def command_line(pid: int) -> str:
    """What everybody on the machine can see of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
