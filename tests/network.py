"""Whole networks for tests, as people run them: `fallow up` and `fallow agent join` in processes of their own.

    async with network() as net:
        async with net.agent("barn") as barn: ...

Everything listens on loopback, on free ports, and ends with its context, however the test ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec

from fallow import AsyncClient, Order, Requirements
from fallow.adapters.engines import launch
from fallow.agent import control
from fallow.domain.billing import FeePolicy, MeterKey, cumulative_charge
from fallow.domain.chart import NETWORK, Credit, Purpose, account_id
from fallow.domain.errors import Unavailable
from fallow.domain.identity import address
from fallow.domain.jobs import FINAL
from fallow.domain.leases import WORK_DONE, Lease, LeaseState
from fallow.domain.views.jobs import JobView
from fallow.domain.views.nodes import NodeView
from tests import programs
from tests.dying import command as dying_command
from tests.engines import reachable_folder

FALLOW = Path(sys.executable).with_name("fallow")
BOUND = 120.0
"""Seconds for anything that takes a moment: the machine may be busy."""

CPU = 0.4  # of a core: room for two leases as they need here
PRICE = 36.0
"""US dollars for a core and hour: 10,000 micro-US-dollars a second, so that every millisecond costs something."""

NEEDS = Requirements(cpu_milli=200, memory_mib=64, disk_mib=16)
FUNDS = {Purpose.FEE: 10_000_000, Purpose.RESERVE: 10_000_000}
"""Micro-US-dollars that a new network has for checks and in its reserve."""

SETTINGS_PREFIX = "FALLOW_"
ROLES = ("core", "gateway", "chain", "s3", "registry", "ingest", "settle", "market", "epochs", "verticals")


_STARTER = ThreadPoolExecutor(1)
"""What dies with its parent dies with the very thread that started it (`PR_SET_PDEATHSIG`): this one stays."""


class Ended(AssertionError):
    """A process ended that should run, or said nothing in time."""


def start(*arguments: str | Path, log: Path, steps: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """Run `fallow ...` in a session of its own; it is killed if the tests are. Its stderr goes to `log`.

    It dies at the `steps` that are named in that folder; see `tests/dying.py`.
    """
    # This file makes a process die with its parent.
    mortal = [launch.__file__, "--parent", str(os.getpid()), "--signal", str(int(signal.SIGKILL)), "--"]
    dying = "dying_agent" if arguments[0] == "agent" else "dying_roles"
    program = dying_command(dying, steps) if steps else [str(FALLOW)]
    command = [sys.executable, "-I", "-S", *mortal, *program, *map(str, arguments)]
    with log.open("a") as sink:
        started = _STARTER.submit(
            subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, text=True,
            start_new_session=True, env=clean_environment() | variables,
        )  # fmt: skip
        return started.result()


class Said(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


async def fallow(*arguments: str | Path, stdin: str = "", **variables: str) -> Said:
    """Type a command and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        FALLOW, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=clean_environment() | variables,
    )  # fmt: skip
    try:
        async with asyncio.timeout(BOUND):
            out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out.decode(), err.decode())


def clean_environment() -> dict[str, str]:
    """The environment without Fallow's own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}


def first_line(process: subprocess.Popen[str], log: Path) -> str:
    """What a process says first."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], BOUND)[0]:
        raise Ended(f"nothing was said: {log.read_text()[-2000:]}")
    line = process.stdout.readline()
    if not line or line == "{\n":  # an error is a document of many lines
        said = line + process.stdout.read()
        raise Ended(f"it ended with {process.wait(BOUND)}: {said}{log.read_text()[-2000:]}")
    return line


