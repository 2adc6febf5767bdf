"""`Supervisor.step`: it takes one event and returns the actions that follow from it."""

from clusterd.supervisor import events
from clusterd.supervisor.actions import Action, Announce, Announcement
from clusterd.supervisor.decisions import first_start, restarts, rollout, rotation, scaling
from clusterd.supervisor.decisions.deadlines import enforce_deadlines
from clusterd.supervisor.decisions.imports import TEMPLATE_REACTIONS, import_failed
from clusterd.supervisor.decisions.slots import tend_slots
from clusterd.supervisor.decisions.stopping import continue_stop, stop
from clusterd.supervisor.decisions.templates import tend_templates
from clusterd.supervisor.decisions.workers import WORKER_REACTIONS
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import WorkerState


class Supervisor:
    """Owns the table of workers and templates. It only decides; it has no side effects."""

    def __init__(self, cluster: ClusterState | None = None) -> None:
        self.cluster = ClusterState() if cluster is None else cluster

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
            import_failed(self.cluster, template, f"not imported within rollout.boot_timeout ({timeout:g} s)")
        if cluster.phase is Phase.STARTING:
            first_start.advance(cluster)
        if cluster.phase is Phase.STOPPING:
            continue_stop(cluster)
            return
        rotation.advance(cluster)
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
            case events.Start(settings, first, is_drained):
                first_start.begin(self.cluster, settings, first)
                if is_drained:
                    rotation.stay_out(self.cluster)
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
                scaling.order(self.cluster, lambda workers: workers + change, may_be_early=may_be_early)
            case events.CountAsked(count, may_be_early):
                scaling.order(self.cluster, lambda _: count, may_be_early=may_be_early)
            case events.ConfiguredCountAsked():
                scaling.release(self.cluster)
            case events.CountDecided(workers, cause, reason):
                scaling.decided(self.cluster, workers, cause, reason)
            case events.DrainAsked(stops):
                rotation.leave(self.cluster, stops=stops)
            case events.UndrainAsked():
                rotation.come_back(self.cluster)
            case events.StopAnnounced():
                self.cluster.stop_is_announced = True
            case events.StopAsked(urgency):
                stop(self.cluster, urgency=urgency)
            case events.Tick():
                pass
            case _:
                self._take_in_of_a_process(event)

    def _take_in_of_a_process(self, event: events.Event) -> None:
        """React to an event of a template or worker, by what it is and by the state that the process is in."""
        table = self.cluster.table
        serial = getattr(event, "serial", 0)
        if (worker := table.workers.get(serial)) and (of_workers := WORKER_REACTIONS.get(type(event))):
            of_workers[worker.state](self.cluster, worker, event)
        elif (template := table.templates.get(serial)) and (of_templates := TEMPLATE_REACTIONS.get(type(event))):
            of_templates[template.state](self.cluster, template, event)
