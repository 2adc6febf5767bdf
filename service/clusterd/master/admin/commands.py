"""Carry out the requests of the control socket, at once or through the supervisor."""

from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import assert_never

from clusterd.config.model import JSON, AccessLog, TcpAddress
from clusterd.config.written import nested, shown
from clusterd.linux.masters_signals import STOPS
from clusterd.log import Level
from clusterd.master.admin.control import Peer
from clusterd.master.admin.dashboards import Dashboards
from clusterd.master.admin.event_log import EventLog
from clusterd.master.children.child import Child
from clusterd.master.children.killing import send_signal
from clusterd.master.children.logging import set_access_log, set_log_level
from clusterd.master.configurations import Refused as ConfigurationRefused
from clusterd.master.context import MasterContext
from clusterd.master.diagnosis.debuggers import NoDebugger, how_to_attach, warnings_of
from clusterd.master.diagnosis.examinations import NoReport, Report
from clusterd.master.hooks.manager import Hooks
from clusterd.master.operations import Operations, ReloadResult, when_done
from clusterd.master.rotation.draining import Draining
from clusterd.master.takeover.upgrade import Outcome, Refused, Upgrade
from clusterd.profiles.examination import Examination
from clusterd.supervisor import events
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import WorkerState
from clusterd.wire.control import ALL_SLOTS, CONFIGURED_WORKERS, HOOKS, MOST_SLOTS, Command, Request, event_line
from clusterd.wire.conversation import Disconnected, QueueFull

MOST_FOLLOWERS = 32
"""The most clients that follow the events: each event is written to each of them."""

_LOOKS_ONLY = frozenset({Command.STATUS, Command.TOP, Command.EVENTS, Command.CONFIG})
"""Commands that change nothing. They are not logged."""


