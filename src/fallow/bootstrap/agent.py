"""Puts an agent together from its parts, and runs it."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2
import msgspec

from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.nats.tunnel import PATH as BUS_PATH
from fallow.adapters.streams.dialling import dial, socket_url
from fallow.adapters.streams.direct import Attend, listening
from fallow.agent import control, enrol
from fallow.agent.bench import score_cpu
from fallow.agent.blobs import BlobGateway
from fallow.agent.cache import InputCache
from fallow.agent.consent import Consent
from fallow.agent.home import Home, State, with_lent
from fallow.agent.http import new_client
from fallow.agent.identity import NodeKey
from fallow.agent.inventory import take_inventory
from fallow.agent.join import add_owners_key, fetch_network
from fallow.agent.lending import check_lendings, read_lending
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.owner import Owner
from fallow.agent.probes import LinuxProbes
from fallow.agent.service import Agent, Ports
from fallow.agent.traffic import CountedBus, CountedLink, Traffic
from fallow.agent.unit import hidden_from
from fallow.agent.uploads import finished_leases
from fallow.bootstrap.late_bus import LateBus
from fallow.bootstrap.memory import keep_freed_memory
from fallow.bootstrap.plugins import load_verticals
from fallow.domain.api_keys import KEY_ID_BYTES, KEY_SECRET_BYTES, new_key
from fallow.domain.billing import FeePolicy
from fallow.domain.calls.leases import Proposal
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.networks import is_loopback
from fallow.domain.pins import split_token
from fallow.domain.views.network import NetworkView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.streams import Link
from fallow.ports.vertical.work import LeaseBlobs
from fallow.ports.vertical.worker import Closed, HandBack, Worker, WorkerGround, never_closed
from fallow.sdk.trust import fetch_ca, trusting

INPUT_CACHE_BYTES = 2 << 30
LEAVE_S = 30.0
POLL_S = 0.1
LOOK_S = 2.0
FEE_S = 600.0

_log = logging.getLogger(__name__)


class OwnersAccess(NamedTuple):
    """Where the owner of a machine looks on, for which account, and with which API key."""

    url: str
    account: str
    key: str


async def join(
    home_path: Path, url: str, *, token: str, wishes: enrol.Wishes, agree: Callable[[str], bool], account: str = ""
) -> State | None:
    """Enrol this machine; None when `agree`, which is shown what it means, says no.

    A token with a pin means that only the certificate authority that it names is trusted, now and later; the network
    is shown the token's secret alone, and that after its certificate was checked.

    Raises:
        FallowError: see `fetch_ca`, `enrol.plan_join` and `enrol.carry_out`.
    """
    secret, pin = split_token(token)
    ca = await fetch_ca(url, pin) if pin else ""
    home = Home(home_path)
    settings = enrol.settings_from(wishes, take_inventory(home.path))
    async with new_client(tls=_trusted(ca), local_address=settings.dial_from) as client:
        plan = await enrol.plan_join(client, home, url, settings, load_verticals())
        if not agree(plan.text):
            return None
        return await enrol.carry_out(
            client,
            home,
            plan,
            secret,
            clock=SystemClock(),
            score=lambda: score_cpu(time.monotonic_ns),
            ca=ca,
            account=account,
        )


async def run_agent(home_path: Path) -> None:
    """Serve the network that the home has joined, until SIGTERM, SIGINT or `fallow agent leave`.

    Raises:
        NotFound: the machine has not joined a network.
        Conflict: an agent runs in this home already.
    """
    keep_freed_memory()
    home = Home.there(home_path)
    with home.locked():
        state = home.state()
        key = NodeKey.load(home.key)
        home.clear_work()
        clock = SystemClock()
        store = _outbox_store(home, state, key, home.next_boot())
        outbox = Outbox(store, clock)
        try:
            await _serve(home, state, key, outbox, clock)
        finally:
            outbox.close()


async def lend(home_path: Path, text: str, *, agree: Callable[[str], bool]) -> bool | None:
    """Lend a vertical something else beside leases, from the agent's next start on.

    Returns whether an agent runs here; None when `agree`, which is shown what it means, says no.

    Raises:
        NotFound: the machine has not joined a network.
        InvalidInput: it is malformed, or cannot be lent (`agent.lends`).
        Unavailable: the disk is full.
    """
    vertical, what = read_lending(text)
    home = Home.there(home_path)
    state = home.state()
    lent = check_lendings({vertical: what}, load_verticals(), hidden_from(home.path))
    said = "\n".join(lent) or f"Nothing is lent to {vertical} any more."
    if not agree(said):
        return None
    key = NodeKey.load(home.key)
    consent = Consent(net=state.network.net, node=key.node, at=SystemClock().now_ms(), text=said)
    home.keep(home.consent_lent(vertical), consent.seal(key.sign))
    try:
        await control.ask(home.socket, "lend", vertical, what)
    except NotFound:
        with home.locked():
            home.save(with_lent(home.state(), vertical, what))
        return False
    return True


async def begin_hand_back(home_path: Path, vertical: str, *, agree: Callable[[str], bool]) -> HandBack | None:
    """Have the running agent hand back what is lent to a vertical; where it does already, that is all.

    Returns how far it is; None when `agree`, which is shown what it means, says no. Where it is over, nothing is lent
    any more from the agent's next start on.

    Raises:
        NotFound: the machine has not joined a network, no agent runs, or nothing is lent.
        Unavailable: it cannot be begun now.
    """
    home = Home.there(home_path)
    state = home.state()
    verticals = load_verticals()
    lends = state.settings.lends.get(vertical, "")
    consent_path = home.consent_handed_back(state.network.net, vertical)
    if lends and not consent_path.exists():
        check_lendings({vertical: ""}, verticals)
        said = verticals[vertical].hand_back_text(lends)
        if not agree(said):
            return None
        key = NodeKey.load(home.key)
        consent = Consent(net=state.network.net, node=key.node, at=SystemClock().now_ms(), text=said)
        home.keep(consent_path, consent.seal(key.sign))
    return await _handed_back(home, vertical)


async def follow_hand_back(home_path: Path, vertical: str, *, show: Callable[[HandBack], None]) -> HandBack:
    """Show how far it is, until it is over. Ends and raises as `begin_hand_back`."""
    home, clock = Home.there(home_path), SystemClock()
    while True:
        found = await _handed_back(home, vertical)
        show(found)
        if found.over:
            return found
        await clock.sleep(LOOK_S)


async def _handed_back(home: Home, vertical: str) -> HandBack:
    """How far it is, and what follows where it is over: its owner may look on long after that."""
    found = msgspec.convert(await control.ask(home.socket, "hand-back", vertical), HandBack)
    if found.over:
        await control.ask(home.socket, "lend", vertical, "")
    return found


class Left(NamedTuple):
    """What a machine that has left still has: batches of records and finished leases, and what it lent, by vertical."""

    records_waiting: int
    lent: Mapping[str, str]


async def owners_key(home_path: Path) -> OwnersAccess:
    """Make an API key with which this machine's owner looks on: a new one each time.

    Raises:
        NotFound: the machine has not joined a network.
        FallowError: the network refuses it, or cannot be reached.
    """
    home = Home.there(home_path)
    state, key = home.state(), NodeKey.load(home.key)
    made = new_key(secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_SECRET_BYTES))
    async with new_client(tls=_trusted(state.ca), local_address=state.settings.dial_from) as client:
        await add_owners_key(client, state.url, net=state.network.net, key=key, made=made)
    return OwnersAccess(state.url, state.account, made.text)


async def leave(home_path: Path, *, erase: bool) -> Left:
    """Stop the agent if it runs, and leave its network; with `erase` the folder and the key are gone afterwards.

    What engines keep for it, such as images, is removed in any case: it lies outside of the folder, too.

    With `erase` nothing is left. Without it that are records that the network has not got, and what is kept where the
    owner lent it: of use if the machine comes back to this network.

    Raises:
        NotFound: the machine has not joined a network.
        Conflict: records still wait, so that erasing would lose them; or the agent does not stop.
        Unavailable: an engine does not remove what it keeps; without `erase` the machine has left all the same.
    """
    home = Home.there(home_path)
    if erase and not home.joined and home.key.exists():
        raise NotFound(
            "agent.left",
            f"The machine has left its network; its key, and records that could not be handed in, are in {home.path}.",
            "Delete that folder to be rid of them.",
        )
    state = home.state()
    clock = SystemClock()
    try:
        await control.ask(home.socket, "leave")
    except NotFound:
        _log.info("no agent runs in %s", home.path)
    await _stopped(home, clock)
    with home.locked():
        waiting = _records_waiting(home, state)
        if erase and waiting:
            raise Conflict(
                "agent.records_wait",
                f"{waiting} batches of records have not reached the network: they are what you are paid for.",
                "Start it again when the network is there (fallow agent run), or leave without --erase.",
            )
        if not erase:
            home.forget()  # first: whoever wants to leave does, whatever an engine says
        for worker in _workers(home, state, NodeKey.load(home.key), clock, never_closed).values():
            await worker.erase(for_good=erase)
        if erase:
            home.erase()
    return Left(waiting, {} if erase else state.settings.lends)


async def _serve(home: Home, state: State, key: NodeKey, outbox: Outbox, clock: Clock) -> None:
    bus = LateBus(lambda: _connect(state, key), clock)
    machine = take_inventory(home.path)
    attributes = machine.attributes | {"score.cpu": state.score_cpu}
    traffic = Traffic(home.path / "traffic.json", clock)
    probes = LinuxProbes(lambda: clock.now_ms() / 1000, lambda: clock.monotonic_ms() / 1000)
    fees = Fees()
    _hear_fee(fees, state.network)
    owner = Owner(
        home.path,
        probes,
        clock,
        traffic,
        machine=machine.resources,
        agreed=state.settings.total,
        terms=state.settings.terms,
        fees=fees,
    )

    def closed() -> list[str]:
        return agent.closed_by_owner()

    workers = _workers(home, state, key, clock, closed)
    async with (
        new_client(tls=_trusted(state.ca), local_address=state.settings.dial_from) as client,
        asyncio.TaskGroup() as group,
    ):
        gateway = BlobGateway(
            client,
            state.url,
            InputCache(home.cache / "inputs", INPUT_CACHE_BYTES),
            clock,
            node=key.node,
            sign=key.sign,
            network_key=bytes.fromhex(state.network.public_key),
            traffic=traffic,
        )
        ports = Ports(
            CountedBus(bus, traffic),
            clock,
            lambda proposal: _open_blobs(gateway, proposal),
            workers,
            random.SystemRandom(),
            owner=owner,
            dial=lambda: _dial(state, traffic),
            listen=partial(_listen, home, state, key, clock, traffic) if state.settings.direct else None,
            gpus=[gpu.uuid for gpu in machine.gpus],
        )
        agent = Agent(home, state, key, outbox, ports, attributes)
        _stop_on_signals(agent.stop)
        link = group.create_task(bus.hold())
        told = group.create_task(steadily("agent.fee", partial(_follow_fee, client, state.url, fees, clock), clock))
        async with control.serving(agent, home.socket):
            await agent.run()
        link.cancel()
        told.cancel()


async def _follow_fee(client: httpx2.AsyncClient, url: str, fees: Fees, clock: Clock) -> None:
    """Have the owner's floors go by the fee that the network has now, and by what it says of the next."""
    while True:
        try:
            _hear_fee(fees, await fetch_network(client, url))
        except FallowError as error:
            _log.info("the network does not say what it keeps of a price: %s", error)
        await clock.sleep(FEE_S)


