"""Does the work of one lease: accept, workspace, worker, receipts, wipe."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from fallow.agent.leases import Held, Leases, resources_of
from fallow.agent.outbox import Outbox
from fallow.agent.uploads import OpenBlobs, Uploads
from fallow.domain.calls.leases import LeaseSecrets, Proposal
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint
from fallow.ports.clock import Clock
from fallow.ports.vertical.work import Assignment, Finished, LeaseBlobs, Line
from fallow.ports.vertical.worker import Worker

Unseal = Callable[[bytes], bytes]
"""Opens what was sealed to this node; FallowError when it cannot."""

_log = logging.getLogger(__name__)


class Runner:
    """Runs leases that were taken. `workers` are by vertical; `work` is the folder for workspaces."""

    def __init__(
        self,
        leases: Leases,
        outbox: Outbox,
        clock: Clock,
        *,
        workers: Mapping[str, Worker],
        blobs: OpenBlobs,
        uploads: Uploads,
        unseal: Unseal,
        work: Path,
        line: Line,
    ) -> None:
        self._leases = leases
        self._outbox = outbox
        self._clock = clock
        self._workers = workers
        self._blobs = blobs
        self._uploads = uploads
        self._unseal = unseal
        self._work = work
        self._line = line

    async def run(self, held: Held) -> None:
        """See a lease through. It starts when its accept is on the disk, and not before."""
        lease = held.proposal.lease
        try:
            await self._outbox.append(LeaseAccepted(lease=held.id))
        except Unavailable as error:
            _log.warning("lease %s not taken: %s", lease, error)
            self._leases.forget(lease)
            return
        _log.info("lease %s accepted", lease)
        begun_ms = self._clock.monotonic_ms()
        finished = await self._do(held)
        self._leases.free(lease)
        receipts = await self._uploads.handed_in(lease, held.final_receipts(finished))
        await self._outbox.append_surely(*receipts)
        await self._uploads.forget(lease)
        self._leases.forget(lease)
        took_ms = self._clock.monotonic_ms() - begun_ms
        _log.info(
            "lease %s ended: ok=%s reason=%s used %d ms of %d ms",
            lease, finished.ok, receipts[-1].reason or "-", finished.used_ms, took_ms,
        )  # fmt: skip

    async def hand_in(self, lease: str) -> None:
        """Bring to its end what an earlier start had finished and could not hand in."""
        receipts = await self._uploads.handed_in_later(lease)
        if receipts:
            await self._outbox.append_surely(*receipts)
            _log.info("lease %s, of an earlier start, ended: reason=%s", lease, receipts[-1].reason or "-")
        await self._uploads.forget(lease)

    async def _do(self, held: Held) -> Finished:
        workspace = self._work / held.proposal.lease
        appending = asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as group:
                windows = group.create_task(self._roll_windows(held, appending))
                finished = await self._guarded(held, workspace)
                held.over.set()
                async with appending:  # a window that is being receipted is not given up half-way
                    windows.cancel()
        finally:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
        return finished

    async def _guarded(self, held: Held, workspace: Path) -> Finished:
        """What the worker says; if it breaks, that it broke."""
        lease = held.proposal.lease
        try:
            await asyncio.to_thread(workspace.mkdir, mode=0o700, parents=True)
            return await self._workers[held.proposal.vertical].run(self._assignment(held, workspace))
        except FallowError as error:
            _log.warning("lease %s could not be worked on: %s", lease, error)
        except OSError as error:
            _log.warning("lease %s could not be worked on: %s", lease, error)
            if error.errno == errno.ENOSPC:
                # The owner's own files filled the disk: it is his, and he comes first.
                return Finished(False, "agent.disk_full", "owner", 0, None, {})
        except Exception:  # noqa: BLE001 - logged with its trace
            # A plugin's mistake must not take down the other leases.
            _log.exception("lease %s: its worker failed", lease)
        return Finished(False, "node.worker_failed", "provider", 0, None, {})

    def _assignment(self, held: Held, workspace: Path) -> Assignment:
        proposal = held.proposal
        blobs = self._blobs(proposal)
        return Assignment(
            work=proposal.work,
            item=proposal.item,
            seed=bytes.fromhex(proposal.seed),
            resources=resources_of(proposal),
            time_limit_s=proposal.time_limit_s,
            workspace=workspace,
            blobs=self._uploads.blobs(proposal),
            cancel=held.cancel,
            started=held.started,
            resume=proposal.resume,
            until_stopped=proposal.until_stopped,
            opened=held.open,
            gpus=self._leases.book.gpus_of(proposal.lease),
            secrets=self._secrets(proposal),
            line=self._line,
            save=partial(self._save, held, blobs) if proposal.checkpoints else None,
        )

    def _secrets(self, proposal: Proposal) -> Mapping[str, str]:
        if not proposal.secrets:
            return {}
        try:
            opened = msgspec.msgpack.decode(self._unseal(proposal.secrets), type=LeaseSecrets)
        except msgspec.MsgspecError as error:
            raise InvalidInput("agent.sealed", "The lease's secrets are not what they should be.") from error
        if opened.lease != proposal.lease:
            raise NotAllowed("agent.sealed", "The lease's secrets are those of another lease.")
        return opened.values

    async def _save(self, held: Held, blobs: LeaseBlobs, archive: Path, used_ms: int) -> None:
        """Keep a checkpoint: it counts once the archive is in the network's store and its record on the disk."""
        blob = bytes.fromhex(await blobs.store(archive))
        await self._outbox.append(LeaseCheckpoint(lease=held.id, window=held.windows, used_ms=used_ms, blob=blob))

    async def _roll_windows(self, held: Held, appending: asyncio.Lock) -> None:
        """Receipt each window when it is over, but the last that the time limit allows: the lease's end does that."""
        cut_ms = self._clock.monotonic_ms() + held.proposal.cut_in_ms
        await held.started.wait()
        _log.info("lease %s started", held.proposal.lease)
        ends_ms = self._clock.monotonic_ms()
        while (next_ms := held.next_window_ms(cut_ms - ends_ms)) is not None:
            ends_ms += next_ms
            await self._clock.sleep(max(0, ends_ms - self._clock.monotonic_ms()) / 1000)
            async with appending:
                await self._outbox.append_surely(held.window_receipt(next_ms))
