"""The worker's event loop: it connects the engine, the acceptor, the channel and the drain."""

import socket
from collections.abc import Callable

# Imported by name, before the application: it may replace the functions in the module (a test may freeze the time).
from time import monotonic, monotonic_ns
from time import time as wall_clock
from typing import Any

from clusterd.app.application import LoadedApplication
from clusterd.app.errors import LoadError
from clusterd.config.model import AccessLog, Interface, Scheduling
from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.http.in_hand import InHand
from clusterd.linux.address import Address
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.log import Logger
from clusterd.log.output import mend_output
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.process.ending import Ending
from clusterd.process.refused import why_refused
from clusterd.process.where import where_greenlet_is
from clusterd.runtime import originals
from clusterd.runtime.event_loop import new_event_loop
from clusterd.wire.channel import Received
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.messages import (
    Adopt,
    Dispatch,
    HealthConnection,
    MasterChanged,
    Overdue,
    Ready,
    Retire,
    Serve,
    SetAccessLog,
    SetKeepAlive,
    Share,
    SuccessorLost,
)
from clusterd.worker.accepting.accept_policy import AcceptPolicy
from clusterd.worker.accepting.acceptor import Acceptor
from clusterd.worker.boot_record import Boot
from clusterd.worker.control_channel import TICK_SECONDS, ControlChannel
from clusterd.worker.diagnosis.slow_requests import SlowRequests
from clusterd.worker.diagnosis.vitals import Vitals
from clusterd.worker.draining.drain import Drain, DrainLimits, close_idle
from clusterd.worker.draining.handover import Receiver, Sender
from clusterd.worker.draining.rebalancing import Sharing
from clusterd.worker.engine_settings import engine_settings

THREADS_END_SECONDS = 0.5
"""How long to wait for the threads that call the application. One that is busy was cut with its request."""
OVERDUE_CHARACTERS = 1000


