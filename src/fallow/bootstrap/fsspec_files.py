"""`fallow://BUCKET/NAME` for whatever reads and writes by fsspec: pandas, Polars, DuckDB, Dask, PyArrow, xarray.

fsspec ends no path with "/", so an object whose name does is not reached by it, and a folder is there as long as
something lies below it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from fallow.bootstrap.sdk_storage import open_storage
from fallow.domain.errors import Conflict, NotAllowed, NotFound
from fallow.sdk.storage import Parts, Storage, StoredObject

BLOCK_BYTES: Final = 8 << 20
"""Read ahead of where a reader stands, and the least part that a writer sends."""
EVEN_PARTS: Final = 2000
"""From then on a part is as large as what was sent, divided by this: an object has 10,000 parts at most, which all of
`BLOCK_BYTES` are 84 GB, and so 910."""


class At(NamedTuple):
    """A path, taken apart: a bucket and a name in it, of which either may be ""."""

    bucket: str
    name: str


class FallowFileSystem(AbstractFileSystem):
    """Objects as files. Options are those of `fallow.open_storage`: `grant`, or `url`, `api_key`, `ca` and `kit`."""

    protocol = "fallow"
    root_marker = ""

    @cached_property
    def storage(self) -> Storage:
        """The storage that it stands on, opened when it is first needed, and closed with the file system."""
        given = self.storage_options
        ca = Path(given["ca"]) if given.get("ca") else None
        words = {name: given[name] for name in ("url", "api_key", "grant", "kit") if given.get(name)}
        storage = open_storage(**words, ca=ca)
        weakref.finalize(self, storage.close)
        return storage

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder, a bucket, or all buckets; a file is listed as itself."""
        at = self._at(path)
        with _as_files(path):
            found = self._below(at) if at.bucket else [_folder(bucket) for bucket in self.storage.buckets()]
        return found if detail else sorted(one["name"] for one in found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Tell what is there."""
        at = self._at(path)
        if not at.bucket:
            return _folder("")
        with _as_files(path):
            if not at.name:
                self._has_below(at)  # or raises why not
                return _folder(at.bucket)
            try:
                return _file(at.bucket, self.storage.info(at.bucket, at.name))
            except (NotFound, NotAllowed) as error:
                with suppress(NotAllowed):  # who may not list is told what he was told of the name itself
                    if error.code != "storage.no_bucket" and self._has_below(at):
                        return _folder(f"{at.bucket}/{at.name}")
                raise

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes, or some of them; negative places count from its end."""
        at = self._at(path)
        with _as_files(path):
            if (start or 0) < 0 or (end or 0) < 0:
                size = self.storage.info(at.bucket, at.name).size
                start, end = (one if one is None or one >= 0 else max(0, size + one) for one in (start, end))
            return self.storage.read(at.bucket, at.name, start or 0, end)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Store bytes as a file."""
        at = self._at(path)
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        with _as_files(path):
            self.storage.write(at.bucket, at.name, value)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file: its bytes come here and go back, since they are sealed for their name."""
        if self.isdir(path1):
            return  # a folder is there once something lies below it
        with self.open(path1, "rb") as source, self.open(path2, "wb") as target:
            while data := source.read(BLOCK_BYTES):
                target.write(data)

    def rm_file(self, path: str) -> None:
        """Delete a file."""
        at = self._at(path)
        with _as_files(path):
            self.storage.info(at.bucket, at.name)
            self.storage.delete(at.bucket, [at.name])

    _rm = rm_file

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, many at a time; folders go with what lies in them."""
        names: dict[str, list[str]] = {}
        for one in self.expand_path(path):
            for file in self._below_or_itself(one, maxdepth) if recursive else self._itself(one):
                at = self._at(file)
                names.setdefault(at.bucket, []).append(at.name)
        with _as_files(str(path)):
            for bucket, found in names.items():
                self.storage.delete(bucket, found)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a bucket; folders need not be made."""
        at = self._at(path)
        if at.bucket and not at.name:
            try:
                with _as_files(path):
                    self.storage.make_bucket(at.bucket)
            except Conflict as error:
                raise FileExistsError(path) from error

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do the same."""
        if not self._at(path).name and not (exist_ok and self.exists(path)):
            self.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Drop an empty bucket."""
        at = self._at(path)
        if at.bucket and not at.name:
            with _as_files(path):
                self.storage.drop_bucket(at.bucket)

    def created(self, path: str) -> datetime:
        """When it was stored."""
        made: datetime = self.info(path)["created"]
        return made

    modified = created

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **more: Any,
    ) -> FallowFile:
        if mode not in {"rb", "wb"}:
            raise ValueError(f"objects are read (rb) or written anew (wb), not {mode!r}")
        with _as_files(path):
            return FallowFile(
                self, path, mode, block_size or BLOCK_BYTES, autocommit, cache_options=cache_options, **more
            )

    def _at(self, path: str) -> At:
        bucket, _, name = str(self._strip_protocol(path)).partition("/")
        return At(bucket, name)

    def _below(self, at: At) -> list[dict[str, Any]]:
        listed = self.storage.list(at.bucket, f"{at.name}/" if at.name else "")
        folders = [_folder(f"{at.bucket}/{folder.rstrip('/')}") for folder in listed.folders]
        files = [_file(at.bucket, one) for one in listed.objects if not one.name.endswith("/")]
        if at.name and not folders and not listed.objects:
            return [_file(at.bucket, self.storage.info(at.bucket, at.name))]
        return folders + files

    def _has_below(self, at: At) -> bool:
        beginning = f"{at.name}/" if at.name else ""
        try:
            return self.storage.has(at.bucket, beginning)
        except NotAllowed as error:
            if error.code == "storage.grant" and self.storage.leads(at.bucket, beginning):
                return True
            raise

    def _itself(self, path: str) -> list[str]:
        return [] if self.isdir(path) else [path]

    def _below_or_itself(self, path: str, maxdepth: int | None) -> list[str]:
        found: list[str] = self.find(path, maxdepth=maxdepth)
        if not found and not self.exists(path):
            raise FileNotFoundError(path)
        return found


