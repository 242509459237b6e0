"""Tahoe-LAFS on one machine: an introducer, ten servers and the client's own node; any 3 of 10 shares give a file."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from bench._objects import ANSWER_S, Processes
from bench._peers import STARTED_S, Served, installed, program, program_of
from fallow.bootstrap.listening import free_port
from tests.network import processes_of

SERVERS = 10

NODE = """
[node]
nickname = {name}
web.port = {web}
tub.port = tcp:{port}:interface=127.0.0.1
tub.location = tcp:127.0.0.1:{port}
"""
CLIENT = """
[client]
shares.needed = 3
shares.happy = 7
shares.total = 10

[storage]
enabled = {stores}
"""


class Capabilities:
    """A `Client` of a node's web interface. Names are kept here: to Tahoe-LAFS a file is what its capability says."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=ANSWER_S)
        self._of: dict[str, str] = {}

    def put(self, name: str, body: bytes) -> None:
        """See `Client`."""
        answer = self._http.put("/uri", content=body)
        answer.raise_for_status()
        self._of[name] = answer.text

    def get(self, name: str) -> bytes:
        """See `Client`."""
        answer = self._http.get(f"/uri/{self._of[name]}")
        answer.raise_for_status()
        return answer.content


@contextmanager
def tahoe(folder: Path) -> Iterator[Served]:
    """Files are immutable ones. Nothing is synced."""
    command = installed("tahoe", "tahoe-lafs", "setuptools<81") / "tahoe"
    with ExitStack() as stack:

        def run(name: str, kind: str, furl: str = "", web: str = "", *, stores: bool = False) -> Path:
            home = folder / name
            (home / "private").mkdir(parents=True)
            (home / f"tahoe-{kind}.tac").touch()
            says = NODE.format(name=name, web=web, port=free_port("127.0.0.1"))
            if furl:
                says += CLIENT.format(stores=stores)
                known = {"introducers": {"one": {"furl": furl}}}
                (home / "private" / "introducers.yaml").write_text(json.dumps(known))
            (home / "tahoe.cfg").write_text(says)
            stack.enter_context(program(home, command, "run", "--allow-stdin-close", home))
            return home

        furl = _said(run("introducer", "introducer") / "private" / "introducer.furl")
        for number in range(SERVERS):
            run(f"server-{number}", "client", furl, stores=True)
        port = free_port("127.0.0.1")
        run("client", "client", furl, f"tcp:{port}:interface=127.0.0.1")
        url = f"http://127.0.0.1:{port}"
        _until_connected(url)
        yield Served(Capabilities(url), None, Processes(lambda: processes_of(folder), _role))


def _role(arguments: list[str]) -> str:
    where = Path(arguments[-1]).name
    return "servers" if where.startswith("server-") else where or program_of(arguments)


def _said(file: Path) -> str:
    """Wait for a file, and read it."""
    ends = time.monotonic() + STARTED_S
    while not file.exists() or not (words := file.read_text().strip()):
        if time.monotonic() > ends:
            raise RuntimeError(f"{file} was not written")
        time.sleep(0.1)
    return words


def _until_connected(url: str) -> None:
    """Wait until the client's node is connected to all servers."""
    ends = time.monotonic() + 2 * STARTED_S
    connected = 0
    while connected < SERVERS:
        if time.monotonic() > ends:
            raise RuntimeError(f"only {connected} servers are connected")
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"{url}/?t=json", timeout=5) as answer:  # noqa: S310 - our own server
                servers = json.load(answer)["servers"]
        except OSError:
            continue
        connected = sum(server["connection_status"] == "connected" for server in servers)
