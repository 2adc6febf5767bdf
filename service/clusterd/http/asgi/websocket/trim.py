"""Gives the memory of dropped messages back to the kernel.

glibc keeps freed memory that is not at the end of its heap. It also learns from the first large message that is freed
to take the next one from the heap (mallopt(3), M_MMAP_THRESHOLD), where small objects that live on hold it: after
twice twenty messages of 16 MB that were dropped, a worker of 26 MB kept 176 MB. A fixed threshold was rejected,
because every large buffer of the application would then cost an mmap(2) and its page faults.
"""

import ctypes

from clusterd.http.messages.quota import Quota

TRIM_BYTES = 1 << 20
"""Dropped bytes that are worth a call, which takes a millisecond or a few."""


class Trim:
    """Gives memory back when much was dropped, and no more is being dropped."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._seen = 0

    def tick(self) -> None:
        """Look. To be called a few times a second: what was dropped at one tick is free at the next."""
        dropped = self._quota.dropped
        if dropped >= TRIM_BYTES and dropped == self._seen:
            self._quota.dropped = dropped = 0
            try:
                ctypes.CDLL(None).malloc_trim(0)
            except AttributeError:
                pass  # Another C library, which has no such call.
        self._seen = dropped
