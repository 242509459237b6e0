"""One run in a container, as every engine is told of it.

What its program sees: the image, read-only; /in, read-only; /out, /work and /checkpoint on the disk, and /tmp in
memory. No network, no capability, no new privilege, the engine's own seccomp filter.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fallow.verticals.compute.worker.checkpoints import FOLDER

PROCESSES_MAX: Final = 256
FILES_MAX: Final = 1024
FOLDERS: Final = (("in", "ro"), ("out", "rw"), ("work", "rw"), (FOLDER, "rw"))
_TMP: Final = "/tmp"  # noqa: S108 - the container's own
_MIB: Final = 1 << 20
_SHARE_OF_TMP: Final = 4


class ContainerJob(NamedTuple):
    """One run. `image` is an image's id in the store; `folder` holds its folders, and gets stdout and stderr.

    `gpus` are graphics processors by their UUIDs, handed in through NVIDIA's description of them (CDI).
    """

    name: str
    image: str
    entrypoint: tuple[str, ...]
    args: tuple[str, ...]
    workdir: str
    env: Mapping[str, str]
    folder: Path
    memory_bytes_max: int
    disk_bytes_max: int
    cpu_milli: int
    time_limit_s: float
    gpus: tuple[str, ...] = ()

    @property
    def pid_file(self) -> Path:
        """Where an engine that can writes the pid of its first process."""
        return self.folder / "pid"

    @property
    def env_file(self) -> Path:
        """Where its variables lie until it begins: they stand on no command line."""
        return self.folder / "env"


def common_words(job: ContainerJob, owner: str = "") -> list[str]:
    """What every engine understands. `owner` says of /tmp whose it is, where it is not root's."""
    tmp_bytes = max(_MIB, job.memory_bytes_max // _SHARE_OF_TMP)
    words = ["--name", job.name, "--pull", "never", "--log-driver", "none", "--env-file", str(job.env_file)]
    words += ["--network", "none", "--hostname", "fallow", "--ipc", "private", "--read-only", "--no-healthcheck"]
    words += ["--cap-drop", "all", "--security-opt", "no-new-privileges"]
    words += ["--tmpfs", f"{_TMP}:size={tmp_bytes},mode=1777,nosuid,nodev{owner}", "--shm-size", str(tmp_bytes)]
    words += [f"--device=nvidia.com/gpu={gpu}" for gpu in job.gpus]
    return words + (["--workdir", job.workdir] if job.workdir else [])


def group_words(job: ContainerJob) -> list[str]:
    """Limits by control groups."""
    memory, cpus = str(job.memory_bytes_max), f"{job.cpu_milli / 1000:.3f}"
    return ["--pids-limit", str(PROCESSES_MAX), "--memory", memory, "--memory-swap", memory, "--cpus", cpus]


def limit_words(job: ContainerJob, more: Mapping[str, tuple[int, int]]) -> list[str]:
    """The kernel's limits on each process; `more` are others, by name: their kind and value."""
    cpu_s = math.ceil(job.time_limit_s * max(1.0, job.cpu_milli / 1000)) + 1
    limits = {
        "core": (resource.RLIMIT_CORE, 0),
        "nofile": (resource.RLIMIT_NOFILE, FILES_MAX),
        "fsize": (resource.RLIMIT_FSIZE, job.disk_bytes_max + 1),
        "cpu": (resource.RLIMIT_CPU, cpu_s),
        "memlock": (resource.RLIMIT_MEMLOCK, 0),
        **more,
    }
    words = []
    for name, (kind, wanted) in limits.items():
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        words += ["--ulimit", f"{name}={value}:{value}"]
    return words
