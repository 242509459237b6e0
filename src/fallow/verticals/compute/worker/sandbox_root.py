"""The world that a Python program sees: read-only but for four folders, and nothing of the machine's owner in it.

/usr /lib*          the system's libraries and tools, without what was installed by hand
/python             the interpreter, unless it is the system's own
/bundle             the buyer's script and its dependencies
/in                 inputs
/checkpoint         writable: what is saved while it runs, and there again when it goes on elsewhere
/out /work /tmp     writable: outputs, working folder, a small file system in memory
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

from fallow.domain.errors import Unavailable

HOST: Final = "fallow"
JOB_ID: Final = 1000
"""User and group that the program believes to be."""

_SEARCH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_MIB: Final = 1 << 20
_LINKS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FILES: Final = {
    "/etc/passwd": "job:x:1000:1000::/work:/bin/sh\n",
    "/etc/group": "job:x:1000:\n",
    "/etc/hosts": f"127.0.0.1 localhost {HOST}\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_GLIBC_MIN: Final = (2, 28)  # what bundles with native code are built for (manylinux_2_28)


class Interpreter(NamedTuple):
    """A Python, seen from outside (`prefix`, `libraries`) and from the sandbox (`root`, `executable`)."""

    version: str
    prefix: Path
    root: Path
    executable: Path

    @property
    def libraries(self) -> Path:
        """Folder of the standard library, in the sandbox."""
        return self.root / "lib" / f"python{self.version}"


class Tools(NamedTuple):
    """Programs of this machine that the sandbox needs; `setpriv` and `env` only where this process is root."""

    bwrap: str
    setpriv: str
    env: str


class Folders(NamedTuple):
    """What a run sees, outside: inputs, outputs, working folder, checkpoint, bundle."""

    inputs: Path
    outputs: Path
    work: Path
    checkpoint: Path
    bundle: Path


def find_tools() -> Tools:
    """Find what a sandbox needs.

    Raises:
        Unavailable: something is not installed (`compute.no_sandbox`).
    """
    bwrap = shutil.which("bwrap", path=_SEARCH)
    if bwrap is None:
        raise Unavailable(
            "compute.no_sandbox", "bubblewrap is not installed.", "Debian and Ubuntu: apt-get install bubblewrap."
        )
    setpriv, env = (shutil.which(name, path="/usr/bin:/usr/sbin") or "" for name in ("setpriv", "env"))
    if os.geteuid() == 0 and not (setpriv and env):
        raise Unavailable(
            "compute.no_sandbox", "setpriv is not installed.", "Debian and Ubuntu: apt-get install util-linux."
        )
    return Tools(bwrap, setpriv, env)


def find_interpreter() -> Interpreter:
    """Return the Python that this process runs on, without its virtual environment."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix).resolve()
    # Elsewhere it may lie in somebody's home, whose name is nobody's business.
    root = prefix if prefix.is_relative_to("/usr") else Path("/python")
    return Interpreter(version, prefix, root, root / "bin" / f"python{version}")


def native_platform() -> str:
    """What this machine runs of native code, for example `linux-x86_64-glibc`; empty when that is too old or other."""
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if name != "glibc" or numbers < _GLIBC_MIN:
        return ""
    return f"{platform.system().lower()}-{platform.machine().lower()}-glibc"


def root_arguments(interpreter: Interpreter, folders: Folders, *, tmp_bytes: int) -> list[str]:
    """Arguments of bwrap that lay out the file system. The texts of _FILES follow through `data_files`."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _LINKS:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()).lstrip("/"), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    # bwrap makes parents of what it mounts for root alone, which the job is not.
    arguments += ["--perms", "0755", "--dir", "/etc"]
    for cache in ("/etc/ld.so.cache", "/nix/store" if interpreter.prefix.is_relative_to("/nix") else ""):
        if cache and Path(cache).exists():
            arguments += ["--ro-bind", cache, cache]
    if interpreter.root != interpreter.prefix:
        arguments += ["--ro-bind", str(interpreter.prefix), str(interpreter.root)]
    for hidden in _hidden(interpreter):
        arguments += ["--perms", "0555", "--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--perms", "1777", "--size", str(max(_MIB, tmp_bytes // 4)), "--tmpfs", "/dev/shm"]  # noqa: S108
    arguments += ["--perms", "1777", "--size", str(max(_MIB, tmp_bytes)), "--tmpfs", "/tmp"]  # noqa: S108
    arguments += ["--ro-bind", str(folders.bundle), "/bundle", "--ro-bind", str(folders.inputs), "/in"]
    arguments += ["--bind", str(folders.outputs), "/out", "--bind", str(folders.work), "/work", "--chdir", "/work"]
    arguments += ["--bind", str(folders.checkpoint), "/checkpoint"]
    return arguments


def data_files() -> dict[str, bytes]:
    """Small files that bwrap writes itself, by their path."""
    return {path: text.encode() for path, text in _FILES.items()}


def environment(interpreter: Interpreter, *, seed: bytes, cpu_milli: int) -> dict[str, str]:
    """What the program's environment holds before the buyer's own variables go over it."""
    threads = str(max(1, cpu_milli // 1000))
    found = {
        "HOME": "/work",
        "LANG": "C.UTF-8",
        "PATH": f"{interpreter.executable.parent}:/usr/bin:/bin",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "TZ": "UTC",
        "FALLOW_SEED": seed.hex(),
        "PYTHONHASHSEED": str(int.from_bytes(seed[:4], "big")),
        "PYTHONPATH": "/bundle/site-packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        # Libraries count the machine's processors, not the lease's.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    if interpreter.root != interpreter.prefix:
        found["LD_LIBRARY_PATH"] = str(interpreter.root / "lib")
    return found


def _hidden(interpreter: Interpreter) -> list[str]:
    """Folders of /usr and of the interpreter that hold what the owner installed: packages above all."""
    version = interpreter.version
    candidates = [
        (interpreter.prefix / "lib" / f"python{version}" / "site-packages", interpreter.libraries / "site-packages"),
        (Path("/usr/lib/python3/dist-packages"), Path("/usr/lib/python3/dist-packages")),
    ]
    local = Path("/usr/local")
    if interpreter.root.is_relative_to(local):
        candidates.append((local / "src", local / "src"))
    else:
        candidates.append((local, local))
    return [str(inside) for outside, inside in candidates if outside.is_dir()]
