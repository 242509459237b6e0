"""What runs leave on disk: outputs, collected without trusting them, and compiled programs, kept for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch
from fallow.verticals.compute.worker.wasm_files import WasiError, check_name

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def collect_outputs(workspace: Path, bytes_max: int) -> list[tuple[str, Path, int]]:
    """The files under `<workspace>/out`: (name with `/`, path, size in bytes), sorted by the name's bytes.

    Only regular files with one name are taken: links (which could show the host's files), pipes and devices are left
    out, and folders that are links are not entered. Call it after the program has ended.

    Raises:
        InvalidInput: a name is not UTF-8 or holds control characters.
        TooMuch: the sizes add up to more than `bytes_max`.
    """
    found = sorted(_regular(workspace / "out", ""), key=lambda item: item[0].encode())
    total = sum(size for _, _, size in found)
    if total > bytes_max:
        raise TooMuch("compute.outputs_too_large", f"The outputs have {total} bytes; {bytes_max} were agreed.")
    return found


def _regular(folder: Path, prefix: str) -> Iterator[tuple[str, Path, int]]:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        try:
            check_name(os.fsencode(entry.name))
        except WasiError:
            raise InvalidInput(
                "compute.bad_output_name", f"An output has a name that is not plain UTF-8: {entry.name!a}."
            ) from None
        name = prefix + entry.name
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            yield from _regular(Path(entry.path), name + "/")
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            yield name, Path(entry.path), status.st_size


def compiled_path(program: Path, cache_dir: Path, engine: str) -> Path:
    """Where the compiled form of `program` is kept.

    Raises NotAllowed when somebody else could have put it there: it is native code, and runs unchecked.
    """
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = cache_dir.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
        raise NotAllowed(
            "compute.cache_not_private",
            f"Others can write to {cache_dir}, and what lies there is run unchecked.",
            "Give the folder to this user and remove the write permission of others.",
        )
    with program.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(engine.encode())
    return cache_dir.absolute() / f"{digest.hexdigest()}.cwasm"


def prune_cache(cache_dir: Path, bytes_max: int) -> int:
    """Remove the programs that were unused longest until at most `bytes_max` bytes are left; the bytes removed.

    Safe while programs run: who has opened a file keeps it, who comes later compiles again.
    """
    files: list[tuple[float, int, Path]] = []
    for path in cache_dir.glob("*.cwasm*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - bytes_max
    removed = 0
    for _, size, path in sorted(files):
        if removed >= excess:
            break
        path.unlink(missing_ok=True)
        removed += size
    return removed