class FallowFile(AbstractBufferedFile):
    """An open file. One that is written is there, whole, when it was closed, and not at all before.

    Within `with fs.transaction` that is at the end of it, or never.
    """

    _parts: Parts | None = None
    _whole: bytes | None = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        at = self.fs._at(self.path)
        with _as_files(self.path):
            # The version that it was opened with: what is stored in its place meanwhile is not mixed in.
            return bytes(self.fs.storage.read(at.bucket, at.name, start, end, version=self.details["version"]))

    def _initiate_upload(self) -> None:
        at = self.fs._at(self.path)
        if not self.forced:  # more than a block: what is smaller goes in one step, at its end
            self._parts = self.fs.storage.begin(at.bucket, at.name)

    def _upload_chunk(self, final: bool = False) -> bool:
        data = self.buffer.getvalue()
        if self._parts is not None:
            if data:
                self._parts.add(data)
                self.blocksize = max(self.blocksize, (self.offset or 0) // EVEN_PARTS)
        elif final:
            self._whole = data
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Have what was written be there."""
        if self._parts is not None:
            self._parts.complete()
        elif self._whole is not None:
            at = self.fs._at(self.path)
            self.fs.storage.write(at.bucket, at.name, self._whole)
        self._parts = self._whole = None

    def discard(self) -> None:
        """Give up what was written."""
        if self._parts is not None:
            self._parts.abort()
        self._parts = self._whole = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it, but where an error ends the writing give up what was written."""
        if kind is not None and self.mode == "wb":
            self.forced = True
            self.discard()
        self.close()


@contextmanager
def _as_files(path: str) -> Iterator[None]:
    """Raise what programs expect of files."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{path}: {error.message}") from error
    except NotAllowed as error:
        raise PermissionError(f"{path}: {error.message} {error.hint}".strip()) from error


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _file(bucket: str, found: StoredObject) -> dict[str, Any]:
    made = datetime.fromtimestamp(found.made_ms / 1000, UTC)
    return {
        "name": f"{bucket}/{found.name}",
        "size": found.size,
        "type": "file",
        "created": made,
        "LastModified": made,
        "ETag": found.etag,
        "content_type": found.content_type,
        "version": found.version,
    }
