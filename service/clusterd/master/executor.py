"""Carry out the actions that the supervisor decides on."""

from collections.abc import Callable
from functools import partial

from clusterd.config.cpus import available_cpus
from clusterd.log import Level
from clusterd.master.admin.counts import Counts
from clusterd.master.children.in_hand import report_held
from clusterd.master.children.logging import set_access_log, set_log_level
from clusterd.master.children.rescue import Rescuer
from clusterd.master.configurations import Refused
from clusterd.master.context import MasterContext
from clusterd.master.operations import Operations, ReloadResult
from clusterd.master.rotation.draining import Draining
from clusterd.master.service_manager import ServiceManager
from clusterd.process.own_log import configure_log, level_of
from clusterd.supervisor import actions
from clusterd.supervisor.events import (
    ConfigurationRead,
    ConfigurationRefused,
    Event,
    RetireFailed,
    TemplateGone,
    WorkerGone,
)
from clusterd.supervisor.model.settings import settings_of
from clusterd.supervisor.model.states import FAILURES, EndReason
from clusterd.wire.messages import Leave

_LEVELS = {
    actions.Severity.INFO: Level.INFO,
    actions.Severity.WARNING: Level.WARNING,
    actions.Severity.ERROR: Level.ERROR,
}

_WORDS = {
    actions.StartTemplate: "start a template",
    actions.ForkSpare: "fork a spare template",
    actions.Fork: "fork a worker",
    actions.Retire: "hand connections over",
}

_HANGS = frozenset({EndReason.HANG, EndReason.DRAIN_TIMEOUT, EndReason.MAX_DRAINING})
"""The kills of workers that had their time to hand over what they have, and did not."""