class Commands:
    """Carries out requests. Owns the peers that wait for an answer."""

    def __init__(
        self,
        context: MasterContext,
        operations: Operations,
        dashboards: Dashboards,
        event_log: EventLog,
        hooks: Hooks,
        upgrade: Upgrade,
        draining: Draining,
    ) -> None:
        self._context = context
        self._operations = operations
        self._dashboards = dashboards
        self._event_log = event_log
        self._hooks = hooks
        self._upgrade = upgrade
        self._draining = draining
        self._log = context.log
        self._reloading: list[Peer] = []
        self._last_progress = ""
        self._stopping: list[Peer] = []
        self._following: set[Peer] = set()

    @property
    def _cluster(self) -> ClusterState:
        return self._context.cluster

    def carry_out(self, request: Request, peer: Peer) -> None:
        """Carry out `request` and answer `peer`, now or later."""
        if request.command not in _LOOKS_ONLY:
            who = {f"peer_{key}": value for key, value in asdict(peer.credentials).items()}
            self._log.info(f"{request.command} asked for on the control socket", **_logged(request), **who)
        self._context.keeper.write()  # What is shown outlives this master.
        match request.command:
            case Command.STATUS:
                description = self._dashboards.status()
                peer.succeed(description["status"], description)
            case Command.TOP:
                document = self._dashboards.document()
                peer.succeed(document["about"]["status"], document)
            case Command.RELOAD:
                self._reload(peer, wait=request.wait)
            case Command.UPGRADE:
                self._upgrade.ask(partial(_upgraded, peer))
            case Command.RESTART:
                self._operations.restart(request.slot, when_done(partial(_restarted, peer, request.slot)))
            case Command.SCALE:
                self._scale(request, peer)
            case Command.STOP:
                self._stopping.append(peer)
                self._operations.stop(events.Urgency.AT_ONCE if request.now else events.Urgency.DRAIN)
            case Command.DRAIN:
                self._draining.drain(peer, wait=request.wait)
            case Command.UNDRAIN:
                self._draining.undrain(peer)
            case Command.EVENTS:
                self._events(peer, follow=request.follow)
            case Command.CONFIG:
                self._config(peer, diff=request.diff)
            case Command.LOG_LEVEL:
                self._set_log_level(request.level, peer)
            case Command.LOG_ACCESS:
                self._set_access_log(request.mode, peer)
            case Command.SEND:
                self._send(request, peer)
            case Command.PROFILE:
                self._examine(request, Examination.PROFILE, peer)
            case Command.MEMORY:
                self._examine(request, Examination.MEMORY, peer)
            case Command.KILL | Command.STACKS | Command.DEBUG:
                self._to_one(request, peer)
            case forgotten:
                assert_never(forgotten)

    # ---- answers of the supervisor

    def report_progress(self, line: Callable[[], str]) -> None:
        """Send the progress line to every waiting peer, unless it is the line sent last."""
        waiting = (*self._reloading, *self._stopping)
        if not waiting or (text := line()) == self._last_progress:
            return
        self._last_progress = text
        for peer in waiting:
            peer.progress(text)

    def finished(self, exit_status: int) -> None:
        """Answer the peers that wait for the stop or follow the events: clusterd ends."""
        for peer in self._stopping:
            peer.succeed("stopped", {"exit_status": exit_status})
        for peer in self._following:
            peer.succeed("clusterd has ended")

    def interrupted(self) -> None:
        """Answer the peers that follow the events: another program goes on, and they may ask it."""
        for peer in list(self._following):
            self._unfollow(peer)
            peer.succeed("clusterd is upgraded: ask again to follow what comes now")

    # ---- each command

    def _reload(self, peer: Peer, *, wait: bool) -> None:
        if self._cluster.phase in (Phase.STOPPING, Phase.FINISHED):
            peer.fail(f"clusterd is {self._cluster.phase.value}")
            return
        if wait:
            self._reloading.append(peer)
            self._operations.reload(when_done(partial(self._reloaded, peer)))
        else:
            number = self._operations.reload(Future())
            peer.succeed(f"rollout {number} is asked for", {"rollout": number})

    def _reloaded(self, peer: Peer, result: ReloadResult) -> None:
        self._reloading.remove(peer)
        data = {"rollout": result.number, "generation": result.generation, "notes": list(result.notes)}
        (peer.succeed if result.failure is None else peer.fail)(result.text, data)

    def _scale(self, request: Request, peer: Peer) -> None:
        cluster = self._cluster
        if cluster.phase is not Phase.RUNNING:
            peer.fail(f"clusterd is {cluster.phase.value}")
            return
        if request.relative and not 1 <= cluster.wanted + request.workers <= MOST_SLOTS:
            peer.fail(f"wanted is {cluster.wanted} now; it may be 1 to {MOST_SLOTS}")
            return
        if request.workers == CONFIGURED_WORKERS:
            self._context.post_event(events.ConfiguredCountAsked())
        elif request.relative:
            self._context.post_event(events.ScaleAsked(request.workers))
        else:
            self._context.post_event(events.CountAsked(request.workers))
        settings, wanted = cluster.table.generations[cluster.serving].settings, cluster.wanted
        text = f"{wanted} worker{_plural(wanted)} wanted"
        if not cluster.is_pinned:
            text += f", as the configuration says: {settings.range_text}"
        elif settings.is_elastic:
            text += f", until `clusterctl scale auto` ({settings.range_text}), the next reload or restart"
        else:
            text += ", until the next reload or restart"
        peer.succeed(text, {"workers": wanted})

    def _events(self, peer: Peer, *, follow: bool) -> None:
        for each in list(self._following):
            each.leave_if_hung_up()
            if each.is_gone:
                self._unfollow(each)
        if follow and len(self._following) >= MOST_FOLLOWERS:
            peer.fail(f"{MOST_FOLLOWERS} clients follow the events already")
            return
        peer.recall([event_line(event) for event in self._event_log.events])
        if not follow:
            peer.succeed("")
            return

        def tell(line: bytes) -> None:
            if peer.is_gone:
                self._unfollow(peer)
            else:
                peer.event(line)

        self._following.add(peer)
        self._event_log.follow(peer, tell)

    def _unfollow(self, peer: Peer) -> None:
        self._event_log.unfollow(peer)
        self._following.discard(peer)

    def _config(self, peer: Peer, *, diff: bool) -> None:
        if not diff:
            live: dict[str, JSON] = {"log.level": self._log.level.name.lower()}
            if (mode := self._context.children.access_log) is not None:
                live["log.access"] = mode.value
            peer.succeed("what runs", nested(shown(self._context.configurations.running(self._cluster.serving) | live)))
            return
        found = self._context.configurations.compare(self._cluster.serving)
        if isinstance(found, ConfigurationRefused):
            peer.fail(f"a reload would fail: {found.reason}")
        else:
            text = "what a reload would change" if found else "a reload would change no setting"
            peer.succeed(text, {"changes": [row for change in found for row in change.shown()]})

    def _set_log_level(self, name: str, peer: Peer) -> None:
        try:
            level = Level[name.upper()]
        except KeyError:
            peer.fail(f"level: {name!r} is none of {', '.join(each.name.lower() for each in Level)}")
            return
        set_log_level(level, self._log, self._context.children)
        peer.succeed(f"the log level is {level.name.lower()}, until the next reload or restart")

    def _set_access_log(self, name: str, peer: Peer) -> None:
        try:
            mode = AccessLog(name)
        except ValueError:
            peer.fail(f"mode: {name!r} is none of {', '.join(AccessLog)}")
            return
        set_access_log(mode, self._context.children)
        peer.succeed(f"log.access is {mode.value}, until the next reload or restart")

    def _send(self, request: Request, peer: Peer) -> None:
        slots = list(self._cluster.slots()) if request.slot == ALL_SLOTS else [request.slot]
        reached, failures = 0, []
        for child in filter(None, map(self._worker_in, slots)):
            try:
                self._context.conversations.send(child, request.message)
                reached += 1
            except ValueError as error:
                peer.fail(str(error), {"workers": 0})
                return
            except (QueueFull, Disconnected) as error:
                failures.append(f"worker {child.slot}: {error}")
        text = "; ".join([f"sent to {reached} worker{_plural(reached)}", *failures])
        if reached and not failures:
            peer.succeed(text, {"workers": reached})
        elif failures:
            peer.fail(text, {"workers": reached})
        else:
            peer.fail("there is no worker to send it to; `clusterctl workers` lists the workers", {"workers": 0})

    def _to_one(self, request: Request, peer: Peer) -> None:
        child = self._hooks.child if request.slot == HOOKS else self._worker_in(request.slot)
        if child is None or child.pid is None:
            peer.fail(self._why_no_process(request.slot))
        elif request.slot == HOOKS and request.command is Command.KILL and request.signal in STOPS:
            peer.fail(f"the hooks process leaves {request.signal.name} to the master; --signal KILL ends it")
        elif request.command is Command.STACKS:
            stacks = self._context.stacks
            ask = stacks.threads if request.slot == HOOKS else stacks.tell
            ask(child, lambda text: peer.succeed(text) if text else peer.fail("it did not say"))
        elif request.command is Command.DEBUG:
            self._debug(child, peer)
        else:
            send_signal(child, request.signal, "clusterctl", self._context.children, self._context.post_event)
            whom = "the hooks process" if request.slot == HOOKS else f"worker {child.slot}"
            text = f"sent {request.signal.name} to {whom} (pid {child.pid})"
            peer.succeed(text, {"pid": child.pid})

    def _examine(self, request: Request, what: Examination, peer: Peer) -> None:
        child = self._worker_in(request.slot)
        if child is None:
            peer.fail(self._why_no_process(request.slot))
            return

        def is_wanted() -> bool:
            peer.leave_if_hung_up()
            return not peer.is_gone

        def tell(found: Report | NoReport) -> None:
            if isinstance(found, NoReport):
                peer.fail(found.reason)
                return
            data = {
                "pid": child.pid,
                "result": b64encode(found.result).decode(),
                "dumps": b64encode(found.dumps).decode(),
                "dump_count": found.dump_count,
            }
            peer.succeed(f"worker {child.slot} (pid {child.pid}) was examined for {request.seconds} s", data)

        peer.progress(f"worker {child.slot} (pid {child.pid}) is examined for {request.seconds} s")
        self._context.examinations.start(child, what, request.seconds, tell, is_wanted)

    def _why_no_process(self, slot: int) -> str:
        if slot == HOOKS:
            return "there is no hooks process; `clusterctl status` says why, where the setting hooks names one"
        if slot in self._cluster.slots():
            return f"no worker is in slot {slot} now: it waits to be forked again; `clusterctl events` shows why"
        return f"there is no slot {slot}: they are 1 to {self._cluster.wanted}"

    def _debug(self, child: Child, peer: Peer) -> None:
        def tell(found: TcpAddress | NoDebugger) -> None:
            if isinstance(found, NoDebugger):
                peer.fail(found.reason)
                return
            data = {"host": found.host, "port": found.port, "pid": child.pid, "notes": warnings_of(found)}
            peer.succeed(how_to_attach(child, found), data)

        self._context.debuggers.start(child, tell)

    def _worker_in(self, slot: int) -> Child | None:
        """The worker in `slot` that serves, or else the newest one."""
        workers = self._cluster.table.in_slot(slot)
        for worker in sorted(workers, key=lambda each: each.state is not WorkerState.READY):
            child = self._context.children.get(worker.serial)
            if child is not None and child.pid is not None:
                return child
        return None


