"""Become an engine that dies with its parent. Run as a script: `python -I -S launch.py OPTIONS -- PROGRAM ARGS...`.

It is run by its path, not as `-m fallow...`, so that it imports nothing but the standard library's core: it stands
between every start and the engine. Options, each followed by a number:

    --parent   the process that must still be our parent, or we leave at once
    --signal   what the kernel sends us when that parent (more exactly: the thread that forked us) is gone
    --uid      the user to become (only given when run by root), with
    --gid      the group to become
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
PARENT_GONE = 75
CANNOT_RUN = 127


def main(arguments: list[str]) -> int:
    """Drop privileges, tie our life to the parent's, and turn into the program. Returns only when that fails."""
    split = arguments.index("--")
    options = dict(zip(arguments[:split:2], map(int, arguments[1:split:2]), strict=True))
    program = arguments[split + 1 :]
    # Loaded before the user changes: afterwards Python's own files may be out of reach.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if "--uid" in options:
        os.setgroups([])
        os.setgid(options["--gid"])
        os.setuid(options["--uid"])
    # Only now: the kernel clears this setting whenever the user changes.
    if prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(options["--signal"])) != 0:
        sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}\n")
        return CANNOT_RUN
    # A parent that died before the line above sends no signal any more.
    if os.getppid() != options["--parent"]:
        return PARENT_GONE
    os.umask(0o077)
    # Python ignores it at start, and what is ignored stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"{program[0]} cannot be run: {error.strerror}\n")
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
