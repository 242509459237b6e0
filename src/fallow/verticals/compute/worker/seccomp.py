"""A seccomp filter for programs in the sandbox, assembled here: no library is needed for it.

What a computing program has no use for is refused with an error: more namespaces, mounts, other processes' memory,
kernel modules, keyrings, io_uring, BPF, and sockets other than UNIX and IP ones (AF_VSOCK, which no network namespace
holds back, would reach a virtual machine's host).
"""

from __future__ import annotations

import errno
import struct
from typing import Final, NamedTuple

_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_REFUSE: Final = 0x00050000

_NUMBER_AT, _ARCH_AT, _ARGUMENT_0_AT, _ARGUMENT_1_AT = 0, 4, 16, 24
_X32: Final = 0x40000000
_NAMESPACES: Final = 0x7E020000  # all CLONE_NEW* flags
_FAMILIES: Final = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_TIOCSTI: Final = 0x5412


class _Machine(NamedTuple):
    """Numbers of one kind of processor: AUDIT_ARCH, the calls whose arguments count, and those that are refused."""

    arch: int
    clone: int
    socket: int
    ioctl: int
    refused: tuple[int, ...]


_CLONE3: Final = 435
# io_uring_setup, _enter, _register, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd,
# mount_setattr, quotactl_fd: the same number everywhere.
_REFUSED: Final = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443)

_MACHINES: Final = {
    "x86_64": _Machine(
        arch=0xC000003E,
        clone=56,
        socket=41,
        ioctl=16,
        refused=(
            *(101, 103, 134, 153, 155, 161),  # ptrace, syslog, uselib, vhangup, pivot_root, chroot
            *(163, 165, 166, 167, 168, 169),  # acct, mount, umount2, swapon, swapoff, reboot
            *(172, 173, 175, 176, 179, 180),  # iopl, ioperm, init_module, delete_module, quotactl, nfsservctl
            *(212, 246, 248, 249, 250, 256),  # lookup_dcookie, kexec_load, add_key, request_key, keyctl, migrate_pages
            *(272, 298, 303, 304, 308),  # unshare, perf_event_open, name_to_handle_at, open_by_handle_at, setns
            *(310, 311, 312, 313, 320),  # process_vm_readv, process_vm_writev, kcmp, finit_module, kexec_file_load
            *(321, 323),  # bpf, userfaultfd
        ),
    ),
    "aarch64": _Machine(
        arch=0xC00000B7,
        clone=220,
        socket=198,
        ioctl=29,
        refused=(
            *(117, 116, 58, 41, 51),  # ptrace, syslog, vhangup, pivot_root, chroot
            *(89, 40, 39, 224, 225, 142),  # acct, mount, umount2, swapon, swapoff, reboot
            *(105, 106, 60),  # init_module, delete_module, quotactl
            *(18, 104, 217, 218, 219, 238),  # lookup_dcookie, kexec_load, add_key, request_key, keyctl, migrate_pages
            *(97, 241, 264, 265, 268),  # unshare, perf_event_open, name_to_handle_at, open_by_handle_at, setns
            *(270, 271, 272, 273, 294),  # process_vm_readv, process_vm_writev, kcmp, finit_module, kexec_file_load
            *(280, 282),  # bpf, userfaultfd
        ),
    ),
}


def assemble(machine: str) -> bytes | None:
    """Return the filter for `machine` (as platform.machine() says it), ready for bwrap; None where it is not known."""
    known = _MACHINES.get(machine)
    if known is None:
        return None
    denied = _REFUSE | errno.EPERM
    steps = [
        _step(_LOAD, _ARCH_AT),
        *_when(_EQUAL, known.arch, (), otherwise=_KILL),
        _step(_LOAD, _NUMBER_AT),
        *_when(_AT_LEAST, _X32, (_step(_RETURN, denied),)),
        # The C library falls back to clone, whose flags can be looked at.
        *_when(_EQUAL, _CLONE3, (_step(_RETURN, _REFUSE | errno.ENOSYS),)),
    ]
    for number in (*known.refused, *_REFUSED):
        steps += _when(_EQUAL, number, (_step(_RETURN, denied),))
    no_namespaces = (*_when(_ANY_BIT, _NAMESPACES, (_step(_RETURN, denied),)), _step(_RETURN, _ALLOW))
    steps += _when(_EQUAL, known.clone, (_step(_LOAD, _ARGUMENT_0_AT), *no_namespaces))
    families = [step for family in _FAMILIES for step in _when(_EQUAL, family, (_step(_RETURN, _ALLOW),))]
    refused_family = _step(_RETURN, _REFUSE | errno.EAFNOSUPPORT)
    steps += _when(_EQUAL, known.socket, (_step(_LOAD, _ARGUMENT_0_AT), *families, refused_family))
    no_typing = (*_when(_EQUAL, _TIOCSTI, (_step(_RETURN, denied),)), _step(_RETURN, _ALLOW))
    steps += _when(_EQUAL, known.ioctl, (_step(_LOAD, _ARGUMENT_1_AT), *no_typing))
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _when(test: int, value: int, steps: tuple[bytes, ...], *, otherwise: int | None = None) -> tuple[bytes, ...]:
    """Do `steps` when the test holds; when it does not, go on behind them, or end with `otherwise`."""
    if otherwise is not None:
        return (_step(test, value, yes=1), _step(_RETURN, otherwise), *steps)
    return (_step(test, value, no=len(steps)), *steps)
