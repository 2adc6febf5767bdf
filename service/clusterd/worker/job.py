"""A worker without connections: it calls the function that `run:` names, and is supervised like any other worker.

The function runs in a separate thread or, if it is async, in a task. The event loop keeps turning beside it, so that
messages, orders and heartbeats go on.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, monotonic_ns
from time import time as wall_clock

from clusterd.app.application import LoadedJob
from clusterd.app.errors import describe
from clusterd.log import Logger
from clusterd.log.output import mend_output
from clusterd.process.ending import Ending
from clusterd.runtime.event_loop import new_event_loop
from clusterd.runtime.hub import Hub, beside, hub_in_use
from clusterd.runtime.threads import begin
from clusterd.wire.channel import Received
from clusterd.wire.messages import (
    Adopt,
    Dispatch,
    HealthConnection,
    MasterChanged,
    Ready,
    Retire,
    Serve,
    SetAccessLog,
    SetKeepAlive,
    Share,
)
from clusterd.wire.packets import close_all
from clusterd.worker import api
from clusterd.worker.boot_record import Boot
from clusterd.worker.control_channel import TICK_SECONDS, ControlChannel
from clusterd.worker.diagnosis.vitals import Vitals

FAILED_STATUS = 1
THREAD_NAME = "clusterd-run"


class JobCall:
    """The one call of the function. Calls, on the loop's thread, `on_called` when it begins and `on_ended` with its
    exception, or None, when it is over.
    """

    def __init__(
        self,
        job: LoadedJob,
        loop: asyncio.AbstractEventLoop,
        hub: Hub | None,
        on_called: Callable[[], None],
        on_ended: Callable[[BaseException | None], None],
    ) -> None:
        self._job = job
        self._loop = loop
        self._hub = hub
        self._on_called = on_called
        self._on_ended = on_ended
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the call, in a thread or a task."""
        if self._job.is_async:
            self._task = self._loop.create_task(self._run_async())
        else:
            begin(self._run, THREAD_NAME, self._hub)

    def _run(self) -> None:
        self._loop.call_soon_threadsafe(self._on_called)
        raised = None
        try:
            self._job.function()
        except BaseException as error:
            raised = _failure(error)
        self._loop.call_soon_threadsafe(self._on_ended, raised)

    async def _run_async(self) -> None:
        self._on_called()
        raised = None
        try:
            await self._job.function()
        except BaseException as error:
            raised = _failure(error)
        self._on_ended(raised)


def _failure(error: BaseException) -> BaseException | None:
    """Return `error` if it is a failure. sys.exit() without a status, or with 0, is not."""
    return None if isinstance(error, SystemExit) and not error.code else error


class JobProcess:
    """Owns the event loop and everything on it. The counterpart of `process.WorkerProcess` for a job."""

    def __init__(self, job: LoadedJob, boot: Boot, log: Logger) -> None:
        self._loop = new_event_loop()
        self._job = job
        self._config = boot.context.config
        self._row = boot.context.scoreboard.row(boot.row)
        self._vitals = Vitals(self._row)
        self._log = log
        self._hub = hub_in_use()
        self._channel = ControlChannel(
            boot.channel, self._loop, log, self._on_order, self._drain_alone, list, boot.context.instrumentation
        )
        self._call = JobCall(job, self._loop, self._hub, self._called, self._ended)
        self.leave_by = 0.0
        """The end of the drain, by time.monotonic()."""
        self._cut_timer: asyncio.TimerHandle | None = None
        self._status = 0
        self._is_leaving = False

    def run(self) -> int:
        """Call the function, report Ready, and run until it returns or a drain is over. Returns the exit status."""
        self._channel.obey_stops()
        self._row.started_at = wall_clock()
        self._tick()
        self._call.start()
        try:
            beside(self._hub, self._loop.run_forever)
        finally:
            self._log.flush()
        return self._status

    @property
    def has_lost_master(self) -> bool:
        """Whether the master is dead, or about to be: the kernel closes its end before others see that it is."""
        return self._channel.has_lost_master

    def stop_application(self, ending: Ending) -> None:
        """End the handlers of messages."""
        self._channel.finish_handling(ending)

    def close(self, ending: Ending) -> None:
        """End what is left on the event loop, and send the last messages."""
        ending.end_loop(self._loop)
        self._channel.close(ending)

    # ---- the call

    def _called(self) -> None:
        self._channel.send_lasting(Ready())

    def _ended(self, raised: BaseException | None) -> None:
        if raised is not None:
            failure = describe(raised, f"run: {self._job.reference}")
            self._log.error(f"{failure.reason}\n{failure.traceback}")
            self._status = FAILED_STATUS
        elif not api.stop_event.is_set():
            self._log.error(f"run: {self._job.reference} has returned, and was not asked to stop")
            self._status = FAILED_STATUS
        self._leave()

    # ---- what the master says

    def _on_order(self, received: Received) -> bool:
        match received.message:
            case Retire(deadline, _, linger):
                if not linger:
                    self._drain(deadline)
            case (
                Serve()
                | SetKeepAlive()
                | Adopt()
                | Share()
                | Dispatch()
                | HealthConnection()
                | SetAccessLog()
                | MasterChanged()
            ):
                pass  # A job accepts nothing and has no connections.
            case _:
                return False
        close_all(received.descriptors)
        return True

    def _drain_alone(self) -> None:
        self._drain(monotonic() + self._config.timeouts.drain)

    def _drain(self, deadline: float) -> None:
        """Give the function time to return until `deadline`. The stop event is set already."""
        if self._is_leaving:
            return
        self.leave_by = deadline
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        self._cut_timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._cut)

    def _cut(self) -> None:
        """End the process while the function still runs."""
        self._row.heartbeat = monotonic_ns()
        self._log.warning(f"run: {self._job.reference} was cut at the end of the drain", reason="drain_timeout")
        self._leave()

    def _leave(self) -> None:
        """Stop the loop, once only: afterwards it runs again for the last messages, and must not be stopped then."""
        if not self._is_leaving:
            self._is_leaving = True
            if self._cut_timer is not None:
                self._cut_timer.cancel()
            self._loop.stop()

    # ---- time

    def _tick(self) -> None:
        self._vitals.tick(monotonic())
        self._row.heartbeat = self._row.progress = monotonic_ns()
        self._log.flush()
        self._row.log_dropped = self._log.lost
        mend_output()
        self._loop.call_later(TICK_SECONDS, self._tick)
        self._vitals.next_tick(monotonic() + TICK_SECONDS)
