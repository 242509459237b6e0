"""Finished work on its way: what leases left that the network could not take, kept until it can.

uploads/LEASE/proposal   what opens the lease's blobs again
              SHA256     a blob, as the worker left it
              end        the lease's last receipts, once its work is over

A lease's last receipts wait for its blobs: whoever reads of a result finds it. Only what has an `end` outlives a
restart, since the rest belongs to work that the restart broke off.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from fallow.domain.calls.leases import Proposal
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.facts import UsageReceipt
from fallow.ports.clock import Clock
from fallow.ports.files import sync, write_durably
from fallow.ports.vertical.work import LeaseBlobs

OpenBlobs = Callable[[Proposal], LeaseBlobs]
"""Opens the blobs of a proposed lease with its ticket; FallowError when the ticket does not fit."""

BYTES_MAX = 2 << 30
"""So much finished work waits at most. From half of it on new leases are declined."""

NOT_HANDED_IN = "agent.not_handed_in"
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 20.0
PROPOSAL, END = "proposal", "end"

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Uploads:
    """The blobs' outbox in `folder`. `waiting` are the leases (hex) whose work is over and not handed in yet.

    `run` must be running for anything to be handed in.
    """

    def __init__(
        self, folder: Path, open_blobs: OpenBlobs, clock: Clock, jitter: random.Random, *, bytes_max: int = BYTES_MAX
    ) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.waiting: dict[str, asyncio.Future[bool]] = {}
        self._folder = folder
        self._open = open_blobs
        self._clock = clock
        self._jitter = jitter
        self._bytes_max = bytes_max
        self._kept: set[str] = set()
        self._changed = asyncio.Event()
        for lease in folder.iterdir():
            if not (lease / END).exists():
                shutil.rmtree(lease, ignore_errors=True)
        self.left = sorted(end.parent.name for end in folder.glob(f"*/{END}"))
        """Leases of earlier starts."""
        self._kept.update(self.left)
        self._bytes = sum(file.stat().st_size for file in folder.glob("*/*"))

    @property
    def full(self) -> bool:
        """Whether so much waits that no new work should begin."""
        return 2 * self._bytes >= self._bytes_max

    def blobs(self, proposal: Proposal) -> LeaseBlobs:
        """Open a lease's blobs so that storing outlives a network that is away. Raises as `OpenBlobs` does."""
        return _PatientBlobs(self, proposal, self._open(proposal))

    def keeps(self, lease: str) -> bool:
        """Whether blobs of this lease wait here."""
        return lease in self._kept

    async def keep(self, proposal: Proposal, path: Path) -> str:
        """Take a file in and return its SHA-256 (hex).

        Raises:
            Unavailable: too much waits already (`agent.uploads_full`), or the disk is full (`agent.disk_full`).
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        if self._bytes + size > self._bytes_max:
            raise Unavailable("agent.uploads_full", "Too much finished work waits for the network.", "Is the line up?")
        self._bytes += size
        self._kept.add(proposal.lease)
        try:
            return await asyncio.to_thread(_take_in, self._folder / proposal.lease, proposal, path)
        except OSError as error:
            raise Unavailable("agent.disk_full", f"Finished work cannot be kept: {error}.") from error

    async def handed_in(self, lease: str, receipts: Sequence[UsageReceipt]) -> Sequence[UsageReceipt]:
        """Wait until the network has the lease's blobs; return what then is to be said.

        That is `receipts`, or, where the network took the lease's blobs no more, that they were not handed in.
        """
        if lease not in self._kept or receipts[-1].result is None:
            return receipts
        with suppress(OSError):  # then it does not outlive a restart, but it may do without one
            await asyncio.to_thread(write_durably, self._folder / lease / END, msgspec.msgpack.encode(receipts))
        return await self._wait(lease, receipts)

    async def handed_in_later(self, lease: str) -> Sequence[UsageReceipt]:
        """Do the same for one of the leases in `left`; nothing is to be said where its file is damaged."""
        try:
            receipts = await asyncio.to_thread(_read, self._folder / lease / END, list[UsageReceipt])
        except (*UNREADABLE, OSError) as error:
            _log.error("lease %s: what it left cannot be read: %s", lease, error)
            return []
        return await self._wait(lease, receipts)

    async def forget(self, lease: str) -> None:
        """The lease's last receipts are in the outbox, or it has none."""
        if lease in self._kept:
            self._kept.discard(lease)
            self.waiting.pop(lease, None)
            self._bytes -= await asyncio.to_thread(_remove, self._folder / lease)

    async def run(self) -> None:
        """Hand in what waits, until cancelled."""
        failures = 0
        while True:
            self._changed.clear()
            lease = next((lease for lease, done in self.waiting.items() if not done.done()), None)
            if lease is None:
                await self._changed.wait()
                continue
            try:
                taken = await self._hand_in(lease)
            except Unavailable as error:
                _log.warning("finished work of lease %s waits: %s", lease, error)
                longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 16))
                await self._clock.sleep(longest * (0.5 + self._jitter.random() / 2))
                failures += 1
            else:
                failures = 0
                self.waiting[lease].set_result(taken)

    async def _wait(self, lease: str, receipts: Sequence[UsageReceipt]) -> Sequence[UsageReceipt]:
        done = self.waiting[lease] = asyncio.get_running_loop().create_future()
        self._changed.set()
        return receipts if await done else [_not_handed_in(receipts)]

    async def _hand_in(self, lease: str) -> bool:
        """Store a lease's blobs; False when the network takes them no more. Raises Unavailable when it is away."""
        folder = self._folder / lease
        try:
            blobs = self._open(await asyncio.to_thread(_read, folder / PROPOSAL, Proposal))
            for path in await asyncio.to_thread(lambda: sorted(folder.glob("?" * 64))):
                if await blobs.store(path) != path.name:
                    _log.error("lease %s: what it left is damaged", lease)
                    return False
        except Unavailable:
            raise
        except (FallowError, *UNREADABLE, OSError) as error:
            _log.warning("lease %s: what it left is not taken any more, or damaged: %s", lease, error)
            return False
        return True