def stop(process: subprocess.Popen[str]) -> None:
    """End a process and all of its group."""
    if process.poll() is None:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # it may stand still
    with suppress(subprocess.TimeoutExpired):
        process.wait(BOUND / 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(BOUND)
    if process.stdout is not None:
        process.stdout.close()


async def until(condition: Callable[[], bool], what: str, *, bound: float = BOUND, every: float = 0.02) -> None:
    """Wait until something holds that no event tells of."""
    await until_async(_asynchronous(condition), what, bound=bound, every=every)


async def until_async(
    condition: Callable[[], Awaitable[object]], what: str, *, bound: float = BOUND, every: float = 0.2
) -> None:
    """Do the same with a question that takes a while; a part that is away for a moment answers no."""
    try:
        async with asyncio.timeout(bound):
            while True:
                with suppress(Unavailable):
                    if await condition():
                        return
                await asyncio.sleep(every)
    except TimeoutError:
        raise Ended(f"this did not come about: {what}") from None


def _asynchronous(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send processes of ours a signal."""
    for pid in pids:
        os.kill(pid, number)


def processes_of(folder: Path) -> list[int]:
    """Every living process that works in the folder, or was started with a path in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            named = any(part.startswith(bytes(folder)) for part in arguments)
            if named or (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found


def parent_of(pid: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dataclass
class Agent:
    """A running `fallow agent`."""

    name: str
    home: Path
    log: Path
    process: subprocess.Popen[str]
    node: str = ""
    account: str = ""
    steps: Path | None = None

    async def ask(self, command: control.Command) -> Any:
        """Give it a command, as `fallow agent COMMAND` does."""
        return await control.ask(self.home / "agent.sock", command)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Pull the plug: the agent is gone, and with it what it runs."""
        self.process.kill()
        self.process.wait(BOUND)

    def words(self) -> str:
        """What it has said so far."""
        return self.log.read_text()


@dataclass
class Running:
    """A network that runs in `data`, without connections to it."""

    data: Path
    process: subprocess.Popen[str]
    welcome: Mapping[str, str]
    log: Path
    agents: list[Agent] = field(default_factory=list)
    joined: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its gateway."""
        return self.welcome["url"]

    @property
    def ca(self) -> Path | None:
        """The certificate of its own authority, if it has one."""
        return Path(self.welcome["ca"]) if self.welcome["ca"] else None

    @property
    def net(self) -> str:
        """Its id."""
        return self.welcome["net"]

    @property
    def place(self) -> dict[str, Any]:
        """What its processes know of each other."""
        place: dict[str, Any] = json.loads((self.data / "run.json").read_bytes())
        return place

    def pids(self, role: str) -> list[int]:
        """The processes of a role, or of `postgres` (its postmaster) or `nats-server`, that `fallow up` started."""
        return [pid for pid in processes_of(self.data) if self._is(pid, role)]

    def pid(self, role: str) -> int:
        """The only one."""
        (pid,) = self.pids(role)
        return pid

    def kill(self, role: str) -> int:
        """Do a kill -9; returns who it was."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def up_again(self) -> None:
        """Type `fallow up` on the same folder once more."""
        stop(self.process)
        self.process = up(self.data, self.log, None, **self.settings)
        welcome = json.loads(first_line(self.process, self.log))
        assert welcome == self.welcome, "the same network at the same address, with the same keys"

    def _is(self, pid: int, role: str) -> bool:
        try:
            if parent_of(pid) != self.process.pid:
                return False
            if role in ROLES:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                return b"fallow.bootstrap.serve" in arguments and role.encode() in arguments
            return Path(f"/proc/{pid}/exe").readlink().name == role
        except OSError:
            return False

    @contextmanager
    def agent(
        self,
        name: str,
        *,
        cpu: float = CPU,
        memory: int = 256,
        price: float = PRICE,
        spot: float | None = None,
        token: str = "",
        folder: str = "",
        place: tuple[str, ...] = (),
        steps: Path | None = None,
        options: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Iterator[Agent]:
        """Join a machine, and serve with it while the context is open; see `start` for its `steps`.

        `options` are more of what is typed, `variables` of its environment.
        """
        home, log = self.data.parent / (folder or name), self.data.parent / f"{name}.log"
        log.touch()
        self.joined += 1  # each agent on a line of its own: nodes that share one do not check each other
        below = () if spot is None else ("--spot-core-hour", str(spot))
        process = start(
            "agent", "join", self.url, "--yes", "--json", "--home", home, "--label", name, "--cpu", str(cpu),
            "--memory", str(memory), "--disk", "256", "--price-core-hour", str(price), *below, *place,
            "--from", f"127.0.{self.joined}.1", *options,
            log=log, steps=steps, FALLOW_TOKEN=token or self.welcome["join_token"], **(variables or {}),
        )  # fmt: skip
        agent = Agent(name, home, log, process, steps=steps)
        self.agents.append(agent)
        try:
            yield agent
        finally:
            self.agents.remove(agent)
            stop(agent.process)

    @contextmanager
    def serve(self, role: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """Type `fallow serve --role ROLE` beside it; yields the process and its log, once it serves."""
        log = self.data.parent / f"serve-{role}-{secrets.token_hex(4)}.log"
        process = start("serve", "--role", role, "--data", self.data, *options, log=log)
        try:
            ends = time.monotonic() + BOUND
            while f"serving {role}" not in log.read_text():
                if process.poll() is not None or time.monotonic() > ends:
                    raise Ended(f"{role} does not serve: {log.read_text()[-2000:]}")
                time.sleep(0.02)
            yield process, log
        finally:
            process.send_signal(signal.SIGCONT)
            stop(process)

    def again(self, agent: Agent) -> None:
        """Start an agent that was killed anew, as `fallow agent run` does; it serves as long as it would have."""
        if agent.process.stdout is not None:
            agent.process.stdout.close()
        agent.process = start("agent", "run", "--home", agent.home, log=agent.log, steps=agent.steps)


@contextmanager
def running_network(data: Path | None = None, steps: Path | None = None, **settings: str) -> Iterator[Running]:
    """`fallow up` in a folder of its own, or in `data`, with settings as variables (`window_s="10"`).

    See `start` for the `steps` of its roles.
    """
    if data is None:
        with reachable_folder() as folder, running_network(folder / "network", steps, **settings) as running:
            yield running
        return
    log = data.parent / "up.log"
    running = Running(data, up(data, log, steps, **settings), {}, log, settings=settings)
    try:
        running.welcome = json.loads(first_line(running.process, log))
        yield running
    finally:
        stop(running.process)
        leave_nothing(data)


def up(data: Path, log: Path, steps: Path | None = None, **settings: str) -> subprocess.Popen[str]:
    """Type `fallow up`."""
    variables = {SETTINGS_PREFIX + name.upper(): value for name, value in settings.items()}
    return start("up", "--json", "--port", "0", "--bus-port", "0", "--data", data, log=log, steps=steps, **variables)


def leave_nothing(data: Path) -> None:
    """End what a killed `fallow up` may have left for a moment."""
    ends = time.monotonic() + BOUND
    while (left := processes_of(data)) and time.monotonic() < ends:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@dataclass
class Buyer:
    """An account that buys."""

    key: str
    account: str
    client: AsyncClient
    granted: int


class Net:
    """A running network and connections to it. `buyer` is an account of this test's own."""

    def __init__(self, running: Running, stack: AsyncExitStack, operator: AsyncClient, buyer: Buyer) -> None:
        self.running = running
        self.data = running.data
        self.url = running.url
        self.operator = operator
        self.first = buyer
        self.buyer = buyer.client
        self._stack = stack

    @property
    def process(self) -> subprocess.Popen[str]:
        """`fallow up`."""
        return self.running.process

    def pids(self, role: str) -> list[int]:
        """See `Running`."""
        return self.running.pids(role)

    async def client(self, key: str) -> AsyncClient:
        """Connect with a key."""
        return await self._stack.enter_async_context(AsyncClient(self.url, key, ca=self.running.ca))

    async def new_buyer(self, usd: int = 100) -> Buyer:
        """Open an account with so many TEST credits."""
        secret = await self.operator.create_key(label="a buyer of a test", scopes=("buy", "withdraw"))
        if usd:
            await self.operator.grant(secret.account, usd * 1_000_000)
        return Buyer(secret.secret, secret.account, await self.client(secret.secret), usd * 1_000_000)

    @asynccontextmanager
    async def agent(self, name: str, **options: Any) -> AsyncIterator[Agent]:
        """Join a machine and wait until it is on the market."""
        async with self.agents(name, **options) as (agent,):
            yield agent

    @asynccontextmanager
    async def agents(self, *names: str, **options: Any) -> AsyncIterator[list[Agent]]:
        """Join several at once."""
        async with AsyncExitStack() as stack:
            found = [stack.enter_context(self.running.agent(name, **options)) for name in names]
            await self.on_market(*found)
            yield found

    async def on_market(self, *agents: Agent) -> None:
        """Wait until these agents are on the market, and learn their names."""
        for agent in agents:

            async def here(agent: Agent = agent) -> bool:
                if agent.process.poll() is not None:
                    raise Ended(f"{agent.name} ended: {agent.words()[-2000:]}")
                found = [node for node in await self.buyer.nodes() if node.label == agent.name]
                if not found or found[-1].state not in {"idle", "busy"}:
                    return False
                agent.node, agent.account = found[-1].node, found[-1].account
                return True

            await until_async(here, f"{agent.name} is on the market")

    async def node(self, agent: Agent) -> NodeView:
        """How the market sees an agent."""
        return next(node for node in await self.buyer.nodes() if node.node == agent.node)

    async def order(self, rounds: Sequence[int], *, on: Sequence[Agent] = (), **options: Any) -> Order:
        """An order to spin: a map over several rounds, or a single job over one; `on` names the only machines."""
        needs = options.pop("requirements", NEEDS)
        if on:
            needs = Requirements(
                cpu_milli=needs.cpu_milli,
                memory_mib=needs.memory_mib,
                disk_mib=needs.disk_mib,
                nodes_allowed=[agent.node for agent in on],
            )
        options = {"time_limit_s": 120, "fuel": 10**14, **options}
        texts = [str(each).encode() for each in rounds]
        client = options.pop("client", self.buyer)
        what: dict[str, Any] = {"inputs": {"input": texts[0]}} if len(texts) == 1 else {"items": texts}
        order: Order = await client.wasm_order(programs.spin(), requirements=needs, **what, **options)
        return order

    async def submit(self, rounds: Sequence[int], **options: Any) -> Order:
        """Order it."""
        order = await self.order(rounds, **options)
        await options.get("client", self.buyer).submit(order)
        return order

    async def job(self, job_id: str) -> JobView:
        """How a job stands, even when a part of the network is just starting again."""
        seen: list[JobView] = []

        async def ask() -> bool:
            seen.append(await self.buyer.job(job_id))
            return True

        await until_async(ask, "the job is shown")
        return seen[-1]

    async def finished(self, job_id: str, *, bound: float = 2 * BOUND) -> JobView:
        """Wait for the end of a job, whatever happens to the network meanwhile."""

        async def ended() -> bool:
            return (await self.buyer.job(job_id)).state in FINAL

        await until_async(ended, f"job {job_id} ends", bound=bound)
        return await self.job(job_id)

    async def items_done(self, job_id: str, count: int) -> None:
        """Wait until so many items of a job are done."""

        async def done() -> bool:
            return (await self.buyer.job(job_id)).counts["done"] >= count

        await until_async(done, f"{count} items are done", every=0.05)

    async def runs(self, job_id: str, count: int = 1) -> None:
        """Wait until so many items of a job run, and nothing less."""

        async def running() -> bool:
            return (await self.buyer.job(job_id)).counts["running"] >= count

        await until_async(running, f"{count} items run", every=0.05)

    async def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        """Read the network's tables, as its operator can."""
        connection = await asyncpg.connect(self.running.place["postgres_dsn"])
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    async def all_leases(self) -> list[Lease]:
        """Every lease there ever was, with all that the market knows of it."""
        rows = await self.fetch("SELECT doc FROM market.lease ORDER BY proposed_at, id")
        return [msgspec.json.decode(row["doc"], type=Lease) for row in rows]

    async def at_rest(self) -> None:
        """Wait until no lease is open: when a job is done, the network may still check with work of its own."""

        async def resting() -> bool:
            return not await self.fetch("SELECT 1 FROM market.lease WHERE state <> 'ended' LIMIT 1")

        await until_async(resting, "no lease is open any more", every=0.05)

    async def books(self) -> dict[Purpose, int]:
        """What lies on all accounts of each purpose together."""
        rows = await self.fetch(
            "SELECT code, sum(credits_posted - debits_posted)::text AS amount FROM ledger.account GROUP BY code"
        )
        return {Purpose(row["code"]): int(row["amount"]) for row in rows}

    async def balance(self, purpose: Purpose, owner: str = "") -> int:
        """What lies on one account for TEST credits."""
        rows = await self.fetch(
            "SELECT (credits_posted - debits_posted)::text AS amount FROM ledger.account WHERE id = $1",
            account_id(purpose, Credit.GRANTED, address(owner) if owner else NETWORK),
        )
        return int(rows[0]["amount"]) if rows else 0


async def check_job(net: Net, job_id: str, rounds: Sequence[int]) -> None:
    """All items of a job are done, once and rightly, and the buyer owes one lease for each."""
    job = await net.job(job_id)
    items = [item async for item in net.buyer.all_items(job_id)]
    leases = [lease for lease in await net.all_leases() if lease.job == job_id]
    assert (job.state, job.reserved_microusd) == ("done", 0), (job, items)
    assert [item.index for item in items] == list(range(len(rounds)))
    assert all(lease.state is LeaseState.ENDED for lease in leases)
    for item, expected in zip(items, rounds, strict=True):
        assert await (await net.buyer.result(job_id, item.index)).output("n") == programs.spun(expected)
        mine = [lease for lease in leases if lease.item == item.index and lease.owed_microusd]
        (bought,) = [lease for lease in mine if lease.payer != NETWORK]
        assert (bought.reason, bought.owed_microusd) == (WORK_DONE, item.owed_microusd), (item, leases)
        assert len({lease.payee for lease in mine}) == len(mine), "each result is of another owner's"
    assert job.owed_microusd == sum(item.owed_microusd for item in items)


async def check_books(net: Net) -> None:
    """Every micro-dollar is where the leases say, nobody was paid twice, and nothing stays reserved.

    It is for a network that nobody used but this test, and whose jobs have ended.
    """
    await net.at_rest()
    paid: dict[MeterKey, int] = {}
    refunded, made_good = 0, Counter[bytes]()
    for lease in await net.all_leases():
        assert lease.state is LeaseState.ENDED, lease
        refunded += lease.refunded_microusd
        made_good[lease.payee] += lease.made_good_microusd
        if lease.owed_microusd:
            key = (lease.payer, lease.payee, lease.price_version)
            paid[key] = paid.get(key, 0) + lease.price_microusd_per_hour * lease.used_ms
    charges = {key: cumulative_charge(price_ms, FeePolicy()) for key, price_ms in paid.items()}
    books = await net.books()
    assert books[Purpose.CLEARING] == 0
    assert books[Purpose.EARNED] == sum(charge.provider for charge in charges.values()) + sum(made_good.values())
    for purpose, at_first in FUNDS.items():
        part = purpose.name.lower()
        came = sum(int(getattr(charge, part)) for charge in charges.values())
        went = sum(charge.total for key, charge in charges.items() if purpose is Purpose.FEE and key[0] == NETWORK)
        went += refunded + sum(made_good.values()) if purpose is Purpose.RESERVE else 0
        assert books[purpose] == at_first + came - went, purpose
    owed = sum(charge.total for key, charge in charges.items() if key[0] != NETWORK)
    balance = await net.buyer.balance()
    assert not any(balance.reserved.values())
    assert net.first.granted - balance.spendable["granted"] == owed - refunded
    for agent in net.running.agents:
        payee = address(agent.account)
        earned = sum(charge.provider for key, charge in charges.items() if key[1] == payee) + made_good[payee]
        assert (await net.operator.balance_of(agent.account)).earned["granted"] == earned
    pending = await net.fetch("SELECT 1 FROM ledger.account WHERE debits_pending <> 0 OR credits_pending <> 0")
    assert not pending
    check = await net.operator.ledger_check()
    assert check.ok, check.problems
    assert not any(check.sums.values())


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Net]:
    """Connections to a running network, for a test's own event loop, with a buyer of its own."""
    async with AsyncExitStack() as stack:
        operator_key = running.welcome["operator_key"]
        operator = await stack.enter_async_context(AsyncClient(running.url, operator_key, ca=running.ca))
        nobody = Buyer("", "", operator, 0)
        net = Net(running, stack, operator, nobody)
        net.first = await net.new_buyer()
        net.buyer = net.first.client
        yield net


@asynccontextmanager
async def network(data: Path | None = None, steps: Path | None = None, **settings: str) -> AsyncIterator[Net]:
    """A network of a test's own."""
    with running_network(data, steps, **settings) as running:
        async with connected(running) as net:
            yield net


def fresh_id() -> str:
    """An id for an order or a grant."""
    return secrets.token_hex(16)
