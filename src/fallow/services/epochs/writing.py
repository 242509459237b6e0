"""Writing an epoch's files: into a folder first, since objects of the archive are put as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.manifest import MANIFEST, Manifest, path_of
from fallow.ports.archive import Archive
from fallow.ports.ingest_store import PromisedBatch


class Spool:
    """The files of one epoch on their way to the archive, in a folder of their own. Its methods block."""

    def __init__(self, folder: Path, net: str, epoch: int, kinds: Collection[str]) -> None:
        self._folder = folder
        self._epoch = epoch
        self._filing = Filing(net, epoch, kinds)
        self._open = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, batches: Sequence[PromisedBatch]) -> None:
        """File the next batches."""
        for batch in batches:
            for name, data in self._filing.add(batch.data, batch.promise):
                self._file(name).write(data)

    def put(self, archive: Archive) -> Manifest:
        """Put all files into the archive, the manifest last."""
        manifest = self._filing.manifest()
        for file in manifest.files:
            spooled = self._file(file.name)
            spooled.seek(0)
            archive.put(path_of(self._epoch, file.name), spooled)
        archive.put(path_of(self._epoch, MANIFEST), manifest.encode())
        return manifest

    def remove(self) -> None:
        """Forget the files."""
        self._open.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            path = self._folder / name.replace("/", "-")
            self._files[name] = self._open.enter_context(path.open("x+b"))
        return self._files[name]
