# ruff: noqa: D102
"""Container jobs for tests: images made on the spot around a static busybox, a worker, and one lease."""

from __future__ import annotations

import asyncio
import functools
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from fallow.ports.vertical.work import Finished
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.capability import require
from tests.job_case import JobCase

BUSYBOX = Path("/usr/bin/busybox") if Path("/usr/bin/busybox").exists() else Path("/bin/busybox")


class Image(NamedTuple):
    """The parts of an image: its config, and its layers as they are without compression."""

    config: bytes
    layers: tuple[bytes, ...]

    @property
    def id(self) -> str:
        return hashlib.sha256(self.config).hexdigest()


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Pack a layer of these entries."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


@functools.cache
def shell_layer() -> bytes:
    """A layer with a shell and its tools."""
    folders = [(entry(name, tarfile.DIRTYPE), b"") for name in ("bin", "etc", "root", "tmp")]
    tools = [
        (entry(f"bin/{name}", tarfile.SYMTYPE, "busybox"), b"")
        for name in (
            "sh",
            "cat",
            "ls",
            "id",
            "env",
            "dd",
            "sleep",
            "wget",
            "ping",
            "mount",
            "mv",
            "stat",
            "ps",
            "touch",
            "grep",
            "httpd",
            "setsid",
            "stty",
        )
    ]
    return layer(*folders, (entry("bin/busybox"), BUSYBOX.read_bytes()), *tools)


def image(*layers: bytes, platform: str = "amd64", **settings: Any) -> Image:
    """An image of these layers above one with a shell; `settings` are those of the config's `config`."""
    every = (shell_layer(), *layers)
    config = {
        "architecture": platform,
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **settings},
        "rootfs": {"type": "layers", "diff_ids": [_digest(one) for one in every]},
    }
    return Image(json.dumps(config).encode(), every)


def bare(*layers: bytes) -> Image:
    """An image of these layers alone."""
    diff_ids = [_digest(one) for one in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return Image(json.dumps(config).encode(), layers)


Pack = Callable[[bytes], bytes]


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


_PACKED: dict[Pack | None, str] = {gzipped: "+gzip", zstd: "+zstd"}


def packed_blobs(made: Image, pack: Pack | None = gzipped) -> tuple[bytes, list[bytes]]:
    """An image's manifest, and the blobs that it names."""
    layers = [pack(one) if pack else one for one in made.layers]
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "config": _named(made.config, f"{kind}.config.v1+json"),
        "layers": [_named(one, f"{kind}.layer.v1.tar{_PACKED.get(pack, '')}") for one in layers],
    }
    return json.dumps(manifest).encode(), [made.config, *layers]


def oci_archive(made: Image, pack: Pack | None = None) -> bytes:
    """An image as `podman save --format oci-archive` and `skopeo` write it."""
    manifest, blobs = packed_blobs(made, pack)
    named = _named(manifest, "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [named]}
    files = {f"blobs/sha256/{_digest(data).removeprefix('sha256:')}": data for data in (manifest, *blobs)}
    return tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), **files})


def docker_archive(made: Image) -> bytes:
    """An image as `docker save` writes it."""
    files = {f"{number}/layer.tar": one for number, one in enumerate(made.layers)}
    saved = [{"Config": f"{made.id}.json", "RepoTags": ["a:b"], "Layers": list(files)}]
    return tar({f"{made.id}.json": made.config, **files, "manifest.json": json.dumps(saved).encode()})


def tar(files: Mapping[str, bytes]) -> bytes:
    return layer(*((entry(name, mode=0o644), data) for name, data in files.items()))


def _named(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def container_worker(cache: Path) -> Iterator[ComputeWorker]:
    """A worker whose engine leaves nothing behind."""
    require("podman")
    worker = ComputeWorker(cache)
    try:
        yield worker
    finally:
        asyncio.run(worker.erase(for_good=True))


class ContainerCase(JobCase):
    """One lease of a container job after the other, and the worker that does their work."""

    def __init__(self, folder: Path, worker: ComputeWorker) -> None:
        super().__init__(worker, folder / "leases")
        self.workspaces = self.workspace
        self._leases = 0

    async def run(self, script: str = "", *, archive: bytes | None = None, **changes: Any) -> Finished:
        """Run a script of the shell (or the image's own program); `changes` are the work's or the lease's fields."""
        self._leases += 1
        self.workspace = self.workspaces / str(self._leases)
        self.workspace.mkdir(mode=0o700, parents=True)
        what = {} if "image" in changes else {"archive": self.blobs.add(archive or oci_archive(image()))}
        work = {"kind": "container", **what, **({"args": ["sh", "-c", script]} if script else {})}
        return await self.do(work, **{"memory_mib": 64, **changes})

    async def printed(self, script: str = "", **changes: Any) -> str:
        """Run what must end well, and return what it printed."""
        finished = await self.run(script, **changes)
        assert finished.ok, (finished, self.stderr(finished) if finished.result else "")
        return self.stdout(finished)
