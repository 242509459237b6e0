"""Checks one image and ends: strangers' archives are read where memory and time are bounded by the kernel.

`images.check` starts it with a `Task` as its argument, and reads an `Answer` from its stdout.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput, TooMuch
from fallow.verticals.compute.worker.image_check import check_layout, import_archive

ADDRESS_SPACE_MAX: Final = 1 << 30
CPU_S_MAX: Final = 900
NICE: Final = 10


class Task(msgspec.Struct, frozen=True):
    """What to check: a layout, which is first made from an archive where there is one."""

    layout: str
    platform: str
    bytes_max: int
    archive: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What came of it; `refused` says why it is not taken, and is empty when it is."""

    image: str = ""
    unpacked_bytes: int = 0
    refused: str = ""
    too_large: bool = False


def answer(task: Task) -> Answer:
    """Do it. Raises OSError where this machine is at fault."""
    layout = Path(task.layout)
    try:
        if task.archive:
            import_archive(Path(task.archive), layout, bytes_max=task.bytes_max)
        checked = check_layout(layout, task.platform, bytes_max=task.bytes_max)
    except (InvalidInput, TooMuch) as error:
        return Answer(refused=error.message, too_large=isinstance(error, TooMuch))
    return Answer(image=checked.image, unpacked_bytes=checked.unpacked_bytes)


def main() -> None:
    """Bound this process, and answer."""
    os.nice(NICE)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    task = msgspec.json.decode(sys.argv[1], type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(answer(task)))


if __name__ == "__main__":
    main()
