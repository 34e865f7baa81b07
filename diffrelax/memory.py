"""Handling of freed memory by glibc; no effect elsewhere."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """Keep freed memory in this process: SCF and training allocate the same arrays again.

    Fresh pages from the system are slow.
    """
    if (c := _glibc()) is not None:
        c.mallopt(M_MMAP_MAX, 0)
        c.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed() -> None:
    """Return freed memory to the system."""
    if (c := _glibc()) is not None:
        c.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    c = ctypes.CDLL(None) if sys.platform == "linux" else None
    return c if hasattr(c, "malloc_trim") else None
