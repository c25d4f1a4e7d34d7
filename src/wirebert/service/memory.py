"""Memory of a process that runs for months: the C library gives back what is freed."""

import os
from contextlib import suppress
from ctypes import CDLL
from typing import Final

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
"""Numbers of glibc's `mallopt(3)`."""
_TRIM_BYTES: Final = 1 << 16


def bound_heap() -> None:
    """Use one heap and give freed memory back to the system; call it before the model is loaded.

    With glibc's default of eight heaps per core, and with the cache of oneDNN, a service grew by 700 MB over
    70,000 requests of 200 clients. Other C libraries are left as they are.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
    with suppress(OSError, AttributeError):
        libc = CDLL("libc.so.6")
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
