"""Ends a container when the agent that started it is gone, however that ended: an engine's containers outlive it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

# Its stdin ends with the agent. It then stops whoever starts the container, and has the container removed.
_CODE: Final = """
import os, signal, sys
os.read(0, 1)
try:
    signal.pidfd_send_signal(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
os.execv(sys.argv[2], sys.argv[2:])
"""


class Keeper:
    """Watches over one container. `starter` is a pidfd of who starts it, `remove` a command that removes it."""

    def __init__(self, starter: int, remove: Sequence[str], env: Mapping[str, str]) -> None:
        ours, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own code and command
                [sys.executable, "-I", "-S", "-c", _CODE, str(starter), *remove],
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
