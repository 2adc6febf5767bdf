"""`Supervisor.step`: it takes one event and returns the actions that follow from it."""

from collections.abc import Callable

from clusterd.supervisor import events
from clusterd.supervisor.actions import Action, Announce, Announcement, Severity, Suspect, WatchRequests, WorkerEnded
from clusterd.supervisor.decisions import first_start, restarts, rollout
from clusterd.supervisor.decisions.deadlines import enforce_deadlines
from clusterd.supervisor.decisions.failures import fail, record_failure
from clusterd.supervisor.decisions.slots import retry_at, tend_slots
from clusterd.supervisor.decisions.stopping import continue_stop, stop
from clusterd.supervisor.decisions.templates import tend_templates
from clusterd.supervisor.model.cluster import Cluster, Phase
from clusterd.supervisor.model.states import COMING, FAILURES, EndReason, TemplateState, WorkerState
from clusterd.supervisor.model.suspects import WINDOW_SECONDS
from clusterd.supervisor.model.table import Template, Worker

MIB = 1 << 20


class Supervisor:
    """Owns the table of workers and templates. It only decides; it has no side effects."""

    def __init__(self) -> None:
        self.cluster = Cluster()

    @property
    def wake_at(self) -> float | None:
        """The time at which `step` needs a Tick, on the clock of `now`; None if it needs none."""
        return self.cluster.wake_at

    @property
    def next_rollout(self) -> int:
        """The number of the rollout that carries out a reload requested now. A rollout under way does not."""
        return self.cluster.rollouts + 1

    def step(self, event: events.Event, now: float) -> list[Action]:
        """Process `event` at `now` (seconds, time.monotonic()). Returns the actions to carry out, in order."""
        cluster = self.cluster
        cluster.now, cluster.actions = now, []
        self._take_in(event)
        # A decision may make the next one possible, so repeat until no action is added.
        decided = -1
        while decided != len(cluster.actions):
            decided = len(cluster.actions)
            cluster.wake_at = None
            self._decide()
        return cluster.actions

    def _decide(self) -> None:
        cluster = self.cluster
        if cluster.phase is Phase.FINISHED or not cluster.serving:
            return
        for template in enforce_deadlines(cluster):
            timeout = cluster.table.generations[template.generation].settings.boot_timeout
            self._import_failed(template, f"not imported within rollout.boot_timeout ({timeout:g} s)")
        if cluster.phase is Phase.STARTING:
            first_start.advance(cluster)
        if cluster.phase is Phase.STOPPING:
            continue_stop(cluster)
            return
        tend_templates(cluster)
        rollout.begin_if_asked(cluster)
        rollout.advance(cluster)
        tend_slots(cluster)
        restarts.conclude(cluster)
        if cluster.phase is Phase.STARTING:
            self._conclude_start()

    def _conclude_start(self) -> None:
        cluster = self.cluster
        heirs = [cluster.table.heir(slot, cluster.serving) for slot in cluster.slots()]
        if all(heir is not None and heir.state is WorkerState.READY for heir in heirs):
            cluster.phase = Phase.RUNNING
            cluster.actions.append(Announce(Announcement.READY, cluster.serving))
            if cluster.reload_pending and cluster.first_start.answers_reload:
                rollout.answer_by_start(cluster)

    def _take_in(self, event: events.Event) -> None:
        match event:
            case events.Start(settings, first):
                first_start.begin(self.cluster, settings, first)
            case events.ReloadAsked():
                rollout.ask(self.cluster)
                if self.cluster.phase is Phase.STARTING:
                    first_start.hurry(self.cluster)
            case events.ConfigurationRead(settings) if self.cluster.first_start.is_reading:
                first_start.configuration_read(self.cluster, settings)
            case events.ConfigurationRead(settings):
                rollout.configuration_read(self.cluster, settings)
            case events.ConfigurationRefused(reason) if self.cluster.first_start.is_reading:
                first_start.configuration_refused(self.cluster, reason)
            case events.ConfigurationRefused(reason):
                rollout.withdraw(self.cluster, reason)
            case events.RestartAsked(number, slot):
                restarts.ask(self.cluster, number, slot)
            case events.ScaleAsked(change, may_be_early):
                if self._may_scale(may_be_early):
                    self._scale(lambda workers: workers + change)
            case events.CountAsked(count, may_be_early):
                if self._may_scale(may_be_early):
                    self._scale(lambda _: count)
            case events.StopAnnounced():
                self.cluster.stop_is_announced = True
            case events.StopAsked(at_once):
                stop(self.cluster, at_once=at_once)
            case events.Tick():
                pass
            case _:
                self._take_in_template_event(event)
                self._take_in_worker_event(event)

    # ---- templates

    def _take_in_template_event(self, event: events.Event) -> None:
        templates = self.cluster.table.templates
        match event:
            case events.TemplateLoaded(serial) if self._is(serial, TemplateState.LOADING):
                templates[serial].move(TemplateState.LOADED)
            case events.TemplateFailed(serial, reason, what, permanent) if self._is(serial, TemplateState.LOADING):
                self.cluster.end_template(templates[serial])
                self._import_failed(templates[serial], reason, what, permanent=permanent)
            case events.TemplateUnforkable(serial, findings) if self._is(serial, TemplateState.LOADING):
                self._do_without_preload(templates[serial], findings)
            case events.SpareReady(serial) if self._is(serial, TemplateState.SPARE_COMING):
                templates[serial].move(TemplateState.SPARE)
            case events.TemplateGone(serial, how) if serial in templates:
                self._template_gone(templates.pop(serial), how)

    def _is(self, serial: int, state: TemplateState) -> bool:
        template = self.cluster.table.templates.get(serial)
        return template is not None and template.state is state

    def _do_without_preload(self, template: Template, findings: tuple[str, ...]) -> None:
        cluster = self.cluster
        cluster.note(
            Severity.WARNING,
            "not preloaded, each worker imports the application itself (preload: false saves the attempt): "
            + "; ".join(findings),
            generation=template.generation,
        )
        cluster.end_template(template)
        generation = cluster.table.generations[template.generation]
        generation.preloaded = False
        cluster.start_template(generation)

    def _template_gone(self, template: Template, how: str) -> None:
        if template.state is TemplateState.ENDING:
            return
        if template.state is TemplateState.LOADING:
            self._import_failed(template, f"the template died while it imported the application: {how}")
            return
        what = "template" if template.state is TemplateState.LOADED else "spare template"
        cluster = self.cluster
        cluster.note(Severity.WARNING, f"{what} died: {how}", generation=template.generation)
        if cluster.phase is Phase.STARTING and not cluster.table.has_template(cluster.serving):
            first_start.failed(cluster, f"{what} died: {how}", permanent=False)

    def _import_failed(
        self, template: Template, reason: str, what: str = "application", *, permanent: bool = False
    ) -> None:
        cluster = self.cluster
        if cluster.rollout is not None and cluster.rollout.generation == template.generation:
            rollout.withdraw(cluster, reason)
        elif cluster.phase is Phase.STARTING:
            first_start.failed(cluster, f"the {what} could not be loaded: {reason}", permanent=permanent)

    # ---- workers

    def _take_in_worker_event(self, event: events.Event) -> None:
        match event:
            case events.WorkerHello(serial, pid):
                if worker := self._worker(serial):
                    self._hello(worker, pid)
            case events.WorkerReady(serial):
                if (worker := self._worker(serial)) and worker.state is WorkerState.BOOTING:
                    self.cluster.serve(worker)
            case events.WorkerFailed(serial, reason, permanent):
                if (worker := self._worker(serial)) and worker.state is WorkerState.BOOTING:
                    fail(self.cluster, worker, EndReason.BOOT_FAILED, reason, permanent=permanent)
            case events.WorkerGone(serial):
                if worker := self.cluster.table.workers.pop(serial, None):
                    self._worker_gone(worker, event)
            case events.WorkerStalled(serial, seconds, what):
                if (worker := self._worker(serial)) and worker.state is WorkerState.READY and not worker.is_debugged:
                    self._stalled(worker, seconds, what)
            case events.WorkerTurned(serial, at):
                if (worker := self._worker(serial)) and worker.turned_at < worker.deadline:
                    worker.turned_at = at
            case events.WorkerKilled(serial):
                if worker := self._worker(serial):
                    worker.is_killed = True
            case events.DebuggerListens(serial):
                if worker := self._worker(serial):
                    worker.is_debugged = True
            case events.RequestLimitReached(serial):
                self._recycle(serial, EndReason.MAX_REQUESTS)
            case events.MemoryLimitReached(serial, found, allowed):
                has, may = f"{found / MIB:.1f} MiB", f"{allowed / MIB:.1f} MiB"
                why = f"{has} of private memory, and limits.max_memory allows {may}"
                self._recycle(serial, EndReason.MAX_MEMORY, why)
            case events.RequestOverdue(serial, request):
                if (worker := self._worker(serial)) and not worker.is_debugged:
                    hang = self.cluster.table.generations[worker.generation].settings.hang
                    self.cluster.dump_stacks(worker, f"{request} is overdue", hang)
                    self._recycle(serial, EndReason.REQUEST_TIMEOUT)
            case events.SuccessorLost(serial):
                if (worker := self._worker(serial)) and worker.end is not EndReason.STOP:
                    worker.needs_successor = True

    def _worker(self, serial: int) -> Worker | None:
        return self.cluster.table.workers.get(serial)

    def _hello(self, worker: Worker, pid: int) -> None:
        worker.pid = pid
        if worker.state is WorkerState.FORKING:
            worker.move(WorkerState.BOOTING)

    def _stalled(self, worker: Worker, seconds: float, what: str) -> None:
        hang = self.cluster.table.generations[worker.generation].settings.hang
        if seconds >= hang:
            fail(self.cluster, worker, EndReason.HANG, f"{what} for {seconds:.1f} s")
        else:
            self.cluster.dump_stacks(worker, f"{what} for {seconds:.1f} s", hang)

    def _recycle(self, serial: int, reason: EndReason, note: str = "") -> None:
        """Mark a worker for replacement. Only one is replaced at a time, and none during a rollout.

        A worker that has to wait needs no queue: while it is over its limit, its event repeats.
        """
        cluster = self.cluster
        ready = cluster.table.in_state(WorkerState.READY)
        if cluster.rollout is not None or any(worker.recycle for worker in ready):
            return
        worker = self._worker(serial)
        if worker is None or worker.is_debugged:
            return
        if worker.state is WorkerState.READY and worker.generation == cluster.serving:
            worker.recycle, worker.recycle_note = reason, note
            if note:
                text = f"a worker has {note}: it is replaced"
                cluster.note(Severity.INFO, text, slot=worker.slot, generation=worker.generation)

    def _worker_gone(self, worker: Worker, gone: events.WorkerGone) -> None:
        cluster, how = self.cluster, gone.how
        reason = worker.end
        if reason is None:
            reason = EndReason.STOP if self._leaves_for_the_stop(worker, gone) else _unordered(worker, gone)
            if reason in FAILURES:
                record_failure(cluster, worker, how)
        worker.move(WorkerState.GONE)
        again_at = retry_at(cluster, worker.slot)
        held_up = reason in FAILURES and again_at > cluster.now and cluster.phase is not Phase.STOPPING
        cluster.actions.append(
            WorkerEnded(
                serial=worker.serial,
                slot=worker.slot,
                generation=worker.generation,
                pid=worker.pid,
                reason=reason,
                how=f"{worker.detail} ({how})" if worker.detail else how,
                retry_in=again_at - cluster.now if held_up else None,
                code=gone.code,
            )
        )

        if reason in FAILURES and worker.ready_at is not None:
            self._suspect(gone.in_hand)

    def _suspect(self, in_hand: tuple[str, ...]) -> None:
        """Note the death of a worker with the requests `in_hand`, and report the suspects."""
        cluster = self.cluster
        cluster.suspects, suspicions = cluster.suspects.after_death(cluster.now, in_hand)
        cluster.actions.append(WatchRequests(WINDOW_SECONDS))
        cluster.actions += [Suspect(each.request, each.deaths, WINDOW_SECONDS) for each in suspicions]

    def _leaves_for_the_stop(self, worker: Worker, gone: events.WorkerGone) -> bool:
        return self.cluster.stop_is_announced and worker.state not in COMING and gone.code == 0

    def _may_scale(self, may_be_early: bool) -> bool:
        return self.cluster.phase is Phase.RUNNING or (may_be_early and self.cluster.phase is Phase.STARTING)

    def _scale(self, changed: Callable[[int], int]) -> None:
        """Change the number of workers: the current one, and that of a rollout under way."""
        cluster = self.cluster
        cluster.wanted = max(1, changed(cluster.wanted))
        if cluster.rollout is not None and cluster.rollout.generation:
            cluster.rollout.workers = max(1, changed(cluster.rollout.workers))
        cluster.note(Severity.INFO, f"{cluster.wanted} workers wanted", generation=cluster.serving)


def _unordered(worker: Worker, gone: events.WorkerGone) -> EndReason:
    """The reason for the end of a worker that the supervisor has not ended."""
    if worker.state in COMING:
        return EndReason.BOOT_FAILED
    if worker.is_killed:
        return EndReason.KILLED
    if gone.for_memory:
        return EndReason.OOM
    return EndReason.SIGNAL if gone.by_signal else EndReason.EXIT
