"""Allocator: keep freed memory in the process, so that a pass on a CPU does not fault its pages in again.

glibc gives large blocks back to the kernel and fetches them zeroed a moment later: a quarter of a
forward pass of the test model on one core. CUDA and Apple devices have allocators of torch's own.
"""

from __future__ import annotations

import ctypes
import platform

from moe_core.units import MIB

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
BLOCK = 64 * MIB  # blocks up to this size are kept ...
KEPT = 256 * MIB  # ... as long as no more than this lies idle


def keep_pages() -> bool:
    """True where the allocator took the advice: glibc. Elsewhere nothing changes."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
