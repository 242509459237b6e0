"""The agent: it hears proposals, does the work, signs what it did, and obeys its owner."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from fallow.agent.book import Book
from fallow.agent.direct import Direct, Listen
from fallow.agent.hearing import Listener
from fallow.agent.home import Home, State
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Decline, Leases, Take, lease_id
from fallow.agent.live import Live
from fallow.agent.offering import Offering
from fallow.agent.outbox import Outbox
from fallow.agent.owner import Owner
from fallow.agent.presence import Presence
from fallow.agent.rolls import Rolls
from fallow.agent.rules import Rules
from fallow.agent.runner import Runner
from fallow.agent.sender import Sender
from fallow.agent.services import Services
from fallow.agent.status import Status, why_idle
from fallow.agent.uploads import OpenBlobs, Uploads
from fallow.domain import calls
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.facts import LeaseDeclined
from fallow.domain.views.nodes import StandingView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, Dial, DialledSession
from fallow.ports.mishaps import steadily
from fallow.ports.rpc import call
from fallow.ports.vertical.work import ANY_LINE
from fallow.ports.vertical.worker import HandBack, Overview, Probe, Worker

BEAT_INTERVAL_S = 2.0
BEAT_AGAIN_S = 0.2
"""How soon a sign of life that did not get out is given again: the network counts the time without any."""

OLD_RECORDS_WAIT_S = 5.0
"""How long the first beat of a new start waits for the records of earlier ones: see `_beat`."""

DISK_SPARE_MIB = 64
"""What stays free of the disk beside a new lease's share: records must find room."""

STOP_WORK_S = 10.0
FLUSH_S = 5.0
POLL_S = 0.05
STANDING_S = 5.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Ports(NamedTuple):
    """What the agent needs from outside. `workers` are by vertical; `jitter` spreads retries.

    `owner` watches over the owner's policy; without it nothing but his commands closes the machine. `dial` reaches the
    network's data plane; without it buyers cannot look into their running work. `listen` opens the port where buyers
    dial this node itself, where the owner allows it. `gpus` names the graphics processors
    that are offered (NVML's UUIDs).
    """

    bus: Bus
    clock: Clock
    blobs: OpenBlobs
    workers: Mapping[str, Worker]
    jitter: random.Random
    beat_interval_s: float = BEAT_INTERVAL_S
    owner: Owner | None = None
    dial: Dial | None = None
    listen: Listen | None = None
    gpus: Sequence[str] = ()