def _upgraded(peer: Peer, outcome: Outcome) -> None:
    if isinstance(outcome, Refused):
        peer.fail(f"nothing has changed: {outcome.reason}")
    else:
        text = f"clusterd {outcome.version} goes on in the same process"
        peer.succeed(text, {"rollout": outcome.rollout, "version": outcome.version})


def _restarted(peer: Peer, slot: int, failure: str | None) -> None:
    if failure is None:
        peer.succeed(f"a new worker serves in slot {slot}")
    else:
        peer.fail(f"slot {slot} was not restarted: {failure}")


def _logged(request: Request) -> dict[str, object]:
    """The arguments of a request as log fields. Of a message to an application, only the recipient is logged."""
    slot = {ALL_SLOTS: "all", HOOKS: "hooks"}.get(request.slot, request.slot)
    match request.command:
        case Command.SEND:
            return {"slot": slot}
        case Command.SCALE:
            count = "auto" if request.workers == CONFIGURED_WORKERS else request.workers
            return {"workers": f"{request.workers:+}" if request.relative else count}
        case Command.KILL:
            return {"slot": slot, "signal": request.signal.name}
        case Command.LOG_LEVEL:
            return {"level": request.level}
        case Command.LOG_ACCESS:
            return {"mode": request.mode}
        case Command.PROFILE | Command.MEMORY:
            return {"slot": slot, "seconds": request.seconds}
        case Command.RESTART | Command.STACKS | Command.DEBUG:
            return {"slot": slot}
    return {}


def _plural(count: int) -> str:
    return "" if count == 1 else "s"
