"""Docker, where podman is not: the daemon's own store, in which what is ours goes by a name of this agent.

The daemon is not ours, and outlives whoever asks it for something. So it is told nothing that it could do later by
itself: it never pulls, restarts nothing, keeps no log. Each container bears the agent's label and has a keeper that
removes it when the agent is gone; what even that one missed is removed at the agent's next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from fallow.domain.errors import NotFound, Unavailable
from fallow.verticals.compute.worker.cgroups import Group, find_group
from fallow.verticals.compute.worker.container_exec import SEARCH, find_entrance
from fallow.verticals.compute.worker.container_job import FOLDERS, ContainerJob, common_words, group_words, limit_words
from fallow.verticals.compute.worker.engine import called
from fallow.verticals.compute.worker.inside import Entrance
from fallow.verticals.compute.worker.oci import Document, blob_path
from fallow.verticals.compute.worker.sandbox_child import pick_host_id

SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock")
CPU_SHARES: Final = "10"
"""Of 1024 that everything else has: the owner comes first."""
REMOVE_S: Final = 15.0
_AGAIN_S: Final = 0.1
_LABEL: Final = "fallow.agent"
_RUNTIME_STATE: Final = "runtime-runc/moby"
_CONTAINER: Final = re.compile("[0-9a-f]{64}")
_NEVER: Final = "0001-"
_NOT_TAKEN_OVER: Final = ("Volumes", "Healthcheck", "OnBuild", "Shell")
"""Of an image's settings: Docker would make folders on the disk for the first, which nothing bounds."""
_OUT_OF_MEMORY_AFTER_S: Final = (0.0, 0.1, 0.3, 1.0)


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    """What is looked at of `docker info`."""

    security_options: list[str] | None = None
    memory_limit: bool = False
    swap_limit: bool = False
    pids_limit: bool = False
    cpu_cfs_quota: bool = False


