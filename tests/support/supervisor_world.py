"""A simulated world for the supervisor: processes that boot, fail, hang, crash and die in random order.

A schedule is a seed. The world applies every action to its own model of the processes, checks the
safety invariants after each step, then lets peace return and checks that everything has settled.
"""

import heapq
import itertools
import math
from dataclasses import dataclass, field
from random import Random

from clusterd.config.model import Preload
from clusterd.supervisor import actions, events
from clusterd.supervisor.decisions.scaling import is_deciding, may_shrink
from clusterd.supervisor.decisions.stopping import ExitStatus
from clusterd.supervisor.elastic import UNSEEN, Situation, Trend, decide
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.load import Load, ScaleCause
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import FAILURES, EndReason, WorkerState
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart
from clusterd.supervisor.supervisor import Supervisor
from tests.support.restart_watch import RestartWatch
from tests.support.settings import supervisor_settings

EVENTS_OF_A_SCHEDULE = 14
PEACE_SECONDS = 400.0


class Violation(AssertionError):
    """An invariant does not hold; the text says which, and the history how it came to that."""


@dataclass
class World:
    """One schedule: `run` plays it to its end."""

    seed: int
    random: Random = field(init=False)
    supervisor: Supervisor = field(default_factory=Supervisor)
    now: float = 0.0
    queue: list[tuple[float, int, events.Event]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    peace: bool = False
    templates: set[int] = field(default_factory=set)
    workers: set[int] = field(default_factory=set)
    doomed: set[int] = field(default_factory=set)
    serving: set[int] = field(default_factory=set)
    generations: list[int] = field(default_factory=list)
    generation_of: dict[int, int] = field(default_factory=dict)
    failed_generations: set[int] = field(default_factory=set)
    started: int = 0
    ended: int = 0
    first_start: FirstStart = NOT_TRIED
    import_failed_at: float = -math.inf
    restart_watch: RestartWatch = field(default_factory=RestartWatch)
    restarts_asked: int = 0
    restarts_ended: list[int] = field(default_factory=list)
    trend: Trend = UNSEEN
    ordered: int | None = None
    """The number of workers that was asked for since the last reload, which nothing but an order changes."""
    finished: bool = False
    closing: set[int] = field(default_factory=set)
    """The workers that close their connections after each response."""
    starts_now: bool = False
    """In this step the first start succeeds, which may answer a reload: what failed before was tried again."""
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def run(self) -> None:
        """Play the schedule. Raises Violation."""
        self.first_start = self.attempts_before()
        self.step(events.Start(self.settings(), self.first_start))
        for _ in range(EVENTS_OF_A_SCHEDULE):
            if self.finished:
                return
            if self.random.random() < 0.35:
                self.step(self.mischief())
            else:
                self.advance()
        self.peace = True
        until = self.now + PEACE_SECONDS
        while not self.finished and self.now < until and self.advance():
            pass
        self.check_settled()

    def attempts_before(self) -> FirstStart:
        """What earlier processes have tried, and until when this one may."""
        pick = self.random
        give_up_at = pick.choice([None, None, 10.0, 85.0])
        return FirstStart(*pick.choice([(0, "", 0.0), (3, "RuntimeError", 4.0)]), give_up_at)

    def settings(self) -> Settings:
        pick = self.random
        workers = pick.randint(1, 4)
        return supervisor_settings(
            workers=workers,
            most_workers=workers + pick.choice([0, 0, 2, 4]),
            shrink_after=pick.choice([1.0, 5.0]),
            preload=pick.choice(list(Preload)),
            surge=pick.randint(1, 2),
            boot_timeout=20.0,
            settle=pick.choice([0.0, 1.0]),
            max_draining=pick.randint(1, 3),
            drain=10.0,
            drain_idle=5.0,
            hang=8.0,
            restart_burst=pick.randint(1, 3),
            restart_per=pick.choice([1.0, 10.0]),
            announce=pick.choice([0.0, 3.0]),
        )

    # ---- what happens

    def mischief(self) -> events.Event:
        """Something that nobody ordered."""
        pick = self.random
        worker = pick.choice(sorted(self.workers) or [0])
        template = pick.choice(sorted(self.templates) or [0])
        happening = pick.choice(
            [
                events.ReloadAsked(),
                events.ReloadAsked(),
                events.ScaleAsked(pick.choice([-1, 1]), may_be_early=True),
                events.CountAsked(pick.randint(1, 4), may_be_early=True),
                events.ConfiguredCountAsked(),
                *(events.CountDecided(count, ScaleCause.IDLE, "it was decided earlier") for count in (0, 1, 2, 5, 9)),
                *(self.look() for _ in range(3)),
                events.RestartAsked(self.restarts_asked + 1, pick.randint(1, 5)),
                events.RestartAsked(self.restarts_asked + 1, pick.randint(1, 5)),
                events.WorkerGone(worker, "SIGKILL", by_signal=True),
                events.WorkerStalled(worker, pick.choice([5.0, 9.0]), "hung"),
                events.TemplateGone(template, "SIGKILL"),
                events.RequestLimitReached(worker),
                events.MemoryLimitReached(worker, 200, 100),
                events.RequestOverdue(worker, "GET /"),
                events.DebuggerListens(worker),
                events.WorkerKilled(worker),
                events.SuccessorLost(worker),
                events.StopAnnounced(),
                events.DrainAsked(stops=pick.random() < 0.3),
                events.UndrainAsked(),
                events.WorkerTurned(worker, self.now),
                events.StopAsked(pick.choice(list(events.Urgency))) if pick.random() < 0.3 else events.Tick(),
            ]
        )
        self.leave(happening)
        self.restarts_asked += isinstance(happening, events.RestartAsked)
        return happening

    def look(self) -> events.Event:
        """What the master makes of some load, if it is to decide."""
        cluster = self.supervisor.cluster
        if not is_deciding(cluster):
            return events.Tick()
        settings = cluster.table.generations[cluster.serving].settings
        situation = Situation(
            settings.workers, settings.most_workers, cluster.wanted, settings.shrink_after, may_shrink(cluster)
        )
        load = Load(self.ready(), self.ready() * self.random.choice([0.0, 0.0, 0.7, 0.9, 4.0]))
        self.trend, decision = decide(self.trend, load, situation, self.now)
        if decision is None:
            return events.Tick()
        return events.CountDecided(decision.workers, decision.cause, decision.reason)

    def advance(self) -> bool:
        """Let time pass until the next thing happens; False when nothing will."""
        wake = self.supervisor.wake_at
        if self.queue and (wake is None or self.queue[0][0] <= wake):
            at, _, event = heapq.heappop(self.queue)
            self.now = max(self.now, at)
            if not self.is_stale(event):
                self.leave(event)
                self.step(event)
            return True
        if wake is None:
            return False
        self.now = max(self.now, wake)
        self.step(events.Tick())
        return True

    def is_stale(self, event: events.Event) -> bool:
        """Whether the process that this was to happen to is gone, or cannot do it any more."""
        serial = getattr(event, "serial", None)
        if serial is None:
            return False
        if serial not in self.workers | self.templates:
            return True
        return serial in self.doomed and not isinstance(event, events.WorkerGone | events.TemplateGone)

    def leave(self, event: events.Event) -> None:
        if isinstance(event, events.WorkerGone):
            self.workers.discard(event.serial)
            self.serving.discard(event.serial)
        elif isinstance(event, events.TemplateGone):
            self.templates.discard(event.serial)

    def later(self, event: events.Event, longest: float = 3.0) -> float:
        at = self.now + self.random.random() * longest
        heapq.heappush(self.queue, (at, next(self.order), event))
        return at

    def step(self, event: events.Event) -> None:
        self.history.append(f"{self.now:8.2f} {event}")
        complaint = self.restart_watch.complaint(self.now)
        self.require(not complaint, complaint)
        ready_before = self.ready()
        wanted_before = self.supervisor.cluster.wanted or 1
        if isinstance(event, events.ReloadAsked):
            self.import_failed_at = -math.inf  # which makes the next attempt at once
        could_shrink = may_shrink(self.supervisor.cluster)
        decided = self.supervisor.step(event, self.now)
        self.check_number(event, wanted_before, could_shrink)
        self.starts_now = any(isinstance(a, actions.Announce) and a.what is actions.Announcement.READY for a in decided)
        self.carry_out(decided)
        self.restart_watch.look(self.supervisor.cluster, self.now)
        self.check_step(event, decided, ready_before, wanted_before)

    def carry_out(self, decided: list[actions.Action]) -> None:
        for action in decided:
            self.history.append(f"             {action}")
            self.check(action)
            self.act(action)
            self.restart_watch.note(action, self.now)

    def ready(self) -> int:
        return len(self.serving)

    # ---- how processes answer

    def act(self, action: actions.Action) -> None:
        match action:
            case actions.ReadConfiguration():
                good = self.peace or self.random.random() < 0.85
                self.later(
                    events.ConfigurationRead(self.settings()) if good else events.ConfigurationRefused("bad"),
                    0.0,
                )
            case actions.StartTemplate(serial, generation):
                self.start_template(serial, generation, unforkable=action.refuse_unforkable)
            case actions.ForkSpare(serial):
                self.templates.add(serial)
                self.generation_of[serial] = action.generation
                alive = action.template in self.templates - self.doomed
                good = alive and (self.peace or self.random.random() < 0.8)
                self.later(events.SpareReady(serial) if good else events.TemplateGone(serial, "died"))
            case actions.Fork(serial):
                self.workers.add(serial)
                self.generation_of[serial] = action.generation
                self.boot(serial, alive=action.template in self.templates - self.doomed)
            case actions.EndTemplate(serial):
                generation = self.generation_of[serial]
                served = any(self.generation_of[worker] == generation for worker in self.workers - self.doomed)
                self.require(not served, "what a template removes at its end is not in use")
                self.doomed.add(serial)
                self.later(events.TemplateGone(serial, "exit status 0"))
            case actions.KillTemplate(serial):
                self.doomed.add(serial)
                self.later(events.TemplateGone(serial, "SIGKILL"))
            case actions.Kill(serial):
                self.doomed.add(serial)
                self.serving.discard(serial)
                self.later(events.WorkerGone(serial, "SIGKILL", by_signal=True))
            case actions.Serve(serial):
                self.serving.add(serial)
                if not self.peace and self.random.random() < 0.15:
                    self.later(events.WorkerGone(serial, "SIGSEGV", by_signal=True), 10.0)
            case actions.Retire(serial, successor):
                self.serving.discard(serial)
                if successor is not None and not self.peace and self.random.random() < 0.1:
                    self.later(events.RetireFailed(serial), 0.0)
                elif not action.linger and self.random.random() < 0.8:
                    self.later(events.WorkerGone(serial, "exit status 0"))
            case actions.SetKeepAlive(serial, is_on):
                (self.closing.discard if is_on else self.closing.add)(serial)
            case actions.BeginStop():
                self.later(events.StopAsked(), 0.0)
            case actions.RolloutStarted():
                self.started += 1
            case actions.RolloutEnded():
                self.ended += 1
            case actions.RestartEnded(number):
                self.restarts_ended.append(number)
            case actions.Finish():
                self.finished = True
            case _:
                pass

    def start_template(self, serial: int, generation: int, *, unforkable: bool) -> None:
        self.templates.add(serial)
        self.generation_of[serial] = generation
        if generation not in self.generations:
            self.generations.append(generation)
        choice = 1.0 if self.peace else self.random.random()
        if choice < 0.08:
            self.later(events.TemplateFailed(serial, "an error", permanent=self.random.random() < 0.1))
        elif choice < 0.14:
            self.later(events.TemplateGone(serial, "SIGSEGV"))
        elif choice < 0.24 and unforkable:
            self.later(events.TemplateUnforkable(serial, ("a thread",)))
        elif choice > 0.30:
            self.later(events.TemplateLoaded(serial))

    def boot(self, serial: int, *, alive: bool) -> None:
        choice = 1.0 if self.peace else self.random.random()
        if not alive or choice < 0.04:
            self.later(events.WorkerGone(serial, "never born"))
            return
        said_hello = self.later(events.WorkerHello(serial, 1000 + serial), 0.5)
        rest = said_hello - self.now + 0.01
        if choice < 0.12:
            self.later_than(rest, events.WorkerFailed(serial, "an error", permanent=self.random.random() < 0.1))
        elif choice < 0.18:
            self.later_than(rest, events.WorkerGone(serial, "exit status 1"))
        elif choice > 0.24:
            self.later_than(rest, events.WorkerReady(serial))

    def later_than(self, delay: float, event: events.Event) -> None:
        heapq.heappush(self.queue, (self.now + delay + self.random.random() * 3, next(self.order), event))

    # ---- safety

    def check(self, action: actions.Action) -> None:
        """What no single action may do."""
        cluster = self.supervisor.cluster
        serial = getattr(action, "serial", None)
        new = isinstance(action, actions.Fork | actions.ForkSpare | actions.StartTemplate)
        about_worker = isinstance(action, actions.Serve | actions.SetKeepAlive | actions.Retire | actions.Kill)
        self.require(not (new and cluster.phase in (Phase.STOPPING, Phase.FINISHED)), "nothing starts while stopping")
        self.require(not about_worker or serial in self.workers - self.doomed, "orders and signals go to the living")
        if isinstance(action, actions.Fork):
            self.require(action.template in self.templates - self.doomed, "a living template forks")
        if isinstance(action, actions.StartTemplate):
            newest = max(self.generations, default=0)
            again = action.generation == newest and not action.preload
            self.require(action.generation > newest or again, "generations only grow")
            early = cluster.phase is Phase.STARTING and self.now < self.import_failed_at + 1.0
            self.require(again or not early, "the first start pauses after an import that failed")
        if isinstance(action, actions.Serve):
            worker = cluster.table.workers[action.serial]
            self.require(worker.state is not WorkerState.FORKING, "only who said ready serves")
        if isinstance(action, actions.BeginStop):
            self.require(self.now >= cluster.out_at, "a stop waits until it was announced")
        if isinstance(action, actions.WorkerEnded) and action.reason in FAILURES:
            self.failed_generations.add(action.generation)
        if isinstance(action, actions.RolloutEnded) and action.failure is None and not self.starts_now:
            self.require(action.generation not in self.failed_generations, "a generation that failed is withdrawn")
        if isinstance(action, actions.RestartEnded) and action.failure is None:
            serving = [w for w in cluster.table.in_slot(action.slot) if w.state is WorkerState.READY]
            self.require(len(serving) == 1, "a restarted slot has one worker that serves")
        if isinstance(action, actions.Finish) and action.exit_status == ExitStatus.TEMPORARY:
            self.require(self.first_start.give_up_at is not None, "a start is given up only where that is said")

    def check_step(
        self, event: events.Event, decided: list[actions.Action], ready_before: int, wanted_before: int
    ) -> None:
        """What no step may leave behind."""
        cluster = self.supervisor.cluster
        if cluster.phase is Phase.STARTING and isinstance(event, events.TemplateFailed):
            self.import_failed_at = self.now
        stopping = cluster.phase in (Phase.STOPPING, Phase.FINISHED)
        hung = sum(1 for a in decided if isinstance(a, actions.Kill) and a.reason is EndReason.HANG)
        wanted = min(wanted_before, cluster.wanted or 1)
        if cluster.rollout is not None and cluster.rollout.workers:
            wanted = min(wanted, cluster.rollout.workers)
        if not stopping:
            self.require(self.ready() + hung >= min(ready_before, wanted), "capacity never dips by our doing")
        if isinstance(event, events.StopAsked):
            told = {getattr(a, "serial", 0) for a in decided if isinstance(a, actions.Retire | actions.Kill)}
            self.require(stopping, "a stop is acted on at once")
            self.require(self.workers <= told | self.doomed | self.told_to_stop(), "every worker is told to stop")
        self.check_rotation(stopping=stopping)
        coming = [w for w in cluster.table.workers.values() if w.state in (WorkerState.FORKING, WorkerState.BOOTING)]
        places = [(w.slot, w.generation) for w in coming]
        self.require(len(places) == len(set(places)), "one successor at a time in a slot")
        self.require(cluster.table.workers.keys() == self.workers, "the table holds who lives")

    def check_rotation(self, *, stopping: bool) -> None:
        cluster = self.supervisor.cluster
        serving = self.serving - self.doomed
        if cluster.rotation is not Rotation.OUT:
            self.require(not self.closing & serving, "connections are kept until the announcement is over")
        elif not stopping and not cluster.stop_is_announced:
            self.require(serving <= self.closing, "a service that is out of rotation closes its connections")

    def check_number(self, event: events.Event, before: int, could_shrink: bool) -> None:
        """How many workers are wanted: what nobody has asked for stays within the setting, and undoes no order."""
        cluster = self.supervisor.cluster
        if isinstance(event, events.CountDecided) and cluster.wanted != before:
            settings = cluster.table.generations[cluster.serving].settings
            debugged = max((w.slot for w in cluster.table.workers.values() if w.is_debugged), default=0)
            least, most = settings.workers, max(settings.most_workers, debugged)
            self.require(least <= cluster.wanted <= most, "clusterd decides between min and max")
            self.require(cluster.phase is Phase.RUNNING, "clusterd decides nothing before the start or in a stop")
            self.require(self.ordered is None, "clusterd does not undo an order")
            fewer = cluster.wanted < before
            self.require(not fewer or (cluster.rollout is None and could_shrink), "no worker goes that is needed")
            self.require(not fewer or not cluster.restarts, "no worker goes in whose slot another is started")
        reports = [action for action in cluster.actions if isinstance(action, actions.Scaled)]
        started = isinstance(event, events.Start | events.ConfigurationRead)
        self.require(cluster.wanted == (before if not reports else reports[-1].workers) or started, "it is reported")
        if isinstance(event, events.ScaleAsked | events.CountAsked) and reports:
            self.ordered = cluster.wanted
        if isinstance(event, events.ConfiguredCountAsked) or started:
            self.ordered = None
        if any(isinstance(a, actions.RolloutEnded) and a.failure is None for a in cluster.actions):
            self.ordered = None

    def told_to_stop(self) -> set[int]:
        return {w.serial for w in self.supervisor.cluster.table.workers.values() if w.end is EndReason.STOP}

    # ---- liveness

    def check_settled(self) -> None:
        """In peace a stop finishes, and everything else ends in one whole generation."""
        cluster = self.supervisor.cluster
        ended = sorted(self.restarts_ended)
        self.require(ended == list(range(1, self.restarts_asked + 1)), f"every restart is reported once: {ended}")
        if cluster.phase in (Phase.STOPPING, Phase.FINISHED):
            self.require(self.finished, "a stop always finishes")
            return
        self.require(not cluster.stops_when_out, "a stop that was announced comes")
        self.require(cluster.rotation is not Rotation.LEAVING, "an announcement ends")
        self.require(cluster.phase is Phase.RUNNING, "a start succeeds or ends")
        self.require(cluster.rollout is None and not cluster.reload_pending, "every rollout settles")
        self.require(self.started == self.ended, "every rollout is reported once")
        states = [
            (w.slot, w.generation, w.state)
            for w in sorted(cluster.table.workers.values(), key=lambda worker: worker.slot)
        ]
        expected = [(slot, cluster.serving, WorkerState.READY) for slot in range(1, cluster.wanted + 1)]
        self.require(states == expected, f"every slot is served: {states}")

    def require(self, holds: bool, invariant: str) -> None:
        if not holds:
            raise Violation(f"seed {self.seed}: {invariant}\n" + "\n".join(self.history[-60:]))
