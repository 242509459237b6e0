"""podman with a store of its own: what the machine's owner keeps in his is neither seen nor changed.

store/   images and containers
home/    what podman reads as its settings, so that the owner's do not count

They lie in the cache, or for root in /var/lib/fallow: the users that its containers are outside must be able to pass
all folders above, and podman opens those that are closed, be it the owner's home. What lasts until the machine starts
again lies in /run, $XDG_RUNTIME_DIR or /tmp, since podman wants a short path for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fallow.domain.errors import NotAllowed, NotFound, Unavailable
from fallow.verticals.compute.worker.cgroups import Group, find_group
from fallow.verticals.compute.worker.container_exec import SEARCH, find_entrance
from fallow.verticals.compute.worker.container_job import (
    FOLDERS,
    PROCESSES_MAX,
    ContainerJob,
    common_words,
    group_words,
    limit_words,
)
from fallow.verticals.compute.worker.engine import called
from fallow.verticals.compute.worker.inside import Entrance

STATE: Final = Path("/var/lib/fallow")
RUNTIMES: Final = ("runc", "crun")
"""In the order in which they are tried: not each works with every kind of control groups."""
_RUN_PATH_MAX: Final = 48  # podman refuses a longer one
GROUPS_PARENT: Final = "/fallow"
HOST_IDS: Final = "1879048192:65536"
"""Users that a container of root's has outside, from 0x70000000 on: neither accounts nor systemd use them."""
_RUNTIMES_OWN: Final = 512 << 20
"""Without control groups the limit of memory already holds for the runtime, before it becomes the program."""
_CONF: Final = """\
# Written by the agent at each start.
[containers]
default_mounts_file = "{home}/mounts.conf"
[engine]
num_locks = 2048
"""
_POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""Images are checked before podman sees them, see `image_check`; it pulls none itself."""


class Podman(NamedTuple):
    """How podman is called. `run` is the folder that lasts until the machine starts again.

    `groups` says that it bounds containers by control groups.
    """

    binary: str
    runtime: str
    groups: bool
    store: Path
    run: Path
    home: Path

    @property
    def name(self) -> str:
        """See the port."""
        return "podman"

    @property
    def removes(self) -> bool:
        """See the port."""
        return True

    def command(self, *words: str) -> list[str]:
        """A whole command line."""
        return [
            *(
                self.binary,
                "--root",
                str(self.store),
                "--runroot",
                str(self.run / "r"),
                "--tmpdir",
                str(self.run / "t"),
            ),
            *(("--runtime", self.runtime) if self.runtime else ()),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "none"),
            *("--log-level", "fatal"),  # its warnings would stand among what the program prints
            *("--storage-driver", "overlay", "--storage-opt", "overlay.skip_mount_home=true"),
            # Where this user has one id only, all files of an image belong to it.
            *(("--storage-opt", "overlay.ignore_chown_errors=true") if os.geteuid() else ()),
            *words,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with: nothing of the agent's own."""
        return {
            "PATH": SEARCH,
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run),
            "TMPDIR": str(self.home),
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
        }

    async def call(self, *words: str) -> str:
        """Run a command and return what it prints.

        Raises:
            Unavailable: it fails, or does not end in CALL_S.
            OSError: the disk is full.
        """
        return await called(self.name, self.command(*words), self.environment, words[0])

    def run_words(self, job: ContainerJob) -> list[str]:
        """See the port. It removes the container itself."""
        words = ["run", "--rm", "--sdnotify", "ignore", "--pidfile", str(job.pid_file), *common_words(job)]
        words += ["--http-proxy=false", "--no-hosts", "--systemd", "false"]
        words += ["--read-only-tmpfs=false", "--image-volume", "ignore"]
        for name, options in FOLDERS:
            words += ["--volume", f"{job.folder / name}:/{name}:{options},nosuid,nodev,Z"]
        words += ["--entrypoint", msgspec.json.encode(job.entrypoint).decode()] if job.entrypoint else []
        words += ["--uidmap", f"0:{HOST_IDS}", "--gidmap", f"0:{HOST_IDS}"] if os.geteuid() == 0 else []
        more = {"nproc": (resource.RLIMIT_NPROC, PROCESSES_MAX)}
        if self.groups:
            words += ["--cgroup-parent", GROUPS_PARENT, "--cgroupns", "private", "--oom-score-adj", "1000"]
            words += group_words(job)
        else:
            more["data"] = (resource.RLIMIT_DATA, job.memory_bytes_max + _RUNTIMES_OWN)
        return [*words, *limit_words(job, more), job.image, *job.args]

    def removal(self, name: str) -> tuple[str, ...]:
        """See the port."""
        return ("rm", "--force", "--ignore", "--time", "0", name)

    async def remove(self, name: str) -> None:
        """See the port."""
        await self.call(*self.removal(name))

    async def first(self, job: ContainerJob) -> int | None:
        """See the port."""
        return int(job.pid_file.read_text()) if job.pid_file.exists() else None

    async def out_of_memory(self, _job: ContainerJob) -> bool:
        """See the port: its groups are there for long enough to be read."""
        return False

    def group(self, pid: int) -> Group | None:
        """See the port."""
        return find_group(pid, f"{GROUPS_PARENT}/")

    def entrance(self, group: Group | None) -> Entrance | None:
        """See the port."""
        return find_entrance(self.runtime, group) if group is not None else None

    async def ready(self) -> None:
        """See the port."""
        await asyncio.to_thread(self.prepare)
        await self._remove_containers()

    async def load(self, layout: Path, image: str) -> None:
        """See the port."""
        # The path as it is written becomes the image's name, and names hold no folder that begins with a dot.
        line = self.command("pull", "--quiet", f"oci:{layout.name}")
        found = (await called(self.name, line, self.environment, "pull", str(layout.parent))).strip()
        if found != image:
            raise Unavailable("compute.podman", f"podman calls the image {found}, and not {image}.")

    async def loaded(self) -> set[str]:
        """See the port."""
        there = (await self.call("images", "--all", "--quiet", "--no-trunc")).split()
        return {image.removeprefix("sha256:") for image in there}

    async def forget(self, image: str) -> None:
        """See the port."""
        await self.call("rmi", "--force", image)

    @property
    def images(self) -> Path:
        """Where it is kept which images there are."""
        return self.store.with_name("images")

    async def erase(self) -> None:
        """Remove all that it keeps, and end what runs.

        Raises:
            Unavailable: something cannot be ended.
        """
        # Where podman itself cannot begin, it has kept nothing, and cannot be asked either.
        if self.run.exists() and (self.store / "overlay").exists():
            await self._remove_containers()
            if os.geteuid():
                # An image's folders may be read-only, and its files belong to other ids of this user.
                await self.call("rmi", "--all", "--force")
                await self.call("system", "migrate")  # ends the process that holds this user's namespace
        for folder in (self.store.parent, self.run):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _remove_containers(self) -> None:
        await self.call("rm", "--all", "--force", "--time", "0")

    def prepare(self) -> None:
        """Make its folders and settings.

        Raises:
            NotAllowed: the folder for what runs belongs to somebody else.
        """
        for folder in (self.store, self.images, self.home / ".config" / "containers"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        status = self.run.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise NotAllowed("compute.run_not_private", f"{self.run} belongs to somebody else.", "Remove it.")
        (self.home / "mounts.conf").write_text("")
        (self.home / "containers.conf").write_text(_CONF.format(home=self.home))
        (self.home / ".config" / "containers" / "policy.json").write_text(_POLICY)


def find_podman(cache: Path, runtime: str, *, groups: bool) -> Podman:
    """Say how podman is called for a cache.

    Raises:
        NotFound: it is not installed.
    """
    binary = shutil.which("podman", path=SEARCH)
    if binary is None:
        raise NotFound(
            "compute.no_podman", "podman is not installed.", "Debian and Ubuntu: apt-get install podman runc uidmap."
        )
    folder = cache.absolute() / "containers"
    if os.geteuid() == 0:
        folder = STATE / _name_of(folder)
    return Podman(binary, runtime, groups, folder / "store", _run_folder(folder), folder / "home")


def _name_of(folder: Path, more: str = "") -> str:
    return hashlib.sha256(f"{folder}{more}".encode()).hexdigest()[:12]


def find_runtimes() -> list[str]:
    """Names of the OCI runtimes that are installed, those to try first in front."""
    return [name for name in RUNTIMES if shutil.which(name, path=SEARCH)]


def _run_folder(folder: Path) -> Path:
    """A short path that is another one after each start of the machine: nothing that is there runs any more."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    name = f"fallow-{_name_of(folder, boot)}"
    bases: Sequence[str] = ("/run",) if os.geteuid() == 0 else (os.environ.get("XDG_RUNTIME_DIR", ""),)
    for base in bases:
        if base and os.access(base, os.W_OK | os.X_OK) and len(base) + len(name) < _RUN_PATH_MAX - 2:
            return Path(base, name)
    return Path("/tmp", name)  # noqa: S108 - private, and checked to be this user's