class Docker(NamedTuple):
    """How Docker is called. `label` tells this agent's containers and images from all others."""

    binary: str
    socket: str
    label: str
    home: Path

    @property
    def name(self) -> str:
        """See the port."""
        return "docker"

    @property
    def groups(self) -> bool:
        """See the port."""
        return True

    @property
    def removes(self) -> bool:
        """See the port. It does not, so that it can be asked whether a container that is over did begin."""
        return False

    @property
    def images(self) -> Path:
        """See the port."""
        return self.home / "images"

    @property
    def environment(self) -> dict[str, str]:
        """See the port."""
        return {"PATH": SEARCH, "LC_ALL": "C.UTF-8", "HOME": str(self.home), "DOCKER_CONFIG": str(self.home)}

    def command(self, *words: str) -> list[str]:
        """See the port."""
        return [self.binary, "--host", f"unix://{self.socket}", *words]

    async def call(self, *words: str) -> str:
        """See the port."""
        return await called(self.name, self.command(*words), self.environment, words[0])

    def prepare(self) -> None:
        """See the port."""
        self.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._no_servers.write_text("")
        self._no_servers.chmod(0o444)

    async def ready(self) -> None:
        """See the port."""
        await asyncio.to_thread(self.prepare)
        said = await self.call("info", "--format", "{{json .}}")
        info = msgspec.json.decode(said, type=_Info)
        kinds = {option.partition(",")[0] for option in info.security_options or ()}
        if "name=seccomp" not in kinds or "name=seccomp,profile=unconfined" in (info.security_options or ()):
            raise Unavailable("compute.docker", "its daemon filters no system calls.")
        if kinds & {"name=rootless", "name=userns"}:
            raise Unavailable("compute.docker", "its daemon gives containers other users, which is not supported.")
        if not (info.memory_limit and info.swap_limit and info.pids_limit and info.cpu_cfs_quota):
            raise Unavailable("compute.docker", "its daemon cannot bound memory, processes and processor time here.")
        await self._remove_containers()

    def run_words(self, job: ContainerJob) -> list[str]:
        """See the port."""
        # Docker gives users of containers no ids of their own: whoever the image names, would be that one outside.
        picked = pick_host_id(job.name)
        user, group = (picked, picked) if picked is not None else (os.geteuid(), os.getegid())
        words = ["run", "--label", f"{_LABEL}={self.label}", "--restart", "no", "--user", f"{user}:{group}"]
        words += common_words(job, f",uid={user},gid={group}")
        words += ["--cgroupns", "private", "--cpu-shares", CPU_SHARES, "--oom-score-adj", "1000", *group_words(job)]
        for name, options in FOLDERS:
            readonly = ",readonly" if options == "ro" else ""
            words += ["--mount", f"type=bind,{_quoted(job.folder / name)},target=/{name}{readonly}"]
        # It would show the machine's own servers of names.
        words += ["--mount", f"type=bind,{_quoted(self._no_servers)},target=/etc/resolv.conf,readonly"]
        entry, rest = job.entrypoint[:1], job.entrypoint[1:]
        words += ["--entrypoint", *entry] if entry else []
        return [*words, *limit_words(job, {}), self._called(job.image), *rest, *job.args]

    def removal(self, name: str) -> tuple[str, ...]:
        """See the port."""
        return ("rm", "--force", "--volumes", name)

    async def remove(self, name: str) -> None:
        """See the port. Whether it is there, Docker's versions answer in different ways."""
        try:
            await self.call(*self.removal(name))
        except Unavailable:
            if (await self.call("ps", "--all", "--quiet", "--filter", f"name=^{name}$")).strip():
                raise

    async def first(self, job: ContainerJob) -> int | None:
        """See the port."""
        asked = ("inspect", "--type", "container", "--format", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}", job.name)
        try:
            container, pid, started = (await self.call(*asked)).split()
        except Unavailable:  # it does not know the container yet
            return None
        if started.startswith(_NEVER):
            return None
        groups = _groups_of(int(pid))
        if int(pid) and not groups:  # it has ended since
            return None
        if int(pid) and container not in groups:
            raise Unavailable("compute.docker", "its daemon starts processes where they cannot be seen from here.")
        return int(pid)

    async def out_of_memory(self, job: ContainerJob) -> bool:
        """See the port. The daemon hears of it beside the container's end, now and then a moment after it."""
        asked = ("inspect", "--type", "container", "--format", "{{.State.OOMKilled}}", job.name)
        for pause_s in _OUT_OF_MEMORY_AFTER_S:
            await asyncio.sleep(pause_s)
            if (await self.call(*asked)).strip() == "true":
                return True
        return False

    def group(self, pid: int) -> Group | None:
        """See the port."""
        container = _CONTAINER.search(_groups_of(pid))
        return find_group(pid, container[0]) if container else None

    def entrance(self, group: Group | None) -> Entrance | None:
        """See the port."""
        state = Path(self.socket).resolve().parent / "docker" / _RUNTIME_STATE
        return find_entrance("runc", group, str(state)) if group is not None and state.is_dir() else None

    async def load(self, layout: Path, image: str) -> None:
        """See the port."""
        archive = self.home / f"{image}.tar"
        try:
            await asyncio.to_thread(_write_archive, layout, self._called(image), archive)
            await self.call("load", "--quiet", "--input", str(archive))
        finally:
            archive.unlink(missing_ok=True)

    async def loaded(self) -> set[str]:
        """See the port."""
        return set((await self.call("images", "--format", "{{.Tag}}", self._called())).split())

    async def forget(self, image: str) -> None:
        """See the port."""
        await self.call("rmi", "--force", self._called(image))

    async def erase(self) -> None:
        """See the port."""
        if self.home.exists():
            await self._remove_containers()
            for image in await self.loaded():
                await self.forget(image)
            await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)

    @property
    def _no_servers(self) -> Path:
        return self.home / "resolv.conf"

    def _called(self, image: str = "") -> str:
        return f"fallow-{self.label}" + (f":{image}" if image else "")

    async def _remove_containers(self) -> None:
        """Remove what bears our label. A keeper may be about it at the same moment, which the daemon refuses one of."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + REMOVE_S
        while left := (await self.call("ps", "--all", "--quiet", "--filter", f"label={_LABEL}={self.label}")).split():
            try:
                await self.call(*self.removal(left[0]), *left[1:])
            except Unavailable:
                if loop.time() > ends:
                    raise
                await asyncio.sleep(_AGAIN_S)


def find_docker(cache: Path) -> Docker:
    """Say how Docker is called for a cache.

    Raises:
        NotFound: it is not installed, or this user may not speak to its daemon.
    """
    binary = shutil.which("docker", path=SEARCH)
    socket = next((path for path in SOCKETS if os.access(path, os.R_OK | os.W_OK)), "")
    if binary is None or not socket:
        raise NotFound("compute.no_docker", "Docker is not there for this user either.")
    folder = cache.absolute() / "docker"
    return Docker(binary, socket, hashlib.sha256(str(folder).encode()).hexdigest()[:12], folder)


def _quoted(source: Path) -> str:
    """A field of what Docker reads as CSV."""
    return '"source={}"'.format(str(source).replace('"', '""'))


def _groups_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _write_archive(layout: Path, name: str, to: Path) -> None:
    """Write a checked layout's image as Docker loads it, without those of its settings that are not to hold.

    It has another id for it, and is called by a name that holds the image's own.
    """
    index = msgspec.json.decode((layout / "index.json").read_bytes(), type=Document)
    manifest = msgspec.json.decode(blob_path(layout, index.manifests[0]).read_bytes(), type=Document)
    if manifest.config is None:
        raise AssertionError("the layout was checked")
    config: dict[str, Any] = msgspec.json.decode(blob_path(layout, manifest.config).read_bytes())
    for setting in _NOT_TAKEN_OVER:
        (config.get("config") or {}).pop(setting, None)
    layers = [f"{layer.hex}.tar" for layer in manifest.layers]
    saved = [{"Config": "config.json", "RepoTags": [name], "Layers": layers}]
    with tarfile.open(to, "w") as archive:
        for layer in manifest.layers:
            archive.add(blob_path(layout, layer), f"{layer.hex}.tar")
        for path, document in (("config.json", config), ("manifest.json", saved)):
            data = msgspec.json.encode(document)
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
