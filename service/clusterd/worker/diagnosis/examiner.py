"""Examines this worker, in a native thread, when the master asks for it. The result goes into the master's file."""

import asyncio
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from time import monotonic

from clusterd.http.engine import InFlight
from clusterd.profiles import examination
from clusterd.profiles.call_tree import encoded
from clusterd.profiles.examination import Examination
from clusterd.runtime import originals
from clusterd.wire.messages import Examine
from clusterd.wire.packets import close_all
from clusterd.worker.diagnosis.allocations import Allocations
from clusterd.worker.diagnosis.sampling import KnownThread, ThreadSampler
from clusterd.worker.diagnosis.waiting import WaitingSampler


class Examiner:
    """Carries out the orders, each in a thread of its own. The loop may block meanwhile.

    To be made in the main thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, requests: Callable[[], list[InFlight]]) -> None:
        self._loop = loop
        self._requests = requests
        self._allocations = Allocations()
        # In a forked process `threading` may still have the number of another one.
        self._main = {originals.get_ident(): KnownThread("MainThread", os.getpid())}

    def asked(self, order: Examine, descriptors: Sequence[int]) -> None:
        """Begin, unless it is too late. For the loop's thread."""
        if len(descriptors) != 1:
            close_all(descriptors)
            return
        descriptor = descriptors[0]
        if monotonic() > order.begin_by or examination.is_called_off(descriptor):
            originals.close(descriptor)
            return
        match order.what:
            case Examination.PROFILE:
                # Under gevent the loop runs in a thread beside the main one.
                loop = {originals.get_ident(): KnownThread("event loop", threading.get_native_id())}
                threads = ThreadSampler({**loop, **self._main})
                waiting = WaitingSampler(self._loop, self._requests, order.until)
                self._begin(descriptor, lambda: self._profile(descriptor, order.until, threads, waiting))
            case Examination.MEMORY:
                self._begin(descriptor, lambda: self._memory(descriptor, order.until))
            case unknown:
                examination.failed(descriptor, f"this worker knows no examination {unknown!r}")
                originals.close(descriptor)

    def let_go_of_child(self) -> None:
        """In a process that the application has forked: do not trace its allocations."""
        self._allocations.stop_tracing()

    def _begin(self, descriptor: int, examine: Callable[[], bytes]) -> None:
        def run() -> None:
            try:
                examination.done(descriptor, zlib.compress(examine()))
            except BaseException as error:  # There is no caller, and the master waits for an answer.
                examination.failed(descriptor, f"the examination failed: {error!r}")
            finally:
                originals.close(descriptor)

        examination.begun(descriptor)
        try:
            originals.start_new_thread(run, ())
        except RuntimeError as error:
            examination.failed(descriptor, f"the worker can start no further thread: {error}")
            originals.close(descriptor)

    def _profile(self, descriptor: int, until: float, threads: ThreadSampler, waiting: WaitingSampler) -> bytes:
        began = monotonic()
        try:
            threads.run(until, lambda: examination.is_called_off(descriptor))
        finally:
            self._stop(waiting)
        return encoded(monotonic() - began, threads.looks, (threads.tree, waiting.tree))

    def _memory(self, descriptor: int, until: float) -> bytes:
        return self._allocations.examine(until, lambda: examination.is_called_off(descriptor))

    def _stop(self, waiting: WaitingSampler) -> None:
        try:
            self._loop.call_soon_threadsafe(waiting.stop)
        except RuntimeError:
            return  # The loop is closed: the process ends.
