"""Tells the master the application's metrics that only this process can tell, when it asks."""

import asyncio
import os
from collections.abc import Callable

from clusterd.log import Logger
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.runtime import originals
from clusterd.runtime.hub import hub_in_use
from clusterd.runtime.threads import begin
from clusterd.wire.messages import MetricsTold

THREAD_NAME = "clusterd-metrics"


class MetricsTeller:
    """Calls the application's collectors in a thread of their own, or in a greenlet, as they may take any time.

    `tell` sends an answer with its descriptors, on the loop. The master asks again when it has the last answer, so each
    question gets one, also if there are no threads or descriptors left to answer it with.
    """

    def __init__(
        self,
        instrumentation: Instrumentation | None,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[MetricsTold, tuple[int, ...]], None],
        log: Logger,
    ) -> None:
        self._instrumentation = instrumentation
        self._loop = loop
        self._tell = tell
        self._log = log
        self._hub = hub_in_use()

    def asked(self, number: int) -> None:
        """Answer a question."""
        instrumentation = self._instrumentation
        if instrumentation is None or instrumentation.template_values is None:
            self._tell(MetricsTold(number), ())
            return
        try:
            begin(lambda: self._answer(instrumentation, number), THREAD_NAME, self._hub)
        except RuntimeError as error:  # There can be no more threads.
            self._cannot_tell(error)
            self._tell(MetricsTold(number), ())

    def _answer(self, instrumentation: Instrumentation, number: int) -> None:
        answer = None
        try:
            answer = instrumentation.answer()
        except BaseException as error:  # Also SystemExit, of a collector of the application.
            self._cannot_tell(error)
        try:
            self._loop.call_soon_threadsafe(self._send, number, answer)
        except RuntimeError:
            return  # The loop is closed: the process ends.

    def _cannot_tell(self, error: BaseException) -> None:
        self._log.warning(f"the application's metrics cannot be told: {error!r}")

    def _send(self, number: int, answer: bytes | None) -> None:
        if answer is not None:
            try:
                self._send_file(number, answer)
            except OSError as error:
                self._cannot_tell(error)
            else:
                return
        self._tell(MetricsTold(number), ())

    def _send_file(self, number: int, answer: bytes) -> None:
        descriptor = os.memfd_create("clusterd-metrics", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, answer)
            self._tell(MetricsTold(number), (descriptor,))
        finally:
            originals.close(descriptor)