def _hear_fee(fees: Fees, network: NetworkView) -> None:
    fees.first, following = FeePolicy(network.fee_ppm), network.next_fee
    fees.words = [FeeWord(*msgspec.structs.astuple(following))] if following else []


def _workers(home: Home, state: State, key: NodeKey, clock: Clock, closed: Closed) -> Mapping[str, Worker]:
    return {
        name: vertical.worker(
            WorkerGround(
                cache=home.cache / name,
                kept=home.kept(state.network.net) / name,
                clock=clock,
                net=state.network.net,
                node=key.node,
                sign=key.sign,
                network_key=bytes.fromhex(state.network.public_key),
                lends=state.settings.lends.get(name, ""),
                closed=closed,
            )
        )
        for name, vertical in load_verticals().items()
    }


def _open_blobs(gateway: BlobGateway, proposal: Proposal) -> LeaseBlobs:
    return gateway.lease(proposal.lease, proposal.ticket, input_bytes_max=proposal.disk_mib << 20)


def _connect(state: State, key: NodeKey) -> AbstractAsyncContextManager[Bus]:
    """Reach the bus through the gateway: a machine needs no port of the network's but that one."""
    url = socket_url(state.url, BUS_PATH)
    return connect_nats(
        url,
        signer=KeySigner(key.node, key.sign),
        name=f"fallow agent {key.text[:12]}",
        tls=_tls(url, state.ca),
        inbox_prefix=inbox_prefix(key.node),
        local_address=state.settings.dial_from,
    )