class Agent:
    """One node at work; set `stop` to end it.

    `outbox` is that of a boot that was just counted (`Home.next_boot`), and the home's workspaces are empty.
    """

    def __init__(
        self, home: Home, state: State, key: NodeKey, outbox: Outbox, ports: Ports, attributes: Mapping[str, str]
    ) -> None:
        self.stop = asyncio.Event()
        self._presence = Presence(home, state, attributes)
        self._key = key
        self._outbox = outbox
        self._ports = ports
        self._probe = Probe({}, {})
        self._leases = Leases(Book(state.settings.total, ports.gpus), ports.workers, outbox.spoken_of)
        self._offering = Offering(self._presence, self._leases, outbox, ports.owner)
        self._sender = Sender(
            outbox,
            ports.bus,
            ports.clock,
            node=key.text,
            network_key=bytes.fromhex(state.network.public_key),
            jitter=ports.jitter,
        )
        self._listener = Listener(ports.bus, ports.clock, subjects=2)
        self._home = home
        self._uploads = Uploads(home.uploads, ports.blobs, ports.clock, ports.jitter)
        self._runner = Runner(
            self._leases,
            outbox,
            ports.clock,
            workers=ports.workers,
            blobs=ports.blobs,
            uploads=self._uploads,
            unseal=key.unseal,
            work=home.work,
            line=ports.owner or ANY_LINE,
        )
        self._services = Services(ports.workers, key.text)
        self._live = Live(
            self._leases,
            self._services,
            ports.clock,
            net=state.network.net,
            key=key,
            network_key=bytes.fromhex(state.network.public_key),
            work=home.work,
            random_bytes=ports.jitter.randbytes,
        )
        self._rolls = Rolls(
            self._leases,
            ports.workers,
            net=state.network.net,
            key=key,
            closed=lambda: next(iter(self._closed(0)), ""),
        )
        self._direct: Direct | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until `stop` is set; then end what runs, hand in the records if the link is up, and return."""
        async with asyncio.TaskGroup() as group:
            parts = (self._outbox, self._sender, self._uploads)
            ground = [group.create_task(part.run()) for part in parts]
            for lease in self._uploads.left:
                self._track(group.create_task(self._runner.hand_in(lease)))
            await self._begin()
            owner = group.create_task(self._offering.run())
            front = [
                group.create_task(
                    self._listener.run(
                        calls.leases.proposals(self._key.text), lambda data: self._on_proposals(data, group)
                    )
                ),
                group.create_task(self._listener.run(calls.leases.stops(self._key.text), self._on_stops)),
                group.create_task(self._beat()),
                group.create_task(self._live.run()),
                group.create_task(self._rolls.run(self._ports.bus, self._ports.clock)),
                group.create_task(self._services.run(self._ports.bus, self._ports.clock)),
                *(group.create_task(self._report(worker)) for worker in self._ports.workers.values()),
            ]
            if self._ports.owner is not None:
                rules = Rules(
                    self._ports.owner,
                    self._ports.clock,
                    node=self._key.text,
                    account=self._presence.state.account,
                )
                front.append(group.create_task(rules.run(self._ports.bus)))
            if self._ports.dial is not None:
                front += [group.create_task(work) for work in self._data_links(self._ports.dial)]
            await self.stop.wait()
            owner.cancel()  # no offer comes after the last one
            await self._end()
            for task in (*front, *ground, *self._tasks):
                task.cancel()

    async def pause(self) -> None:
        """Give the machine back to its owner at once: what runs ends, nothing new begins until `resume`."""
        await self._offering.turn("paused")

    async def drain(self) -> None:
        """Finish what runs and begin nothing new until `resume`."""
        await self._offering.turn("draining")

    async def resume(self) -> None:
        """Take work again."""
        await self._offering.turn("open")

    def lend(self, vertical: str, what: str) -> None:
        """Keep what the owner lends to a vertical from the next start on; empty: nothing.

        Raises:
            Unavailable: the disk is full.
        """
        self._presence.set_lent(vertical, what)

    async def overviews(self) -> dict[str, Overview]:
        """All that there is to know of what the owner lends, by vertical."""
        return await self._services.overviews()

    async def hand_back(self, vertical: str) -> HandBack:
        """Hand back what is lent to a vertical, or say how far that is. Raises as `Worker.hand_back`."""
        return await self._services.hand_back(vertical)

    def closed_by_owner(self) -> list[str]:
        """Codes of all reasons why the owner wants nothing new now, the strongest first."""
        return [*(["owner.leaving"] if self.stop.is_set() else []), *self._offering.owners_reasons]

    async def status(self) -> Status:
        """How things stand now."""
        state = self._presence.state
        lent = await self._services.lent()
        return Status(
            node=self._key.text,
            net=state.network.net,
            account=state.account,
            mode=state.mode,
            boot=self._outbox.boot,
            offered=self._leases.book.offered,
            free=self._leases.book.left,
            leases=sorted(self._leases.held),
            records_waiting=self._outbox.waiting,
            records_refused=[f"{one.boot}/{one.seq}: {one.reason}" for one in await self._outbox.refused()],
            link_trouble=self._listener.trouble or self._sender.trouble,
            disk_trouble=self._outbox.trouble,
            attributes=dict(sorted(self._presence.attributes.items())),
            kinds=sorted(self._probe.attributes),
            missing=dict(self._probe.missing),
            closed_for=self._closed(0),
            uploads_waiting=sorted(self._uploads.waiting),
            asked=self._offering.asked,
            terms=self._offering.terms,
            owner=self._ports.owner.view() if self._ports.owner is not None else None,
            roll_call=self._leases.roll is not None,
            direct=self._direct.state if self._direct is not None else "",
            lent={name: one.says for name, one in lent.items()},
            lent_trouble={name: one.trouble for name, one in lent.items() if one.trouble},
        )

    async def full_status(self) -> Status:
        """The same, and how the network sees this node: that takes a question to it."""
        status = await self.status()
        try:
            asked = calls.nodes.standing(self._key.text)
            standing = await call(self._ports.bus, asked, {}, StandingView, timeout_s=STANDING_S)
        except FallowError as error:
            return msgspec.structs.replace(status, standing_trouble=f"{error.message} {error.hint}".strip())
        except msgspec.MsgspecError as error:
            return msgspec.structs.replace(status, standing_trouble=f"Its answer makes no sense: {error}.")
        return msgspec.structs.replace(status, standing=standing)

    async def why_idle(self) -> list[str]:
        """What keeps work away, on this side and on the network's."""
        return why_idle(await self.full_status(), self._ports.clock.now_ms())

    # What is heard

    def _on_proposals(self, data: bytes, group: asyncio.TaskGroup) -> None:
        for proposal in _decoded(data, list[calls.leases.Proposal]):
            closed = next(iter(self._closed(proposal.disk_mib)), "")
            decision = self._leases.decide(proposal, closed)
            if isinstance(decision, Take):
                self._track(group.create_task(self._runner.run(decision.held)))
            elif isinstance(decision, Decline):
                self._track(group.create_task(self._decline(proposal.lease, decision.reason)))

    def _on_stops(self, data: bytes) -> None:
        for lease in _decoded(data, list[str]):
            self._leases.stop(lease, "buyer.cancelled", "buyer")

    async def _decline(self, lease: str, reason: str) -> None:
        _log.info("lease %s declined: %s", lease, reason)
        if self._outbox.overfull:
            return
        try:
            await self._outbox.append(LeaseDeclined(lease=lease_id(lease), reason=reason))
        except Unavailable as error:
            _log.warning("lease %s stays unanswered: %s", lease, error)

    def _closed(self, disk_mib: int) -> list[str]:
        """Codes of all reasons why no lease that takes so much disk is taken now, the strongest first."""
        reasons = (
            ("owner.leaving", self.stop.is_set()),
            (self._offering.closed_for, bool(self._offering.closed_for)),
            ("agent.outbox_full", self._outbox.full),
            (self._outbox.trouble, bool(self._outbox.trouble)),
            ("agent.uploads_full", self._uploads.full),
            ("agent.disk_full", self._home.free_mib() < disk_mib + DISK_SPARE_MIB),
        )
        return [reason for reason, holds in reasons if holds]

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _data_links(self, dial: Dial) -> Iterator[Coroutine[Any, Any, None]]:
        session = DialledSession(
            Caller(self._presence.state.network.net, self._key.node, self._key.sign, node=True),
            dial,
            self._ports.clock,
            random_bytes=self._ports.jitter.randbytes,
            jitter=self._ports.jitter,
            on_opened=self._live.take,
        )
        yield session.hold()
        if self._ports.listen is not None:
            self._direct = Direct(self._live.door, session, self._ports.listen, self._ports.clock)
            yield self._direct.run()

    # Beginning and end

    async def _begin(self) -> None:
        """Say who this is (once), and what it offers from now on."""
        self._probe = await self._probed()
        self._presence.attributes |= self._probe.attributes
        if not self._presence.state.enrolled:
            await self._outbox.append_surely(self._presence.binding())
            # A crash in between records the same binding again, which changes nothing.
            self._presence.set_enrolled()
        await self._offering.begin()
        state = self._presence.state
        _log.info("node %s serves %s (boot %d)", self._key.text, state.network.net, self._outbox.boot)

    async def _end(self) -> None:
        """Leave politely; each step is bounded, since the owner is waiting."""
        with suppress(FallowError):
            # Before anything is given back, or the network would propose it right here again.
            await self._offering.end()
        self._leases.stop_all("owner.left", "owner")
        await self._until(lambda: not self._tasks, STOP_WORK_S)
        await self._until(lambda: not self._outbox.waiting, FLUSH_S)
        _log.info("stopped; %d batches of records wait for the next start", self._outbox.waiting)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done`, or so long."""
        clock = self._ports.clock
        ends_ms = clock.monotonic_ms() + seconds * 1000
        while not done() and clock.monotonic_ms() < ends_ms:
            await clock.sleep(POLL_S)

    async def _probed(self) -> Probe:
        attributes: dict[str, str] = {}
        missing: dict[str, str] = {}
        for worker in self._ports.workers.values():
            probe = await worker.probe()
            attributes |= probe.attributes
            missing |= probe.missing
        for name, why in missing.items():
            _log.info("not offered: %s: %s", name, why)
        return Probe(attributes, missing)

    # What is said

    async def _report(self, worker: Worker) -> None:
        """Have a vertical say what it measures by itself."""
        await steadily("agent.report", partial(worker.report, self._outbox.append_surely), self._ports.clock)

    async def _beat(self) -> None:
        """Give signs of life, from when this node can be heard of on.

        A new boot number tells the market that the leases of earlier ones are lost. So the first beat waits a moment
        for what earlier runs left in the outbox: work that was finished then is not lost.
        """
        clock = self._ports.clock
        await self._listener.hears.wait()
        earlier = set(self._uploads.left)
        await self._until(
            lambda: not self._outbox.old_waiting and earlier.isdisjoint(self._uploads.waiting), OLD_RECORDS_WAIT_S
        )
        subject = calls.nodes.beats(self._key.text)
        while True:
            leases = sorted({*self._leases.held, *self._outbox.unsettled, *self._uploads.waiting})
            beat = calls.nodes.Beat(node=self._key.text, boot=self._outbox.boot, leases=leases)
            pause_s = self._ports.beat_interval_s
            try:
                await self._ports.bus.publish(subject, msgspec.msgpack.encode(beat))
            except FallowError:
                pause_s = min(BEAT_AGAIN_S, pause_s)
            await clock.sleep(pause_s)


def _decoded(data: bytes, to: type[list[T]]) -> list[T]:
    """What came in; nothing when it makes no sense, since nobody but the network can send here."""
    try:
        return msgspec.msgpack.decode(data, type=to)
    except msgspec.MsgspecError as error:
        _log.warning("a message of the network makes no sense: %s", error)
        return []
