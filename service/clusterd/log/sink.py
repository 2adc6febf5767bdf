"""A bounded buffer in front of a destination that may be slow or gone, and the limit of equal records."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable

from clusterd.log.record import UNLIMITED, Level, Record
from clusterd.log.repeats import Repeats
from clusterd.runtime import originals

BUFFER_BYTES = 256 * 1024

Encode = Callable[[Record], Iterable[bytes]]
"""Converts a record to the payloads to write. Each payload is written in one piece."""

Send = Callable[[bytes], bool]
"""Writes a payload without waiting. Returns False if it cannot be written now."""


class Sink:
    """Where records are written. Writing never waits.

    What the destination does not accept is kept, up to `capacity` bytes, and written later. Records that do not fit are
    dropped, and their number is logged once writing works again. Of equal records only some are written in a second
    (log/repeats.py), once `limit_repeats` was called.

    `encode_json` is used in place of `encode` after `use_json`. None: the destination has fields of its own.
    """

    def __init__(
        self,
        encode: Encode,
        send: Send,
        capacity: int = BUFFER_BYTES,
        encode_json: Encode | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encode = self._encode_text = encode
        self._encode_json = encode_json
        self._send = send
        self._capacity = capacity
        self._clock = clock
        self._repeats_allowed = 0
        self._start_empty()

    def _start_empty(self) -> None:
        # Re-entrant, because a signal handler may log while the thread that it interrupts is logging.
        self._lock = originals.RLock()
        self._process = os.getpid()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._lost_in_all = 0
        self._repeats = Repeats(self._repeats_allowed)

    def _own(self) -> None:
        """Start empty after a fork: the waiting records are the parent's, and one of its threads may hold the lock."""
        if os.getpid() != self._process:
            self._start_empty()

    @property
    def lost(self) -> int:
        """How many records were dropped and not yet reported."""
        return self._lost

    @property
    def lost_in_all(self) -> int:
        """How many records this process has dropped since its start, because the destination did not accept them."""
        return self._lost_in_all

    def resume(self, lost_in_all: int) -> None:
        """Count on from what an earlier program of this process has dropped."""
        self._lost_in_all += lost_in_all

    @property
    def left_out(self) -> int:
        """How many equal records this process has left out since its start."""
        return self._repeats.left_out

    def limit_repeats(self, limit: int) -> None:
        """Write at most `limit` equal records a second from now on. 0: as many as come."""
        if limit != self._repeats_allowed:
            self.finish()  # Otherwise what was left out until now would be told nowhere.
            before, self._repeats_allowed = self._repeats, limit
            self._repeats = Repeats(limit)
            self._repeats.left_out = before.left_out

    def use_json(self, wanted: bool) -> None:
        """Write one JSON object a record from now on, or text; unless the destination has fields of its own."""
        self._encode = self._encode_json if wanted and self._encode_json is not None else self._encode_text

    def write(self, record: Record) -> None:
        """Write a record now or later. If the buffer is full, the record is lost."""
        self._own()
        with self._lock:
            now = self._clock()
            self._catch_up(now)
            if record.alike == UNLIMITED or self._repeats.admits(record.level, record.kind, record.gist, now):
                self._put(record)

    def _put(self, record: Record) -> None:
        payloads = list(self._encode(record))
        if self._lost or not self._keep(payloads):
            # Lost even if it fits, because a record after lost ones would hide the gap.
            self._lost += 1
            self._lost_in_all += 1
        elif len(self._waiting) == len(payloads):
            self._drain()

    def flush(self) -> None:
        """Write as much as the destination accepts now, and report how many records were lost or left out."""
        self._own()
        with self._lock:
            self._catch_up(self._clock())

    def finish(self) -> None:
        """Flush, and report what was left out until now. To be called before the process ends."""
        self._own()
        with self._lock:
            self._catch_up(math.inf)

    def _catch_up(self, now: float) -> None:
        if now >= self._repeats.due:
            for left_out in self._repeats.reports(now):
                fields = {"count": left_out.count, "like": left_out.what}
                self._put(Record(left_out.level, "equal log records left out", fields))
        if self._waiting:
            self._drain()
        if self._lost and not self._waiting:
            lost, self._lost = self._lost, 0
            self._keep(list(self._encode(Record(Level.WARNING, "log records lost", {"count": lost}))))
            self._drain()

    def _keep(self, payloads: list[bytes]) -> bool:
        size = sum(map(len, payloads))
        if self._waiting_bytes + size > self._capacity:
            return False
        self._waiting.extend(payloads)
        self._waiting_bytes += size
        return True

    def _drain(self) -> None:
        while self._waiting:
            # Removed before it is sent, so that a re-entrant call does not send it twice.
            payload = self._waiting.popleft()
            if not self._send(payload):
                self._waiting.appendleft(payload)
                return
            self._waiting_bytes -= len(payload)