class Executor:
    """Carries out actions. `finish` ends the master's loop."""

    def __init__(
        self,
        context: MasterContext,
        operations: Operations,
        service_manager: ServiceManager,
        counts: Counts,
        draining: Draining,
        finish: Callable[[int], None],
    ) -> None:
        self._processes = context.processes
        self._children = context.children
        self._configurations = context.configurations
        self._stacks = context.stacks
        self._keeper = context.keeper
        self._listeners = context.listeners
        self._log = context.log
        self._post_event = context.post_event
        self._operations = operations
        self._service_manager = service_manager
        self._counts = counts
        self._draining = draining
        self._rescuer = Rescuer(context)
        self._finish = finish

    def execute(self, action: actions.Action) -> None:
        """Carry out `action`. A failure becomes an event, so that the supervisor's table stays correct."""
        try:
            self._carry_out(action)
        except OSError as error:
            # The usual reason is that descriptors, processes or memory have run out.
            self._not_done(action, f"clusterd cannot {_WORDS.get(type(action), 'do it')}: {error.strerror or error}")
        except Exception as error:
            self._log.exception(f"{type(action).__name__} failed", error)
            self._not_done(action, f"clusterd failed: {error}")

    def _not_done(self, action: actions.Action, how: str) -> None:
        match action:
            case actions.ReadConfiguration():
                self._post_event(ConfigurationRefused(how))
            case actions.StartTemplate(serial) | actions.ForkSpare(serial):
                self._bury(serial, TemplateGone(serial, how))
            case actions.Fork(serial):
                self._bury(serial, WorkerGone(serial, how))
            case actions.Retire(serial):
                self._post_event(RetireFailed(serial))

    def _bury(self, serial: int, event: Event) -> None:
        """End the child, if it was entered in the table. Otherwise report `event` in its place."""
        child = self._children.get(serial)
        if child is None:
            self._post_event(event)
        elif child.pid is None:
            self._children.never_born(child, "clusterd could not start it")
        else:
            self._children.kill(child)

    def _carry_out(self, action: actions.Action) -> None:
        match action:
            case actions.ReadConfiguration():
                self._read_configuration()
            case actions.StartTemplate():
                self._configurations.adopt(action.generation)
                self._log.info("starting a template", generation=action.generation)
                self._processes.start_template(action)
            case actions.ForkSpare():
                self._processes.fork_spare(action)
            case actions.Fork():
                self._processes.fork(action)
            case actions.EndTemplate(serial):
                if template := self._children.get(serial):
                    if template.is_heard:  # Before, it expects another first order.
                        self._children.send(template, Leave())
                    self._children.dismiss(template)
            case actions.KillTemplate(serial):
                self._kill(serial)
            case actions.Serve(serial):
                # A worker that died after the supervisor's decision has left the table. Its death is in the queue.
                if child := self._children.get(serial):
                    self._processes.serve(child)
                    self._log.of(serial, Level.INFO, "worker ready", **child.fields())
            case actions.Retire():
                self._processes.retire(action)
                self._log.of(action.serial, Level.INFO, "worker draining", **self._fields(action.serial))
            case actions.SetKeepAlive(serial, is_on):
                self._processes.set_keep_alive(serial, is_on=is_on)
            case actions.BeginStop():
                self._operations.stop()
            case actions.Kill(serial, reason, detail):
                fields = {**self._fields(serial), **self._processes.burden(serial)}
                self._log.info(f"killing worker: {detail or reason}", **fields, reason=reason)
                hung = self._children.get(serial) if reason in _HANGS else None
                if hung is None:
                    self._kill(serial)
                else:
                    self._rescuer.rescue(hung, partial(self._kill, serial))
            case actions.DumpStacks(serial, detail):
                if asked := self._children.get(serial):
                    self._stacks.ask(asked, detail)
            case _:
                self._report(action)

    def _report(self, action: actions.Action) -> None:
        """Carry out an action that only reports something."""
        match action:
            case actions.WorkerEnded(serial):
                self._processes.ended(serial)
                self._worker_ended(action)
            case actions.Suspect(request, deaths, seconds):
                held = f"{deaths} workers that died within {seconds:g} s had {request} in hand"
                self._log.warning(f"{held}: it may be what kills them", request=request)
            case actions.Announce(what, generation):
                self._service_manager.announce(what)
                if what is actions.Announcement.STOPPING:
                    self._keeper.forget(self._listeners.descriptors)
                    self._processes.close_listeners()
                else:
                    self._adopt_log(generation)
            case actions.RotationChanged():
                self._draining.changed(action)
                if action.stops:
                    self._service_manager.stop_is_certain()
            case actions.RolloutStarted(number):
                self._log.info(f"rollout {number} begins")
            case actions.RolloutEnded():
                self._rollout_ended(action)
            case actions.RestartEnded(_, slot, failure):
                if failure is not None:
                    self._log.warning(f"slot {slot} was not restarted: {failure}")
                self._operations.restart_ended(action)
            case actions.Scaled():
                self._scaled(action)
            case actions.Note(severity, text, slot, generation):
                self._log.log(_LEVELS[severity], text, slot=slot, generation=generation)
            case actions.Finish(exit_status, reason):
                level = Level.ERROR if exit_status else Level.INFO
                self._log.log(level, f"clusterd ends: {reason}", exit_status=exit_status)
                self._finish(exit_status)
            case _:
                raise AssertionError(f"the executor has no case for {action}")

    def _scaled(self, action: actions.Scaled) -> None:
        self._counts.scaled(action.before, action.workers, action.cause)
        instead = f" instead of {action.before}" if action.workers != action.before else ""
        wanted = f"{action.workers} worker{'' if action.workers == 1 else 's'} wanted"
        self._log.info(f"{wanted}{instead}: {action.reason}", generation=action.generation)

    def _read_configuration(self) -> None:
        config = self._configurations.read()
        if isinstance(config, Refused):
            self._post_event(ConfigurationRefused(config.reason))
        else:
            self._post_event(ConfigurationRead(settings_of(config, available_cpus())))

    def _kill(self, serial: int) -> None:
        if child := self._children.get(serial):
            self._children.kill(child)

    def _fields(self, serial: int) -> dict[str, object]:
        child = self._children.get(serial)
        return child.fields() if child is not None else {}

    def _worker_ended(self, action: actions.WorkerEnded) -> None:
        self._counts.worker_ended(action.slot, action.reason, is_candidate=action.is_candidate)
        failed = action.reason in FAILURES
        retry = f"; trying again in {action.retry_in:.1f} s" if action.retry_in is not None else ""
        self._log.of(
            action.serial,
            Level.ERROR if failed else Level.INFO,
            f"worker {'failed' if failed else 'ended'}: {action.how}{retry}",
            slot=action.slot,
            generation=action.generation,
            pid=action.pid,
            reason=action.reason,
        )
        if action.cause is not None:
            self._counts.requests_lost(action.slot, action.cause, action.held.lost)
            report_held(action, self._log)

    def _adopt_log(self, generation: int) -> None:
        """Log as `generation` says. Called once it serves: a rollout that is withdrawn changes nothing."""
        settings = self._configurations.of(generation).log
        configure_log(self._log, settings)
        set_log_level(level_of(settings), self._log, self._children)
        set_access_log(settings.access, self._children)

    def _rollout_ended(self, action: actions.RolloutEnded) -> None:
        result = ReloadResult(action.number, action.generation, action.failure, self._configurations.notes)
        self._counts.rollout_ended(succeeded=action.failure is None)
        if action.failure is None:
            self._log.info(result.text, rollout=result.number)
            self._adopt_log(action.generation)
        else:
            self._log.error(result.text, rollout=result.number)
        self._operations.reload_ended(result)
