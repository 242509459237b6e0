"""Writing an epoch's files: into a folder first, since objects of the archive are put as a whole.

They are written while the epoch is open, as its batches come in, so that its end finds little left to do. They have no
names: several processes may write beside each other, and what one that dies has written is gone with it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.manifest import MANIFEST, Manifest, path_of
from fallow.ports.archive import Archive
from fallow.ports.database import Database
from fallow.ports.ingest_store import IngestStore, PromisedBatch

BATCHES_A_PAGE = 64
"""At most 32 MiB."""


class Spool:
    """The files of one epoch on their way to the archive, on the disk of a folder. Its methods block."""

    def __init__(self, folder: Path, net: str, epoch: int, kinds: Collection[str]) -> None:
        self._folder = folder
        self.epoch = epoch
        self.pos = 0
        """Where ingest's log was read to."""
        self._filing = Filing(net, epoch, kinds)
        self._open = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, batches: Sequence[PromisedBatch]) -> None:
        """File the next batches."""
        for batch in batches:
            for name, data in self._filing.add(batch.data, batch.promise):
                self._file(name).write(data)
            self.pos = batch.pos

    def put(self, archive: Archive) -> Manifest:
        """Put all files into the archive, the manifest last."""
        manifest = self._filing.manifest()
        for file in manifest.files:
            spooled = self._file(file.name)
            spooled.seek(0)
            archive.put(path_of(self.epoch, file.name), spooled)
        archive.put(path_of(self.epoch, MANIFEST), manifest.encode())
        return manifest

    def remove(self) -> None:
        """Forget the files."""
        self._open.close()

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = self._open.enter_context(_nameless(self._folder))
        return self._files[name]


class Files:
    """The files of one epoch after the other, on the disk of `folder`."""

    def __init__(self, folder: Path, net: str, kinds: Collection[str], database: Database, log: IngestStore) -> None:
        self._folder = folder
        self._net = net
        self._kinds = kinds
        self._database = database
        self._log = log
        self._spool: Spool | None = None

    async def go_on(self, epoch: int) -> Spool:
        """Write what has come in of an epoch until now. Positions of the log become visible in their order."""
        try:
            spool = await self._spool_of(epoch)
            while page := await self._page(spool):
                await asyncio.to_thread(spool.add, page)
        except BaseException:  # cancelled, too: a page may be half written
            await self.forget()
            raise
        return spool

    async def put(self, epoch: int, archive: Archive) -> Manifest:
        """Put all that came in during an epoch that has ended into the archive."""
        try:
            spool = await self.go_on(epoch)
            return await asyncio.to_thread(spool.put, archive)
        finally:
            await self.forget()

    async def forget(self) -> None:
        """Remove what is written."""
        spool, self._spool = self._spool, None
        if spool is not None:
            await asyncio.to_thread(spool.remove)

    async def _spool_of(self, epoch: int) -> Spool:
        if self._spool is None or self._spool.epoch != epoch:
            await self.forget()
            self._spool = await asyncio.to_thread(Spool, self._folder, self._net, epoch, self._kinds)
        return self._spool

    async def _page(self, spool: Spool) -> list[PromisedBatch]:
        async with self._database.transaction() as tx:
            return await self._log.of_epoch(tx, spool.epoch, spool.pos, BATCHES_A_PAGE)


def _nameless(folder: Path) -> BinaryIO:
    """Open a file that is gone once it is closed."""
    handle, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return os.fdopen(handle, "w+b")
