"""NATS as our child: `async with EmbeddedNats(data) as bus: connect(bus.url)`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from fallow.adapters.engines.binaries import Engine, find_nats, usable_base
from fallow.adapters.engines.folders import data_lock, make_data_folder, private_folder, write_private
from fallow.adapters.engines.process import Child, Program, spawn
from fallow.adapters.engines.supervisor import Supervisor
from fallow.adapters.engines.users import EngineUser, choose_user
from fallow.domain.errors import Unavailable

MAX_PAYLOAD = 1024 * 1024
MAX_SUBSCRIPTIONS = 16_384
"""Of one connection: a gateway has one for each node that its relay holds. Without a bound a node fills the memory."""
_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_START_SECONDS = 30.0
_HANDSHAKE_SECONDS = 5
_WRITE_DEADLINE = "5s"
"""Who takes nothing for so long is cut off."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach such a server from here


class EmbeddedNats:
    """A NATS server without JetStream on `host`:`port` (0: a free one, which it keeps while the context is open).

    `config` is what else its configuration file says, accounts and authorization above all: a mapping of sections,
    or text in NATS's own syntax. Without any, whoever reaches the port may use it. `tls` is a certificate's file and
    its key's (PEM); they are read at each start of the server. Then nothing is said in plain text on the port, not even
    the server's greeting.

    Opening the context starts and then supervises it. Open it in the main thread (see `process`). It raises the
    same errors as `EmbeddedPostgres`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        config: Mapping[str, object] | str = "",
        tls: tuple[Path, Path] | None = None,
        max_connections: int = 4096,
        user: str | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._data = data_dir.resolve()
        self._folder = self._data / "nats"
        self._host = host
        self._wanted_port = self._port = port
        self._extra = config if isinstance(config, str) else render_config(config)
        self._tls = tls
        self._limits = {"max_connections": max_connections, "write_deadline": _WRITE_DEADLINE}
        self._requested_user = user
        self._engine = engine
        self._stack = AsyncExitStack()
        self._program: Program | None = None
        self._supervisor: Supervisor | None = None

    @property
    def pid(self) -> int | None:
        """Process number of the server; None while it is down."""
        return self._running().pid

    @property
    def restarts(self) -> int:
        """How often it ended by itself and was brought back."""
        return self._running().restarts

    async def wait_restarts(self, count: int) -> None:
        """Wait until it has been brought back at least `count` times."""
        await self._running().wait_restarts(count)

    @property
    def port(self) -> int:
        """The port it listens on."""
        self._running()
        return self._port

    @property
    def url(self) -> str:
        """Where clients on this machine connect."""
        host = _EVERYWHERE.get(self._host, self._host)
        scheme = "tls" if self._tls else "nats"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._port = self._wanted_port
            self._program = await asyncio.to_thread(self._prepare, stack)
            supervisor = Supervisor("NATS", self._start, _STEPS)
            self._supervisor = await stack.enter_async_context(supervisor)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stack.aclose()
        finally:
            self._supervisor = self._program = None

    def _prepare(self, stack: AsyncExitStack) -> Program:
        user = choose_user(self._requested_user, self._folder)
        make_data_folder(self._data, user)
        stack.enter_context(data_lock(self._data, "nats"))
        engine = self._engine or find_nats()
        program = usable_base(engine, self._data, user) / engine.programs[0]
        private_folder(private_folder(self._folder, user) / "ports", user)
        argv = (str(program), "--config", str(self._folder / "nats.conf"))
        return Program(argv, user, self._data / "logs" / "nats.log", signal.SIGKILL, self._folder)

    async def _start(self) -> Child:
        if self._program is None:
            raise _not_running()
        await asyncio.to_thread(self._write_files, self._program.user)
        child = await spawn(self._program)
        try:
            await child.ready(lambda: self._listening_port(child.pid) is not None, _START_SECONDS)
        except BaseException:
            await child.stop(_STEPS[1:])
            raise
        # Kept from now on: clients reconnect to where they were.
        self._port = self._listening_port(child.pid) or self._port
        return child

    def _write_files(self, user: EngineUser) -> None:
        ports = self._folder / "ports"
        for old in ports.iterdir():  # a killed server leaves its own behind
            old.unlink()
        own = {
            "host": self._host,
            "port": self._port or -1,  # -1: any free one, told in a file
            "server_name": "fallow",
            "ports_file_dir": str(ports),
            "max_payload": MAX_PAYLOAD,
            "max_subscriptions": MAX_SUBSCRIPTIONS,
            **self._limits,
            **self._write_tls(user),
        }
        write_private(self._folder / "nats.conf", f"{render_config(own)}\n{self._extra}\n", user)

    def _write_tls(self, user: EngineUser) -> dict[str, object]:
        """Give the server, whose user cannot read the operator's files, a copy of its own."""
        if self._tls is None:
            return {}
        copies = {"cert_file": self._folder / "tls-cert.pem", "key_file": self._folder / "tls-key.pem"}
        for source, copy in zip(self._tls, copies.values(), strict=True):
            write_private(copy, source.read_text("ascii"), user)
        paths = {name: str(path) for name, path in copies.items()}
        return {"tls": {**paths, "handshake_first": True, "min_version": "1.3", "timeout": _HANDSHAKE_SECONDS}}

    def _listening_port(self, pid: int) -> int | None:
        """What the server says once it accepts connections, in `<program>_<pid>.ports`."""
        for path in (self._folder / "ports").glob(f"*_{pid}.ports"):
            try:
                return urlsplit(str(json.loads(path.read_bytes())["nats"][0])).port
            except (ValueError, KeyError, IndexError, OSError):
                continue  # half written
        return None

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise _not_running()
        return self._supervisor


def render_config(sections: Mapping[str, object]) -> str:
    """NATS's configuration syntax takes JSON values, one top-level key a line."""
    return "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sections.items())


def _not_running() -> Unavailable:
    return Unavailable("engine.not_running", "NATS is not running.", "Open its context first.")