@asynccontextmanager
async def _dial(state: State, traffic: Traffic) -> AsyncIterator[Link]:
    async with dial(state.url, tls=_trusted(state.ca), local_address=state.settings.dial_from) as link:
        yield CountedLink(link, traffic)


@asynccontextmanager
async def _listen(
    home: Home, state: State, key: NodeKey, clock: Clock, traffic: Traffic, attend: Attend
) -> AsyncIterator[tuple[int, str]]:
    """Open the port where buyers dial this machine itself; what comes in and goes out there counts as all does."""
    host, port = enrol.split_direct(state.settings.direct)

    async def counted(link: Link, address: str) -> None:
        await attend(CountedLink(link, traffic), address)

    async with listening(host, port, key.node, counted, clock, home.path) as found:
        yield found


def _trusted(ca: str) -> ssl.SSLContext | None:
    return trusting(ca) if ca else None


def _tls(url: str, ca: str) -> ssl.SSLContext | None:
    """TLS for all but this very machine.

    Raises:
        InvalidInput: the network wants to be spoken to in plain text over the line (`agent.insecure_url`).
    """
    parts = urlsplit(url)
    if parts.scheme in {"tls", "wss"}:
        return _trusted(ca) or ssl.create_default_context()
    if is_loopback(parts.hostname or ""):
        return None
    raise InvalidInput("agent.insecure_url", f"The network's bus at {url} is in plain text.")


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first signal asks to stop politely, the second stops at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)


async def _stopped(home: Home, clock: Clock) -> None:
    ends_ms = clock.monotonic_ms() + LEAVE_S * 1000
    while True:
        try:
            with home.locked():
                return
        except Conflict:
            if clock.monotonic_ms() > ends_ms:
                raise
        await clock.sleep(POLL_S)


def _outbox_store(home: Home, state: State, key: NodeKey, boot: int) -> OutboxStore:
    net = state.network.net
    return OutboxStore(home.outbox(net), net=net, key=key, boot=boot, next_boot=home.next_boot)


def _records_waiting(home: Home, state: State) -> int:
    unsaid = finished_leases(home.uploads)
    if not home.outbox(state.network.net).exists():
        return unsaid
    store = _outbox_store(home, state, NodeKey.load(home.key), boot=0)
    try:
        return unsaid + store.count()
    finally:
        store.close()