class _PatientBlobs:
    """`LeaseBlobs` that keep what the network cannot take now."""

    def __init__(self, uploads: Uploads, proposal: Proposal, now: LeaseBlobs) -> None:
        self._uploads = uploads
        self._proposal = proposal
        self._now = now

    async def fetch(self, sha256: str, to: Path) -> None:
        """See the port."""
        await self._now.fetch(sha256, to)

    async def store(self, path: Path) -> str:
        """See the port.

        Raises:
            Unavailable: the network is away, and it cannot be kept either.
            FallowError: the network will not take it.
        """
        if not self._uploads.keeps(self._proposal.lease):
            try:
                return await self._now.store(path)
            except Unavailable as error:
                _log.warning("lease %s: finished work is kept for later: %s", self._proposal.lease, error)
        return await self._uploads.keep(self._proposal, path)


def _take_in(folder: Path, proposal: Proposal, path: Path) -> str:
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / PROPOSAL).exists():
        write_durably(folder / PROPOSAL, msgspec.msgpack.encode(proposal))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        _link(path, folder / sha256)
    sync(folder)
    return sha256


def _link(path: Path, to: Path) -> None:
    """Give a file a second name; it is copied only where the kernel forbids that for a sandbox's files."""
    try:
        os.link(path, to)
    except PermissionError:
        draft = to.with_suffix(".part")
        shutil.copyfile(path, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(to)


def _read(path: Path, to: type[T]) -> T:
    return msgspec.msgpack.decode(path.read_bytes(), type=to)


def _remove(folder: Path) -> int:
    """Delete a lease's folder and return how many bytes were in it."""
    size = sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _not_handed_in(receipts: Sequence[UsageReceipt]) -> UsageReceipt:
    """Nobody pays for what was not handed in, and nobody is to blame for it."""
    return UsageReceipt(
        lease=receipts[0].lease,
        window=receipts[0].window,
        used_ms=0,
        final=True,
        reason=NOT_HANDED_IN,
        caused_by="nobody",
    )


def finished_leases(folder: Path) -> int:
    """How many leases whose work is over wait in an agent's folder of uploads."""
    return len(list(folder.glob(f"*/{END}")))
