"""The ports that we listen on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from fallow.bootstrap import listening, verticals
from fallow.bootstrap.listening import listen
from fallow.bootstrap.ports import ports_of
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.verticals import gateway_roles
from fallow.domain.errors import InvalidInput
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.worker import Worker, WorkerGround


async def test_answers_are_sent_without_delay() -> None:
    accepted: asyncio.Queue[int] = asyncio.Queue()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours: socket.socket = writer.get_extra_info("socket")
        accepted.put_nowait(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(serve, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await accepted.get()
        writer.close()


def test_ports_that_a_network_draws_are_distinct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_connections_from", lambda: listening.PORT_MIN + 8)
    monkeypatch.setattr(listening, "is_free", lambda _host, _port: True)
    for _ in range(20):
        ports = ports_of(tmp_path, Settings(http_port=10_003))
        assert ports["http"] == 10_003
        assert len(set(ports.values())) == len(ports) >= 4


class Named(Vertical):
    """Brings a gateway."""

    name = "odd"
    metering = None

    def __init__(self, role: str) -> None:
        self.gateways = (role,)

    def worker(self, ground: WorkerGround) -> Worker:
        """See the port."""
        raise NotImplementedError


@pytest.mark.parametrize("role", ["gateway", "core", "market", "bus", "../odd", ""])
def test_a_vertical_s_gateway_has_no_name_of_the_network_s_own(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    monkeypatch.setattr(verticals, "load_verticals", lambda: {"odd": Named(role)})
    with pytest.raises(InvalidInput, match="can be called"):
        gateway_roles()
