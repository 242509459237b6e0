"""A machine behind a home router: it only dials out, and a cut line costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from fallow import Requirements
from fallow.sdk.live import _Reading
from tests.capability import require
from tests.network import BOUND, FALLOW, Net, clean_environment, network, stop, until, until_async

SCRIPT = """
import itertools, pathlib, time
for n in itertools.count():
    print(n, flush=True)
    if pathlib.Path("enough").exists():
        break
    time.sleep(0.002)
"""
"""It goes on for as long as the test takes, however slow that is."""


class Router:
    """A router with the machine behind it, each in a network of its own. `outside` is this side's address."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.outside, self.wan = f"10.213.{number}.1", f"10.213.{number}.2"
        self.name, self.machine = f"fl-router-{os.getpid()}", f"fl-machine-{os.getpid()}"
        self._link = f"fl{os.getpid()}"

    def build(self) -> None:
        """Lay the cables; all traffic from inside is masqueraded, none from outside gets in."""
        for name in (self.name, self.machine):
            run("ip", "netns", "add", name)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "wan", "netns", self.name)
        run("ip", "address", "add", f"{self.outside}/24", "dev", self._link)
        run("ip", "link", "set", self._link, "up")
        self.on_router("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", self.machine)
        self.on_router("ip", "address", "add", f"{self.wan}/24", "dev", "wan")
        self.on_router("ip", "address", "add", "192.168.77.1/24", "dev", "lan")
        for device in ("lo", "wan", "lan"):
            self.on_router("ip", "link", "set", device, "up")
        self.on_router("sysctl", "-qw", "net.ipv4.ip_forward=1")
        established = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
        self.on_router("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
        for chain in ("FORWARD", "INPUT"):
            self.on_router("iptables", "-A", chain, "-i", "wan", *established)
            self.on_router("iptables", "-A", chain, "-i", "wan", "-j", "DROP")
        self.inside("ip", "address", "add", "192.168.77.2/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self.inside("ip", "link", "set", device, "up")
        self.inside("ip", "route", "add", "default", "via", "192.168.77.1")

    def remove(self) -> None:
        """Take the cables away."""
        for command in (
            ("ip", "link", "del", self._link),
            ("ip", "netns", "del", self.machine),
            ("ip", "netns", "del", self.name),
        ):
            subprocess.run(command, capture_output=True, check=False)

    def on_router(self, *command: str) -> None:
        """Do something on the router."""
        run("ip", "netns", "exec", self.name, *command)

    def inside(self, *command: str) -> None:
        """Do something on the machine behind it."""
        run("ip", "netns", "exec", self.machine, *command)

    @property
    def lines(self) -> int:
        """How many connections the machine has to the other side."""
        words = ("ip", "netns", "exec", self.machine, "ss", "-Htn", "state", "established", "dst", self.outside)
        return len(subprocess.run(words, check=True, capture_output=True, timeout=BOUND).stdout.splitlines())

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Break every connection through the router, and let none through while the context is open."""
        rule = ("FORWARD", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
        self.on_router("iptables", "-I", *rule)
        try:
            yield
        finally:
            self.on_router("iptables", "-D", *rule)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND)


@pytest.fixture
def router() -> Iterator[Router]:
    require("namespaces")
    require("bubblewrap")
    made = Router()
    with ExitStack() as stack:
        stack.callback(made.remove)
        made.build()
        yield made


def join_from(router: Router, net: Net, home: Path, log: Path) -> subprocess.Popen[str]:
    """Type `fallow agent join` on the machine behind the router."""
    command = (
        "ip", "netns", "exec", router.machine, FALLOW, "agent", "join", net.url, "--yes", "--json", "--home", home,
        "--label", "behind", "--cpu", "0.4", "--memory", "256", "--disk", "256", "--price-core-hour", "36",
    )  # fmt: skip
    environment = clean_environment() | {"FALLOW_TOKEN": net.running.welcome["join_token"]}
    with log.open("a") as sink:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip


@asynccontextmanager
async def machine_behind(router: Router, net: Net) -> AsyncIterator[Path]:
    """A machine joins from behind the router; yields its home."""
    home, log = net.data.parent / "behind", net.data.parent / "behind.log"
    process = join_from(router, net, home, log)
    try:

        async def here() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            return any(node.label == "behind" and node.state == "idle" for node in await net.buyer.nodes())

        await until_async(here, "the machine is on the market")
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        stop(process)


async def test_a_machine_behind_a_router_works_and_its_cut_line_loses_nothing(router: Router, tmp_path: Path) -> None:
    async with network(listen=f"{router.outside}:0") as net, machine_behind(router, net) as home:
        rows = await net.fetch("SELECT network FROM registry.connection")
        assert [row["network"] for row in rows] == [router.outside.rpartition(".")[0] + ".0/24"], "seen by the gateway"

        (script := tmp_path / "script.py").write_text(SCRIPT)
        needs = Requirements(cpu_milli=200, memory_mib=128, disk_mib=64)
        order = await net.buyer.python_order(script, requirements=needs)
        await net.buyer.submit(order)
        await net.runs(order.id)

        def written() -> int:
            return sum(path.stat().st_size for path in home.glob("work/*/stdout"))

        def cut_off(before: int) -> bool:
            return router.lines <= before - 2  # one over which nothing is said hears of no cut

        def work_goes_on(wanted: int) -> bool:
            return written() >= wanted

        got, wanted, told = bytearray(), 0, False
        # One request, so that it is the session below that goes on and not the client that asks again.
        async with aclosing(net.buyer._live(order.id, 0, _Reading("stdout", follow=True))) as pieces:
            async for piece in pieces:
                got += piece
                if len(got) > 500 and not wanted:
                    before = router.lines
                    with router.cut():
                        await until(partial(cut_off, before), "the bus and the data link are cut", every=0.1)
                        wanted = written() + 500
                        await until(partial(work_goes_on, wanted), "the work goes on")
                elif wanted and len(got) >= wanted and not told:
                    told = True
                    next(home.glob("work/*/work")).joinpath("enough").touch()
        assert told, "what was written during the cut came over a line that was back"
        assert bytes(got) == b"".join(b"%d\n" % n for n in range(got.count(b"\n")))
        job = await net.finished(order.id)
        assert job.state == "done", "a cut of some seconds ends no lease"
