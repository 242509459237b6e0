"""Memory that is freed stays with the process for a while, up to a bound.

glibc gives blocks of 128 KiB and more back to the system as soon as they are freed, and the end of the heap as well: a
process that moves bytes in portions of that size then has the system clear every page of each anew.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Of `mallopt` (glibc, malloc.h)."""

MAPPED_BYTES_MIN: Final = 8 << 20
"""Larger blocks are mapped alone, and given back at once: storage's largest portion (80 pieces) has 5 MiB."""
KEPT_BYTES_MAX: Final = 16 << 20
"""So much free memory at the end of a heap is kept, of which each thread has one at most."""


def keep_freed_memory() -> None:
    """Tell the allocator so; other ones than glibc's are left as they are."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
