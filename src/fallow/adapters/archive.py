"""The archive on an object store: a folder, or any store that `obstore` opens by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from obstore import exceptions
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from fallow.domain.errors import InvalidInput, NotFound, Unavailable
from fallow.ports.archive import Archived
from fallow.ports.files import sync

PIECE_BYTES = 1 << 20


class StoreArchive:
    """See `fallow.ports.archive.Archive`. `folder` is where a local store keeps its files."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    def put(self, name: str, data: bytes | BinaryIO) -> None:
        """See the port."""
        with _mapped(name):
            self._store.put(name, data, mode="overwrite")
        self._sync(name)

    def create(self, name: str, data: bytes) -> bool:
        """See the port."""
        try:
            with _mapped(name):
                self._store.put(name, data, mode="create")
        except exceptions.AlreadyExistsError:
            return False
        self._sync(name)
        return True

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See the port."""
        stop = self.size(name) if end is None else min(end, self.size(name))
        for at in range(start, stop, PIECE_BYTES):
            with _mapped(name):
                piece = self._store.get_range(name, start=at, end=min(at + PIECE_BYTES, stop))
            yield bytes(piece)

    def size(self, name: str) -> int:
        """See the port."""
        with _mapped(name):
            return self._store.head(name)["size"]

    def folders(self, prefix: str) -> list[str]:
        """See the port."""
        with _mapped(prefix):
            found = self._store.list_with_delimiter(prefix)["common_prefixes"]
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def names(self, prefix: str) -> Iterator[Archived]:
        """See the port."""
        with _mapped(prefix):
            found = [Archived(meta["path"], meta["size"]) for page in self._store.list(prefix) for meta in page]
        yield from sorted(found)

    def _sync(self, name: str) -> None:
        """Make a file of a folder durable, and the folders that hold its name."""
        if self._folder is None:
            return
        path = self._folder / name
        for each in (path, *path.parents[: len(Path(name).parts)]):
            sync(each)


def folder_archive(folder: Path) -> StoreArchive:
    """Keep the archive in a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return StoreArchive(LocalStore(folder), folder)


def memory_archive() -> StoreArchive:
    """Keep the archive in memory, for tests and simulations."""
    return StoreArchive(MemoryStore())


def url_archive(url: str) -> StoreArchive:
    """Keep the archive in a store by its URL (`s3://bucket/prefix`); keys and region come from the environment.

    Raises:
        InvalidInput: `archive.url`: there is no such kind of store, or a setting is wrong.
    """
    try:
        return StoreArchive(from_url(url))
    except (exceptions.BaseError, ValueError) as error:
        raise InvalidInput("archive.url", f"The archive {url!r} cannot be opened: {error}.") from error


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Turn the store's errors into ours."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError):
        raise NotFound("archive.missing", f"There is no {name} in the archive.") from None
    except exceptions.AlreadyExistsError:
        raise
    except (exceptions.BaseError, OSError) as error:
        raise Unavailable(
            "archive.unavailable", f"The archive does not answer: {error}.", "It is tried again; see its settings."
        ) from error
