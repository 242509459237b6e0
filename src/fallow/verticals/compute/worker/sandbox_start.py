"""How a run begins: its world laid out, its limits set, and only then the program."""

from __future__ import annotations

import math
import os
import platform
import resource
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker import seccomp
from fallow.verticals.compute.worker.cgroups import Group
from fallow.verticals.compute.worker.sandbox_child import Child, hide_arguments, open_channels
from fallow.verticals.compute.worker.sandbox_root import (
    HOST,
    JOB_ID,
    Folders,
    Interpreter,
    Tools,
    data_files,
    environment,
    root_arguments,
)

PROCESSES_MAX: Final = 128
_FILES_MAX: Final = 1024
_SHARE_OF_TMP: Final = 4
_ALIAS: Final = "FALLOW_SECRET_"
_RENAME: Final = f"""\
import os, sys
for number, name in enumerate(sys.argv[1].split(",")):
    os.environ[name] = os.environ.pop(f"{_ALIAS}{{number}}")
os.execv(sys.argv[2], sys.argv[2:])
"""
_UNSET_MEMORY: Final = 1 << 30
"""Addresses that a program may reserve beyond its memory, where only addresses can be limited."""
_COUNTED_PER_SANDBOX: Final = (5, 14)


class SandboxJob(NamedTuple):
    """One run. `script` is a path in the bundle; `stdout` and `stderr` are written to by it.

    `secrets` are variables, too, but stand on no command line, which everybody on the machine can read.
    """

    script: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    seed: bytes
    folders: Folders
    stdout: Path
    stderr: Path
    memory_bytes_max: int
    disk_bytes_max: int
    cpu_milli: int
    time_limit_s: float
    nice: int = 10
    secrets: Mapping[str, str] = MappingProxyType({})


def start(job: SandboxJob, tools: Tools, interpreter: Interpreter, *, as_root: bool) -> Child:
    """Start a sandbox, which then waits for its limits and to be released.

    Raises:
        Unavailable: it does not start.
    """
    command = [tools.bwrap, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--hostname", HOST, "--cap-drop", "ALL"]
    # As root, the first process keeps what it takes to become the job's user, and loses it by becoming that.
    ids = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    command += ids if as_root else ["--uid", str(JOB_ID), "--gid", str(JOB_ID)]
    command += root_arguments(interpreter, job.folders, tmp_bytes=job.memory_bytes_max // _SHARE_OF_TMP)
    variables = variables_of(job, interpreter)
    # Names of the buyer's choice (LD_PRELOAD!) must not be set before root has become the job's user.
    early = dict(zip(_aliases(job), job.secrets.values(), strict=True)) if as_root else variables | dict(job.secrets)
    command += [text for name, value in early.items() for text in ("--setenv", name, value)]
    channels = open_channels(command, data_files(), seccomp.assemble(platform.machine()), as_root=as_root)
    # Last, when all that was to be laid out is there.
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    command, channels = hide_arguments(command, channels)
    command.append("--")
    if as_root:
        become = [f"--reuid={JOB_ID}", f"--regid={JOB_ID}", "--clear-groups", "--inh-caps=-all"]
        given = [f"{name}={value}" for name, value in variables.items()]
        command += [tools.setpriv, *become, tools.env, *(["-u", "PWD"] if job.secrets else ["-i"]), *given]
        if job.secrets:
            command += [str(interpreter.executable), "-I", "-S", "-c", _RENAME, ",".join(job.secrets)]
    command += [str(interpreter.executable), f"/bundle/{job.script}", *job.args]
    with job.stdout.open("wb") as stdout, job.stderr.open("wb") as stderr:
        return Child(command, channels=channels, stdout=stdout, stderr=stderr)


def variables_of(job: SandboxJob, interpreter: Interpreter) -> dict[str, str]:
    """The program's environment, but for its secrets."""
    return {**environment(interpreter, seed=job.seed, cpu_milli=job.cpu_milli), **job.env}


def _aliases(job: SandboxJob) -> list[str]:
    """Names that mean nothing to any program, for secrets until they get their own."""
    return [f"{_ALIAS}{number}" for number in range(len(job.secrets))]


def bound(child: Child, job: SandboxJob, group: Group | None, host_id: int | None) -> None:
    """Set all limits before the program begins.

    Raises:
        Unavailable: they cannot be set, so it must not run.
    """
    try:
        child.bound(limits_of(job, group), nice=job.nice, host_id=host_id)
        if group is not None:
            group.add(child.pid)
    except OSError as error:
        child.kill()
        raise Unavailable("compute.sandbox", f"The sandbox's limits cannot be set: {error}.") from error


def limits_of(job: SandboxJob, group: Group | None) -> dict[int, int]:
    """The kernel's limits on each process in the sandbox, by their kind."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _FILES_MAX,
        resource.RLIMIT_FSIZE: job.disk_bytes_max + 1,
        resource.RLIMIT_CPU: math.ceil(job.time_limit_s * max(1.0, job.cpu_milli / 1000)) + 1,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if _kernel() >= _COUNTED_PER_SANDBOX:  # older ones count the user's processes elsewhere too
        limits[resource.RLIMIT_NPROC] = PROCESSES_MAX
    if group is None:
        limits[resource.RLIMIT_AS] = job.memory_bytes_max + _UNSET_MEMORY
    return limits


def make_writable(job: SandboxJob, host_id: int | None) -> None:
    """Give the folders that the program may write to the user that it is outside."""
    if host_id is not None:
        for folder in (job.folders.outputs, job.folders.work, job.folders.checkpoint):
            os.chown(folder, host_id, host_id)
            # Without its powers bwrap's root has to pass here; nobody else comes as far, the workspace is closed.
            folder.chmod(0o755)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdecimal())
