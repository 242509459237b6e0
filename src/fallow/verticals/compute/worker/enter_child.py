"""Becomes a command in a Python sandbox: a program of its own that needs nothing but the standard library.

Arguments: a descriptor of a process in the sandbox, one of an `enter.Task` in JSON, and one that is readable once this
process is in the sandbox's control group. It enters all namespaces of the sandbox and gives away, in this order, what
the job does not have either: its powers, its user, the right to gain new ones, and the calls that the job's filter
refuses. Nobody in the sandbox can look into it meanwhile: it is not dumpable until it is the sandbox's interpreter,
which then becomes the command. Without that step `/proc/self/exe` would be a command that names the program which runs
here: a file of the machine's, by a mount that is not the sandbox's, and perhaps the job's user's own.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import sys
import termios
from typing import Any

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITIES = 64
FILTER_STEP_BYTES = 8
CAPABILITY_VERSION_3 = 0x20080522
NO_PROGRAM, CANNOT_RUN, BROKEN, SIGNALLED = 127, 126, 125, 128

# Python has ignored these signals once more.
COMMAND = f"""
import os, signal, sys
for number in signal.SIGPIPE, signal.SIGXFSZ:
    signal.signal(number, signal.SIG_DFL)
words = sys.argv[1:]
try:
    os.execvp(words[0], words)
except OSError as error:
    os.write(2, f"fallow: {{words[0]}}: {{error.strerror}}\\n".encode())
    os._exit({NO_PROGRAM} if isinstance(error, FileNotFoundError) else {CANNOT_RUN})
"""

libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main(process: int, task_fd: int, gate: int) -> int:
    """Enter, and wait for the command; returns its exit code."""
    with os.fdopen(task_fd) as file:
        task = json.load(file)
    if not os.read(gate, 1):
        return BROKEN
    os.close(gate)
    _prctl(PR_SET_DUMPABLE, 0)
    _checked(libc.setns(process, task["namespaces"]))
    os.close(process)
    child = os.fork()  # a process never changes its own process namespace, but its children's
    if not child:
        try:
            _become(task)
        except BaseException as error:  # noqa: BLE001 - two processes must not both go on
            os.write(2, f"fallow: the command cannot be run: {error}\n".encode())
        os._exit(BROKEN)
    for fd in range(3):
        os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else SIGNALLED - code


def _become(task: dict[str, Any]) -> None:
    os.setsid()
    if task["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(task["folder"])
    os.umask(0o022)
    os.setpriority(os.PRIO_PROCESS, 0, max(task["nice"], os.getpriority(os.PRIO_PROCESS, 0)))  # never forward
    for kind, wanted in task["limits"]:
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability))  # those that this kernel does not know are refused
    if task["user"]:
        os.setgroups([])
        os.setresgid(*[task["user"]] * 3)
        os.setresuid(*[task["user"]] * 3)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)()))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if task["filter"]:
        code = bytes.fromhex(task["filter"])
        program = _Program(len(code) // FILTER_STEP_BYTES, code)
        _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    interpreter = task["interpreter"]
    os.execve(interpreter, [interpreter, "-I", "-S", "-c", COMMAND, *task["words"]], task["env"])  # noqa: S606


def _prctl(option: int, *arguments: int) -> None:
    _checked(libc.prctl(option, *(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4])))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
