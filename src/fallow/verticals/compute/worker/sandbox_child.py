"""bubblewrap as a child process: started, held until its limits are set, ended, and read afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker.sandbox_root import JOB_ID
from fallow.verticals.compute.worker.watch import children

# Ids of the machine that no account of it has (above all that systemd gives out): started by root, a run gets one.
_HOST_IDS: Final = 0x70000000
_HOST_IDS_COUNT: Final = 60_000
_NOBODY: Final = 65534
_STATUS_BYTES_MAX: Final = 64 * 1024


class Channels(NamedTuple):
    """Descriptors between this process and bwrap: ours, and those that bwrap gets."""

    info: int
    status: int
    gate: int
    theirs: tuple[int, ...]


class Child:
    """One sandbox. `pid` is that of its first process, which takes all others along when it ends."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        channels: Channels,
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> None:
        """Start it. On the loop's thread: it dies with the very thread that started it."""
        self.pid = 0
        self.status: int | None = None
        self.cpu_ms = 0
        self.peak_memory_bytes = 0
        self.exit_code: int | None = None
        self._channels = channels
        self._info = b""
        self._first_fd: int | None = None
        self._reading = threading.Lock()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - bwrap, with our arguments before the program's
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=channels.theirs,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            for fd in (channels.info, channels.status, channels.gate):
                os.close(fd)
            raise Unavailable("compute.sandbox", f"bubblewrap does not start: {error.strerror}.") from error
        finally:
            for fd in channels.theirs:
                os.close(fd)
        self.fd = os.pidfd_open(self._process.pid)

    async def held(self) -> int | None:
        """Wait until it stands and waits for `release`; None when it ended instead.

        Returns the descriptor of its first process, which lives in all of its namespaces.
        """
        await asyncio.to_thread(self._read_info)
        return self._first_fd

    def bound(self, limits: Mapping[int, int], *, nice: int, host_id: int | None) -> None:
        """Set the kernel's limits on all that will run in it; OSError when it is gone.

        `host_id` is the user that the program is outside, where this process is root: inside it is JOB_ID, and root
        stays what lays out the file system before.
        """
        if host_id is not None:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{self.pid}/{name}").write_text(f"0 0 1\n{JOB_ID} {host_id} 1\n")
        behind = max(nice, os.getpriority(os.PRIO_PROCESS, self.pid))  # an agent may be further back than its jobs
        os.setpriority(os.PRIO_PROCESS, self.pid, behind)
        for kind, wanted in limits.items():
            _, hard = resource.prlimit(self.pid, kind)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(self.pid, kind, (value, value))

    def release(self) -> None:
        """Let the program begin."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._channels.gate, b"1")

    @property
    def ended(self) -> bool:
        """Whether the program is over."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def ask_to_end(self) -> None:
        """Send SIGTERM to what the sandbox's first process has started."""
        for pid in children(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """End everything in it, at once. The kernel ends all processes of a sandbox with its first one."""
        self._read_info()  # bwrap says as soon as there is something that could be left behind
        for fd in (self._first_fd, self.fd):
            if fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

    def gone(self) -> None:
        """Wait until no process is left, after `kill`: what bwrap reports comes before the last ones have ended."""
        for fd in (self._first_fd, self.fd):
            if fd is not None:
                select.select([fd], [], [])

    def reap(self) -> None:
        """Collect what it leaves, when it is gone."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_ms = round((usage.ru_utime + usage.ru_stime) * 1000)
        self.peak_memory_bytes = usage.ru_maxrss * 1024
        self.exit_code = _exit_code(os.read(self._channels.status, _STATUS_BYTES_MAX))
        for fd in (self._channels.info, self._channels.status, self._channels.gate, self.fd):
            os.close(fd)
        if self._first_fd is not None:
            os.close(self._first_fd)

    def _read_info(self) -> None:
        with self._reading:
            while piece := os.read(self._channels.info, 4096):
                self._info += piece
            if self._info and self._first_fd is None:
                pid = msgspec.json.decode(self._info, type=dict[str, int])["child-pid"]
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    self._first_fd = os.pidfd_open(pid)
                    self.pid = pid


def open_channels(command: list[str], data: Mapping[str, bytes], seccomp: bytes | None, *, as_root: bool) -> Channels:
    """Make the descriptors of one run, and name them in bwrap's arguments."""
    info, info_theirs = os.pipe()
    status, status_theirs = os.pipe()
    gate_theirs, gate = os.pipe()
    theirs = [info_theirs, status_theirs, gate_theirs]
    command += ["--info-fd", str(info_theirs), "--json-status-fd", str(status_theirs)]
    # As root the ids are mapped from outside, and bwrap waits for that; else it waits before the program begins.
    command += ["--userns-block-fd" if as_root else "--block-fd", str(gate_theirs)]
    for path, content in data.items():
        theirs.append(memory_file(content))
        command += ["--perms", "0444", "--ro-bind-data", str(theirs[-1]), path]
    if seccomp is not None:
        theirs.append(memory_file(seccomp))
        command += ["--seccomp", str(theirs[-1])]
    return Channels(info, status, gate, tuple(theirs))


def hide_arguments(command: list[str], channels: Channels) -> tuple[list[str], Channels]:
    """Hand bwrap its arguments through a descriptor: the program can read its command line, which names our folders."""
    fd = memory_file(b"".join(argument.encode() + b"\0" for argument in command[1:]))
    return [command[0], "--args", str(fd)], channels._replace(theirs=(*channels.theirs, fd))


def pick_host_id(name: str) -> int | None:
    """Id of the user that a run of root's is outside of its sandbox; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    wanted = _HOST_IDS + sum(name.encode()) * 7919 % _HOST_IDS_COUNT
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(part) for part in line.split())
        if first <= wanted < first + count:
            return wanted
    return _NOBODY  # in a container that knows few ids


def memory_file(content: bytes) -> int:
    """Open a file in memory that holds `content`, to be handed to another process."""
    fd = os.memfd_create("fallow")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _exit_code(status: bytes) -> int | None:
    """What bwrap reports last; None when the program never began, or bwrap was killed."""
    for line in reversed(status.splitlines()):
        with contextlib.suppress(msgspec.MsgspecError):
            found = msgspec.json.decode(line, type=dict[str, int])
            if "exit-code" in found:
                return found["exit-code"]
    return None
