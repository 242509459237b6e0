"""Ends a container when the agent that started it is gone, however that ended: an engine's containers outlive it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Its stdin ends with the agent. It then stops whoever starts the container, and has the container removed. An engine
# that is killed between a container's creation and its start knows nothing of the process that waits to be started:
# only the pid file names it, and that it is the engine's tells its control group.
_CODE: Final = """
import os, signal, sys, time
os.read(0, 1)
try:
    signal.pidfd_send_signal(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
for _ in range(30):
    if os.path.exists(sys.argv[2]):
        break
    time.sleep(0.1)
try:
    pid = int(open(sys.argv[2]).read())
    if "/libpod-" in open(f"/proc/{pid}/cgroup").read():
        os.kill(pid, signal.SIGKILL)
except (OSError, ValueError):
    pass
os.execv(sys.argv[3], sys.argv[3:])
"""


class Keeper:
    """Watches over one container.

    `starter` is a pidfd of who starts it, `pid_file` will name its first process, `remove` is a command that removes
    it.
    """

    def __init__(self, starter: int, pid_file: Path, remove: Sequence[str], env: Mapping[str, str]) -> None:
        ours, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own code and command
                [sys.executable, "-I", "-S", "-c", _CODE, str(starter), str(pid_file), *remove],
                stdin=ours,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(starter,),
                cwd="/",
                env=dict(env),
                start_new_session=True,
            )
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(ours)
        self._line = theirs

    def dismiss(self) -> None:
        """Nothing is left to watch over."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        os.close(self._line)