class WorkerProcess:
    """Owns the event loop and everything on it. One per process."""

    def __init__(self, loaded: LoadedApplication, boot: Boot, log: Logger) -> None:
        context, row = boot.context, boot.row
        self._config = config = context.config
        self._loop = new_event_loop(is_observed=loaded.interface is Interface.WSGI and config.threads > 0)
        self._log = log
        scoreboard, wakeups = context.scoreboard, context.wakeups
        self._row = scoreboard.row(row)
        self._counter = RequestCounter(self._row)
        self._vitals = Vitals(self._row)
        self._in_hand = InHand(scoreboard.table(row))
        self._engine = Engine(
            loaded.application,
            engine_settings(config, loaded.interface, str(boot.slot)),
            self._counter,
            log,
            self._loop,
            Callbacks(
                self._connection_at_rest,
                self._connection_closed,
                self._saturation_changed,
                self._overdue,
                self._in_hand,
            ),
            context.tls,
        )
        self._policy = AcceptPolicy(config.scheduling, scoreboard, wakeups, row, self._engine)
        self._wakeup = wakeups.of(row)
        self._listeners = context.listeners
        self._acceptor: Acceptor | None = None
        self._receivers: set[Receiver] = set()
        self._dispatched: set[Receiver] = set()
        """Receivers of the dispatch channel: they take the connections that the master accepts."""
        self._is_leaving = False
        self._keeps_alive = True
        self._drain: Drain | None = None
        self.leave_by = 0.0
        """The end of the drain, by time.monotonic()."""
        self._sharing = Sharing(self._engine, self._loop, self._moved)
        self._slow = SlowRequests(self._engine, log)
        requests = self._engine.requests_in_hand
        self._channel = ControlChannel(
            boot.channel, self._loop, log, self._on_order, self._drain_alone, requests, context.instrumentation
        )

    def start_application(self) -> None:
        """Start the first thread for its calls, and run its startup, if it has one (ASGI lifespan).

        Raises LoadError and StartupFailed.
        """
        if not self._engine.runners.begin():
            raise LoadError(f"no thread can be started for the application: {why_refused()}", "", permanent=False)
        self._loop.run_until_complete(self._engine.startup())

    def run(self) -> int:
        """Report Ready and serve until a drain is over. Returns the exit status."""
        self._channel.obey_stops()
        self._row.started_at = wall_clock()
        self._row.connections_limit = self._engine.settings.limits.connections
        self._row.queue_limit = self._engine.settings.limits.queue if self._engine.runners.count else 0
        self._tick()
        self._channel.send_lasting(Ready())
        try:
            self._engine.run()
        finally:
            self._stop_accepting()
            self._publish()
        return 0

    @property
    def has_lost_master(self) -> bool:
        """Whether the master is dead, or about to be: the kernel closes its end before others see that it is."""
        return self._channel.has_lost_master

    def stop_application(self, ending: Ending) -> None:
        """End the calls that the drain has cut and the handlers of messages, and run the application's shutdown."""
        ending.cancel(self._loop, self._engine.calls)
        self._channel.finish_handling(ending)
        ending.run(self._loop, self._engine.shutdown(), "the application's shutdown")
        self._engine.runners.stop(THREADS_END_SECONDS)

    def close(self, ending: Ending) -> None:
        """End what is left on the event loop, and send the last messages."""
        ending.end_loop(self._loop)
        self._publish()
        self._channel.close(ending)

    # ---- what the master says

    def _on_order(self, received: Received) -> bool:
        match received.message:
            case Serve():
                self._serve()
            case SetKeepAlive(is_on):
                self._keeps_alive = is_on
                if self._drain is None:
                    self._sharing.end()
                    self._begin_keeping()
            case Retire(deadline, idle_seconds, linger):
                limits = DrainLimits(deadline, idle_seconds, linger)
                self._retire(limits, self._sockets_of(received))
                if not linger:
                    self._leave_listeners()
            case Adopt():
                for sock in self._sockets_of(received):
                    self._keep(self._receiver(sock, self._adopt, self._receivers), self._receivers)
            case Dispatch():
                for sock in self._sockets_of(received):
                    room = self._engine.has_room
                    self._keep(self._receiver(sock, self._take_dispatched, self._dispatched, room), self._dispatched)
            case Share(connections, seconds):
                self._share(connections, seconds, self._sockets_of(received))
            case MasterChanged():
                if self._drain is not None and self._drain.has_lost_successor:
                    self._channel.send(SuccessorLost(self._engine.load))
            case SetAccessLog(mode):
                self._engine.change_access_log(AccessLog(mode))
            case HealthConnection():
                for sock in self._sockets_of(received):
                    self._engine.adopt(sock, CarriedState.direct())
            case _:
                return False
        return True

    def _sockets_of(self, received: Received) -> list[socket.socket]:
        return [originals.socket(fileno=descriptor) for descriptor in received.descriptors]

    def _drain_alone(self) -> None:
        timeouts = self._config.timeouts
        self._retire(DrainLimits(monotonic() + timeouts.drain, timeouts.drain_idle, linger=False), [])
        self._leave_listeners()

    def _leave_listeners(self) -> None:
        """Close the listeners for good. Otherwise clients could wait in a backlog that no process serves."""
        for listener in self._listeners:
            listener.close()

    def _overdue(self, request: str, greenlet: Any) -> None:
        # The master has the stacks of threads written. In these, a greenlet that waits is not to be seen.
        where = {} if greenlet is None else {"where": where_greenlet_is(greenlet)}
        self._log.error("a request was not answered within timeouts.request", request=request, **where)
        self._channel.send_lasting(Overdue(request[:OVERDUE_CHARACTERS]))

    # ---- accepting

    def _serve(self) -> None:
        if self._is_leaving:
            return  # The master learns of it when this process ends.
        self._end_drain()
        self._begin_keeping()
        self._row.accepting = 1
        if self._acceptor is None and self._config.scheduling is not Scheduling.ROUND_ROBIN:
            self._acceptor = Acceptor(
                self._listeners,
                self._policy,
                self._wakeup,
                self._loop,
                self._accepted,
                self._engine.shed,
                self._channel.shortage.of_descriptors,
            )
            self._engine.runners.accept_from(self._acceptor)

    def _begin_keeping(self) -> None:
        """Keep the connections after their responses, or close them, as the master has said last."""
        if self._keeps_alive:
            self._engine.retirement.take_back()
        else:
            self._engine.retirement.close()

    def _saturation_changed(self) -> None:
        """Publish the free threads at once, for the others' accept policy, and accept what this worker has declined."""
        self._row.threads_free = self._engine.runners.free
        if self._acceptor is not None and self._row.threads_free:
            self._acceptor.accept_declined()

    def _accepted(self, listener: ListeningSocket, sock: socket.socket, peer: Address | None) -> None:
        self._row.accepted += 1
        self._engine.adopt(sock, peer=peer, local=listener.local, scheme=listener.scheme)

    def _receiver(
        self,
        sock: socket.socket,
        adopt: Callable[[socket.socket, CarriedState], None],
        among: set[Receiver],
        has_room: Callable[[], bool] = lambda: True,
    ) -> Receiver:
        return Receiver(sock, self._loop, adopt, among.discard, has_room, self._channel.shortage.of_descriptors)

    def _keep(self, receiver: Receiver, among: set[Receiver]) -> None:
        """Keep a receiver, also during a drain: it may bring the connections of a worker that has died. Close it if the
        drain is over, because the loop turns a little longer than it serves connections.
        """
        if self._is_leaving or (self._drain is not None and self._drain.is_over(monotonic())):
            receiver.close()
        else:
            among.add(receiver)

    def _take_dispatched(self, sock: socket.socket, carried: CarriedState) -> None:
        if self._engine.has_room():
            self._row.accepted += 1
            self._engine.adopt(sock, carried)
        else:
            self._engine.shed(sock, carried.scheme)

    def _adopt(self, sock: socket.socket, carried: CarriedState) -> None:
        self._engine.adopt(sock, carried)
        self._row.adopted += 1

    def _stop_accepting(self) -> None:
        self._row.accepting = 0
        if self._acceptor is not None:
            self._engine.runners.accept_from(None)
            self._acceptor.stop()
            self._acceptor = None

    # ---- sharing

    def _share(self, connections: int, seconds: float, others: list[socket.socket]) -> None:
        """Hand over some connections to other workers. During a drain do nothing: the drain hands over all of them."""
        if self._drain is None:
            for sock in others:
                self._sharing.share(connections, seconds, sock)
        else:
            for sock in others:
                sock.close()

    # ---- draining

    def _retire(self, limits: DrainLimits, peers: list[socket.socket]) -> None:
        if self._is_leaving:
            # No connection is left. The loop runs for the application's shutdown, and must not be stopped once more.
            for sock in peers:
                sock.close()
            return
        self._stop_accepting()
        for receiver in tuple(self._dispatched):
            # The master stops dispatching before it sends this order, so every dispatched connection has arrived.
            receiver.finish()
        self._dispatched.clear()
        self._sharing.end()
        self._end_drain()
        if not peers:
            # This worker would only close the connections that are on their way here. Their sender keeps them instead.
            for receiver in self._receivers:
                receiver.close()
            self._receivers.clear()
        self.leave_by = limits.deadline
        sender = Sender(peers[0], self._loop, self._moved, self._successor_lost) if peers else None
        self._drain = Drain(self._engine, sender, limits, self._log, monotonic())
        self._drain.begin()
        for end in self._drain.ends:
            # Look at these times and not only at the next tick. Add 2 ms, because a timer of the loop may fire early by
            # its resolution.
            self._loop.call_later(max(0.0, end - monotonic()) + 0.002, self._leave_if_drained)
        self._leave_if_drained()

    def _end_drain(self) -> None:
        if self._drain is not None:
            self._drain.end()
            self._drain = None

    def _moved(self) -> None:
        self._row.handed_over += 1

    def _successor_lost(self) -> None:
        if self._drain is not None:
            self._drain.successor_lost()
            self._channel.send(SuccessorLost(self._engine.load))

    def _connection_at_rest(self, connection: Connection) -> None:
        if self._drain is not None:
            self._drain.connection_at_rest(connection)
        else:
            self._sharing.pass_on(connection)

    def _connection_closed(self, _: Connection) -> None:
        if self._acceptor is not None and not self._row.accepting:
            self._loop.call_soon(self._acceptor.accept)  # There is room again. Not now: a response may be under way.
        self._leave_if_drained()

    def _leave_if_drained(self) -> None:
        if self._drain is None:
            return
        self._row.heartbeat = monotonic_ns()  # Not only at ticks: the master allows extra time to a hung loop.
        now = monotonic()
        if self._drain.is_over(now):
            self._take_nothing_over()
        if self._drain.finished(now):
            self._end_drain()
            self._is_leaving = True
            self._take_nothing_over()
            self._engine.leave()

    def _take_nothing_over(self) -> None:
        """Close the receivers. The senders keep the connections that were not read from them."""
        for receiver in (*self._dispatched, *self._receivers):
            receiver.close()
        self._dispatched.clear()
        self._receivers.clear()

    # ---- time

    def _tick(self) -> None:
        now = monotonic()
        self._vitals.tick(now)
        self._row.heartbeat = monotonic_ns()
        self._in_hand.runs_loop(originals.get_ident())
        self._row.progress = int(self._engine.runners.progress(now) * 1e9)
        self._row.threads = threads = self._engine.runners.usable
        if threads < self._engine.runners.count:
            self._channel.shortage.of_threads(threads, self._engine.runners.count)
        self._row.threads_free = self._engine.runners.free
        self._engine.tick(now)
        self._publish()
        self._slow.tick(now)
        if self._acceptor is not None:
            # Another worker may have been woken for a connection that it cannot accept.
            self._acceptor.accept()
        self._log.flush()
        self._row.log_dropped = self._log.lost
        mend_output()
        if not self._keeps_alive and self._drain is None:
            close_idle(self._engine, now - self._config.timeouts.drain_idle)
        self._leave_if_drained()
        self._loop.call_later(TICK_SECONDS, self._tick)
        self._vitals.next_tick(monotonic() + TICK_SECONDS)

    def _publish(self) -> None:
        """Write the counts that are not written as they change, because that would cost each request too much."""
        self._counter.publish()
        self._row.received_bytes = self._engine.context.received
        self._row.sent_bytes = self._engine.context.sent
