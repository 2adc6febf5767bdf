"""The master: one event loop, one queue of events, a supervisor that decides and an executor that acts."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from clusterd.config.cpus import available_cpus
from clusterd.config.model import Config
from clusterd.linux.descriptors import raise_descriptor_limit
from clusterd.linux.early_signals import let_signals_through
from clusterd.linux.prctl import become_subreaper, close_memory
from clusterd.linux.title import set_title
from clusterd.log import Logger
from clusterd.log.output import mend_output, protect_output
from clusterd.master.admin.application_metrics import ApplicationMetrics
from clusterd.master.admin.commands import Commands
from clusterd.master.admin.control import ControlServer
from clusterd.master.admin.control_file import ControlFile
from clusterd.master.admin.counts import Counts
from clusterd.master.admin.dashboards import Dashboards
from clusterd.master.admin.endpoint import Endpoint
from clusterd.master.admin.event_log import EventLog
from clusterd.master.admin.views import Views
from clusterd.master.child_events import ChildEvents
from clusterd.master.children.child import Child, Death
from clusterd.master.children.conversations import Conversations
from clusterd.master.children.orphans import end_orphans
from clusterd.master.children.processes import Processes
from clusterd.master.children.remains import Remains
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.context import MasterContext, Observer
from clusterd.master.diagnosis.debuggers import Debuggers
from clusterd.master.diagnosis.examinations import Examinations
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.master.event_queue import EventQueue
from clusterd.master.executor import Executor
from clusterd.master.health.oversight import Oversight
from clusterd.master.hooks.manager import Hooks
from clusterd.master.looks import Looks
from clusterd.master.observing.load_watch import LoadWatch
from clusterd.master.observing.memory import sampler_beside
from clusterd.master.observing.observations import Observations
from clusterd.master.operations import Operations
from clusterd.master.rotation.agent import Agent
from clusterd.master.rotation.draining import Draining
from clusterd.master.rotation.kept import KeptDrain
from clusterd.master.service_manager import ServiceManager
from clusterd.master.signals import handle_signals
from clusterd.master.sockets.closing import Closing
from clusterd.master.sockets.listeners import Listeners, tell_addresses
from clusterd.master.sockets.rebalancing import Rebalancer
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.master.sockets.socket_keeper import SocketKeeper
from clusterd.master.takeover.collecting import Collector
from clusterd.master.takeover.keeper import Keeper
from clusterd.master.takeover.owners import Foundations, Owners
from clusterd.master.takeover.state import Cause, Succession
from clusterd.master.takeover.upgrade import Upgrade
from clusterd.master.watching.watcher import Watcher
from clusterd.master.worker_events import WorkerEvents
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.page.observed import ObservedSource, WeightSource
from clusterd.supervisor import actions, events
from clusterd.supervisor.actions import Announcement
from clusterd.supervisor.decisions.rotation import is_to_be_announced
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.settings import settings_of
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart
from clusterd.supervisor.status import progress_line, status_line
from clusterd.systemd.descriptor_store import DescriptorStore, is_wanted
from clusterd.systemd.environment import runtime_directory, watchdog_seconds
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import address_text
from clusterd.version import __version__
from clusterd.wire.channel import Received
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent
from clusterd.wire.packets import close_in_threads


class Master:
    """Creates the objects of the master, and passes events to the supervisor one at a time.

    `read` reads the configuration for a reload. `observe` creates an observer that takes the place of the hooks.
    `watcher` asks for a reload when files change. `start` describes the attempts of earlier master processes to start
    the service, or what an earlier program of this process has left. Raises TakeoverError.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        listeners: Listeners,
        log: Logger,
        *,
        observe: Callable[[MasterContext, Operations], Observer] | None = None,
        watcher: Watcher | None = None,
        start: FirstStart | Succession = NOT_TRIED,
    ) -> None:
        close_in_threads()
        self._config = config
        self._watcher = watcher
        self._start = start
        self._wake: asyncio.TimerHandle | None = None
        self._exit_status = 0
        self._log = log
        self._events = EventQueue(self._decide)
        foundations = Foundations.of(start.state) if isinstance(start, Succession) else Foundations.new()
        self._notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
        self._loop = asyncio.new_event_loop()
        # What a program that is its own master knows would be lost.
        store = DescriptorStore(self._notifier, self._loop, log) if observe is None and is_wanted(os.environ) else None
        self._context = context = self._make_context(config, read, listeners, foundations, store)
        self._supervisor, self._listeners = context.supervisor, context.listeners
        self._configurations = context.configurations
        self._operations = Operations(context)
        self._hooks = Hooks(context, self._operations)
        self._observer: Observer = self._hooks if observe is None else observe(context, self._operations)
        addresses = [address_text(sock) for sock in listeners.public]
        self._worker_events = WorkerEvents(context.children, addresses, self._worker_event)
        self._event_log = EventLog()
        ledger, counts = Ledger(), Counts()
        self._remains = Remains(context.children, context.processes, log)
        application_metrics = ApplicationMetrics(context)
        self._observations = Observations(context)
        self._owners = Owners(
            context,
            self._round_robin,
            ledger,
            counts,
            self._event_log,
            self._worker_events,
            self._observations,
            self._remains,
            self._hooks,
        )
        self._collector = Collector(self._owners)
        # What the program itself knows would be lost.
        impossible = "" if observe is None else "a program that is its own master is replaced by starting it anew"
        self._upgrade = Upgrade(self._collector, self._has_clients, self._before_exec, impossible)
        self._child_events = ChildEvents(
            context, ledger, application_metrics, self._hooks, self._remains, self._observations
        )
        self._oversight = Oversight(context, _clock_time, self._readiness_changed)
        self._rebalancer = Rebalancer(context)
        self._load_watch = LoadWatch(context, lambda: self._round_robin.waiting)
        self._views = Views(context, ledger, counts, self._hooks, self.status, self._oversight)
        self._dashboards = Dashboards(context, ledger, counts, self._event_log, self._views)
        self._kept_drain = KeptDrain(runtime_directory(os.environ))
        self._draining = Draining(context, self._kept_drain)
        self._commands = Commands(
            context,
            self._operations,
            self._dashboards,
            self._event_log,
            self._hooks,
            self._upgrade,
            self._draining,
        )
        self._control = ControlServer(listeners.control, self._commands.carry_out, log)
        self._control_file = ControlFile(listeners, self._control, log)
        self._agent = agent = Agent(context, self._draining, self._views.not_ready, log)
        sources = (
            ObservedSource(self._observations.observed),
            WeightSource(lambda: agent.weight),
            application_metrics,
        )
        pages = self._views.pages(sources, self._dashboards.page)
        self._endpoint = Endpoint(pages, listeners.metrics, log)
        self._service_manager = ServiceManager(
            self._notifier,
            self._loop,
            watchdog_seconds(os.environ, os.getpid()),
            self.status,
            self._busy,
            runtime_directory(os.environ),
        )
        self._keeper = SocketKeeper.of_this_process(os.environ)
        self._closing = Closing(
            self._loop, listeners, self._round_robin, self._keeper.kept, self._drain_seconds, self._take, log
        )
        self._executor = Executor(
            context,
            self._operations,
            self._service_manager,
            counts,
            self._draining,
            self._finish,
        )

    def _make_context(
        self,
        config: Config,
        read: Callable[[], Config],
        listeners: Listeners,
        foundations: Foundations,
        store: DescriptorStore | None,
    ) -> MasterContext:
        loop, log = self._loop, self._log
        scoreboard, arena = foundations.scoreboard, foundations.arena
        configurations = Configurations(config, read, listeners.passed, log)
        keeper = Keeper(store, loop, log)
        children = Children(loop, self._child_message, self._child_hello, self._child_death, store)
        children.when_kept = keeper.when_kept
        self._round_robin = RoundRobin(loop, listeners, children, scoreboard, configurations, log)
        processes = Processes(
            children, scoreboard, arena, listeners, configurations, self._round_robin, foundations.wakeups
        )
        stacks = StackReader(children, loop, log, processes.in_hand)
        return MasterContext(
            loop=loop,
            log=log,
            supervisor=foundations.supervisor,
            post_event=self.post_event,
            configurations=configurations,
            scoreboard=scoreboard,
            arena=arena,
            listeners=listeners,
            children=children,
            conversations=Conversations(loop, self._message_received),
            stacks=stacks,
            debuggers=Debuggers(children, configurations, loop, log, self.post_event),
            processes=processes,
            memory=sampler_beside(loop),
            examinations=Examinations(children, stacks, loop),
            keeper=keeper,
        )

    def run(self) -> int:
        """Serve until a stop is requested. Returns the exit status."""
        protect_output(os.environ, whole_lines=False)
        become_subreaper()
        if "INVOCATION_ID" in os.environ:  # Not where a developer may want to attach a debugger.
            close_memory()  # Workers run as the same user, and have no business in it.
        raise_descriptor_limit()
        set_title("master", "clusterd")
        handle_signals(self._loop, self.post_event, self._context.children.reap, self._write_state, self._upgrade_asked)
        self._service_manager.start()
        self._loop.run_until_complete(self._open())
        start = self._start
        if isinstance(start, Succession):
            self._owners.resume(start)  # Before the first look, which ends processes without an owner.
        self._keep()
        self._looks().look()
        if isinstance(start, Succession):
            self._go_on(start)
        else:
            settings = settings_of(self._config, available_cpus())
            self._log.info("clusterd starts", pid=os.getpid(), workers=settings.range_text, python=sys.executable)
            tell_addresses(self._listeners, self._config, self._log)
            self.post_event(events.Start(settings, start, self._kept_drain.is_drained))
        if self._watcher is not None:
            self._watcher.start(self._loop, lambda: self.post_event(events.ReloadAsked()))
        if "INVOCATION_ID" in os.environ:
            self._configurations.learn_start_files()
        let_signals_through()  # Only now, so that the events of held-back signals come after Start.
        early_stop = self._loop.create_task(self._heed_early_stop())
        self._loop.run_forever()
        early_stop.cancel()
        self._loop.run_until_complete(asyncio.gather(early_stop, return_exceptions=True))
        self._loop.run_until_complete(self._close())
        self._loop.close()
        if orphans := end_orphans():
            self._log.warning("ended processes that the application had left behind", count=orphans)
        self._log.finish()
        return self._exit_status

    def _keep(self) -> None:
        """Have systemd keep what a next master needs, from now on."""
        if not self._context.children.outlive_master:
            return
        try:
            self._collector.keep(self._start.file if isinstance(self._start, Succession) else None)
        except OSError as error:
            self._log.error(f"clusterd will not survive the death of its master: {error.strerror}")

    def _go_on(self, succession: Succession) -> None:
        """Go on in place of an earlier program: of this process, whose workers are replaced, or of a dead master."""
        if succession.cause is Cause.UPGRADE:
            before = succession.state.program
            how = f"clusterd {__version__} goes on in place of clusterd {before}"
            self._log.info(how, pid=os.getpid(), python=sys.executable)
            self._event_log.note("upgraded", version=__version__, before=before)
            self._context.keeper.has_taken_over()
            self.post_event(events.ReloadAsked())  # First: it is in the first state that this program writes.
            self._context.children.reap()
            return
        self._operations.resume()
        beginning = self._owners.begin(succession.state)
        self._log.warning("the last master has died: going on with its workers", pid=os.getpid())
        self._event_log.note("adopted")
        self._context.keeper.write(beginning.actions)
        with self._events.held():  # What an action causes comes after all of them.
            self._carry_out(beginning.actions)
        for event in (*beginning.events, events.Tick()):
            self.post_event(event)
        self._context.keeper.has_taken_over()
        cluster = self._supervisor.cluster
        if cluster.phase is Phase.RUNNING:
            self._service_manager.announce(Announcement.READY)
            if cluster.stop_is_announced:  # Its sockets were being closed.
                self.post_event(events.StopAsked())
            elif succession.state.program != __version__:
                # It may have been asked for an upgrade, and have waited for a moment at which nothing is under way.
                before = succession.state.program
                self._log.info(f"clusterd {__version__} goes on with the workers of clusterd {before}: replacing them")
                self.post_event(events.ReloadAsked())

    def _has_clients(self) -> bool:
        return not (self._control.is_idle and self._endpoint.is_idle and self._agent.is_idle)

    def _before_exec(self) -> None:
        self._commands.interrupted()

    def _upgrade_asked(self) -> None:
        self._upgrade.ask(lambda _: None)

    # ---- callbacks of the process table, which is created before ChildEvents

    def _child_message(self, child: Child, received: Received) -> None:
        self._child_events.message(child, received)

    def _child_hello(self, child: Child) -> None:
        self._child_events.hello(child)

    def _child_death(self, death: Death) -> None:
        self._child_events.death(death)

    # ---- decisions

    def post_event(self, event: events.Event) -> None:
        """Pass `event` to the supervisor, after the events before it.

        A stop is passed on later, when load balancers had the time to notice it, and when the sockets that end with
        the service are closed.
        """
        if isinstance(event, events.StopAsked):
            if is_to_be_announced(self._supervisor.cluster, event.urgency):
                event = events.DrainAsked(stops=True)
            elif self._closing.holds_back(event):
                event = events.StopAnnounced()
        self._take(event)

    async def _heed_early_stop(self) -> None:
        if await self._keeper.is_stopping():
            self.post_event(events.StopAsked())

    def _take(self, event: events.Event) -> None:
        if self._events.take(event):
            self._after_events()

    def _decide(self, event: events.Event) -> None:
        self._observer.note_event(event)
        self._observations.note_event(event)
        self._worker_events.note_event(event)
        decided = self._supervisor.step(event, time.monotonic())
        if decided or not isinstance(event, events.Tick):
            self._context.keeper.write(decided)
        self._carry_out(decided)

    def _carry_out(self, decided: Sequence[actions.Action]) -> None:
        for action in decided:
            self._executor.execute(action)
            self._observations.note_action(action)
            self._worker_events.note_action(action)
            self._event_log.note_action(action)
            self._observer.note_action(action)
        if decided:
            self._context.keeper.write_soon()

    @property
    def first_start(self) -> FirstStart:
        """The attempts of the first start and their outcome."""
        return self._supervisor.cluster.first_start

    def status(self) -> str:
        """The state of the service in one line."""
        line = status_line(self._supervisor.cluster, _clock_time)
        unready = self._oversight.unready
        return f"{line}; {unready}" if unready else line

    def _readiness_changed(self) -> None:
        self._service_manager.update_status()

    def _message_received(self, child: Child, incoming: Incoming) -> None:
        """Pass a message of the application in a worker to the event log and to the observer."""
        self._event_log.note_message(child, incoming.value)
        self._observer.message_received(incoming, self._worker_events.message(child.serial, incoming.value))

    def _worker_event(self, worker_event: WorkerEvent) -> None:
        """Pass a worker event to the operations that wait for it, to the event log and to the observer."""
        self._operations.note_worker_event(worker_event)
        self._event_log.note_worker_event(worker_event)
        self._observer.note_worker_event(worker_event)

    def _after_events(self) -> None:
        self._service_manager.update_status()
        self._commands.report_progress(lambda: progress_line(self._supervisor.cluster, _clock_time))
        self._configurations.forget_all_but(set(self._supervisor.cluster.table.generations))
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._supervisor.wake_at is not None:
            self._wake = self._loop.call_at(self._supervisor.wake_at, self._tick)

    def _tick(self) -> None:
        # First, because the tick may kill a worker whose event loop has not turned.
        self._oversight.see_who_turns()
        self.post_event(events.Tick())

    def _looks(self) -> Looks:
        now = time.monotonic
        return Looks(
            self._loop,
            (
                self._look_at_loads,
                lambda: self._child_events.memory_kills.look(now()),
                lambda: self._remains.look(now()),
                lambda: self._observations.look(now()),
                self._round_robin.look,
                self._load_watch.follow,
                self._hooks.look,
                lambda: self._dashboards.look(now()),
                self._draining.look,
                lambda: self._agent.look(now()),
                lambda: self._control_file.look(now()),
                self._log.flush,
                mend_output,  # The next templates inherit the output.
            ),
            self._log,
        )

    def _look_at_loads(self) -> None:
        self._oversight.see_who_turns()
        self._rebalancer.look(self._oversight.look())

    def _drain_seconds(self) -> float:
        return self._configurations.of(self._supervisor.cluster.serving).timeouts.drain

    def _busy(self) -> bool:
        cluster = self._supervisor.cluster
        is_stopping = cluster.stops_when_out or self._closing.is_under_way
        return cluster.phase is not Phase.RUNNING or cluster.rollout is not None or is_stopping

    def _write_state(self) -> None:
        for line in self._views.state_lines():
            self._log.notice(line)

    async def _open(self) -> None:
        self._control.start()
        self._endpoint.start()
        self._agent.start()

    async def _close(self) -> None:
        self._context.keeper.end()
        self._control.stop()
        await self._closing.end()
        await self._endpoint.close()
        await self._agent.close()
        self._log.flush()

    def _finish(self, exit_status: int) -> None:
        self._exit_status = exit_status
        self._hooks.finish(at_once=self._supervisor.cluster.killing, then=self._end)

    def _end(self) -> None:
        self._commands.finished(self._exit_status)
        self._loop.stop()


def _clock_time(monotonic: float) -> str:
    """Convert a time of time.monotonic() to the local time of day, HH:MM:SS."""
    moment = datetime.now().astimezone() - timedelta(seconds=time.monotonic() - monotonic)
    return moment.strftime("%H:%M:%S")
