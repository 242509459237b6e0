"""podman with a store of its own: what the machine's owner keeps in his is neither seen nor changed.

store/   images and containers
home/    what podman reads as its settings, so that the owner's do not count

They lie in the cache, or for root in /var/lib/fallow: the users that its containers are outside must be able to pass
all folders above, and podman opens those that are closed, be it the owner's home. What lasts until the machine starts
again lies in /run, $XDG_RUNTIME_DIR or /tmp, since podman wants a short path for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fallow.domain.errors import NotAllowed, NotFound, Unavailable

SEARCH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
STATE: Final = Path("/var/lib/fallow")
RUNTIMES: Final = ("runc", "crun")
"""In the order in which they are tried: not each works with every kind of control groups."""
CALL_S: Final = 300.0
_RUN_PATH_MAX: Final = 48  # podman refuses a longer one
_NO_ROOM: Final = b"no space left on device"
_TAIL_CHARS: Final = 300
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
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command(*words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self.environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable("compute.podman", f"podman does not start: {error.strerror}.") from error
        try:
            async with asyncio.timeout(CALL_S):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise Unavailable("compute.podman", f"podman {words[0]} did not end in {CALL_S:g} s.") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if _NO_ROOM in err:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if process.returncode:
            raise Unavailable("compute.podman", f"podman {words[0]} failed: {last_error(err)}")
        return out.decode(errors="replace")

    async def load(self, layout: Path) -> str:
        """Take over a layout's image and return its id.

        Raises:
            Unavailable: it cannot be unpacked here.
        """
        return (await self.call("pull", "--quiet", f"oci:{layout}")).strip()

    @property
    def images(self) -> Path:
        """Where it is kept which images there are."""
        return self.store.with_name("images")

    async def erase(self) -> None:
        """Remove all that it keeps, and end what runs.

        Raises:
            Unavailable: something cannot be ended.
        """
        if self.run.exists():
            await self.call("rm", "--all", "--force", "--time", "0")
            if os.geteuid():
                await self.call("system", "migrate")  # ends the process that holds this user's namespace
        for folder in (self.store.parent, self.run):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

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
            "compute.no_podman", "podman is not installed.", "Debian and Ubuntu: apt-get install podman runc."
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


def last_error(text: bytes) -> str:
    """The last line of what podman complains of, without its own decoration."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ")[:_TAIL_CHARS] if lines else "it says nothing."


def _run_folder(folder: Path) -> Path:
    """A short path that is another one after each start of the machine: nothing that is there runs any more."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    name = f"fallow-{_name_of(folder, boot)}"
    bases: Sequence[str] = ("/run",) if os.geteuid() == 0 else (os.environ.get("XDG_RUNTIME_DIR", ""),)
    for base in bases:
        if base and os.access(base, os.W_OK | os.X_OK) and len(base) + len(name) < _RUN_PATH_MAX - 2:
            return Path(base, name)
    return Path("/tmp", name)  # noqa: S108 - private, and checked to be this user's
