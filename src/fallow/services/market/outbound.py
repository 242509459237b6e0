"""What the market says once a round is written: proposals and stops to nodes, events to whoever watches a job."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping

import msgspec

from fallow.domain import calls
from fallow.domain.errors import FallowError
from fallow.domain.jobs import Job
from fallow.domain.leases import Lease
from fallow.domain.signing import Sign
from fallow.domain.streams import Purpose, StreamTicket
from fallow.domain.tickets import Ticket
from fallow.domain.windows import cut_in_ms
from fallow.ports.bus import Bus
from fallow.ports.happenings import show
from fallow.services.market.brain import OVERDUE_MS
from fallow.services.market.changes import Changes
from fallow.services.market.entry import Entry
from fallow.services.market.vault import Vault

PROPOSALS_A_MESSAGE_MAX = 64
MESSAGES_AT_ONCE = 32
STREAM_TICKET_MS = 600_000
"""A ticket opens streams for so long; those that are open stay open."""

log = logging.getLogger(__name__)


class Outbound:
    """Sends. A message that is lost is made up for by the lease's deadline or the node's next beat."""

    def __init__(self, *, net: str, epoch_ms: int, sign: Sign, vault: Vault, bus: Bus) -> None:
        self._net = net
        self._epoch_ms = epoch_ms
        self._sign = sign
        self._vault = vault
        self._bus = bus

    async def send(self, changes: Changes, jobs: Mapping[str, Entry]) -> None:
        """Send what a round brought; `jobs` are those of its proposals."""
        try:
            for count, (subject, data) in enumerate(self._messages(changes, jobs), start=1):
                await self._bus.publish(subject, data)
                if count % MESSAGES_AT_ONCE == 0:
                    await asyncio.sleep(0)  # others get their turn
        except FallowError as error:
            log.warning("the bus did not take the messages of a round: %s", error)
        await show(self._bus, changes.happened.take())

    def _messages(self, changes: Changes, jobs: Mapping[str, Entry]) -> Iterator[tuple[str, bytes]]:
        """Subjects and what is said on them, each made when it is asked for."""
        leases: dict[bytes, list[Lease]] = defaultdict(list)
        for lease in changes.proposals:
            leases[lease.node].append(lease)
        for node, proposed in leases.items():
            for start in range(0, len(proposed), PROPOSALS_A_MESSAGE_MAX):
                part = proposed[start : start + PROPOSALS_A_MESSAGE_MAX]
                proposals = [self.proposal(lease, jobs[lease.job]) for lease in part]
                yield calls.leases.proposals(node.hex()), msgspec.msgpack.encode(proposals)
        stops: dict[bytes, list[str]] = defaultdict(list)
        for node, lease_id in changes.stops:
            stops[node].append(lease_id.hex())
        for node, ids in stops.items():
            yield calls.leases.stops(node.hex()), msgspec.msgpack.encode(ids)
        for event in changes.events:
            yield calls.jobs.job_events(event.job), msgspec.json.encode(event)

    def proposal(self, lease: Lease, entry: Entry) -> calls.leases.Proposal:
        """Say what a node needs to know to decide on a lease and to do it."""
        job, order = entry.job, entry.job.order
        item, replay = order.items[lease.item] if order.items else None, job.replay
        return calls.leases.Proposal(
            lease=lease.id.hex(),
            vertical=order.vertical,
            work=order.work,
            item=item,
            seed=(seed(replay.job, replay.item) if replay else seed(order.id, lease.item)).hex(),
            cpu_milli=lease.resources.cpu_milli,
            memory_mib=lease.resources.memory_mib,
            disk_mib=lease.resources.disk_mib,
            price_microusd_per_hour=lease.price_microusd_per_hour,
            window_ms=lease.window_ms,
            time_limit_s=order.lease_limit_s,
            answer_by=lease.answer_by,
            ticket=base64.urlsafe_b64encode(self._ticket(lease, job, item)).decode().rstrip("="),
            resume=lease.resume,
            checkpoints=job.needs.checkpoints,
            until_stopped=order.until_stopped,
            gpus=lease.resources.gpus,
            secrets=self._vault.seal(entry.locked, lease) if entry.locked is not None else b"",
            cut_in_ms=cut_in_ms(lease.proposed_at, self._epoch_ms, lease.id),
            cuts_apart_ms=self._epoch_ms,
        )

    def stream_ticket(self, lease: Lease, purpose: Purpose, now: int) -> bytes:
        """Seal the right of a lease's payer to reach what runs under it, for a while."""
        return StreamTicket(
            net=self._net,
            node=lease.node,
            lease=lease.id,
            account=lease.payer,
            purpose=purpose,
            expires_at=now + STREAM_TICKET_MS,
        ).seal(self._sign)

    def _ticket(self, lease: Lease, job: Job, item: str | None) -> bytes:
        blobs = sorted({*job.needs.blobs, *(blob for blob in (item, lease.resume) if blob)})
        return Ticket(
            net=self._net,
            node=lease.node,
            lease=lease.id,
            owner=job.replay.account if job.replay else job.account,
            reads=[bytes.fromhex(blob) for blob in blobs],
            write_bytes_max=job.needs.write_bytes_max,
            expires_at=lease.proposed_at + lease.time_limit_ms + OVERDUE_MS,
        ).seal(self._sign)


def seed(job_id: str, item: int) -> bytes:
    """32 bytes from which all chance of an item's program comes: the same on every node that runs it."""
    return hashlib.sha256(f"fallow/seed/1\0{job_id}\0{item}".encode()).digest()
