"""What each event does to a worker in each state: `WORKER_REACTIONS`."""

from clusterd.supervisor import events
from clusterd.supervisor.actions import Severity, Suspect, WorkerEnded
from clusterd.supervisor.decisions.failures import fail, record_failure
from clusterd.supervisor.decisions.slots import RETIRE_AGAIN_SECONDS, retry_at
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.held import Cause, Held
from clusterd.supervisor.model.states import COMING, FAILURES, EndReason, WorkerState
from clusterd.supervisor.model.suspects import WINDOW_SECONDS
from clusterd.supervisor.model.table import Worker
from clusterd.supervisor.reactions import Reaction, ignored, reactions

MIB = 1 << 20

# ---- its process


def _boot(cluster: ClusterState, worker: Worker, hello: events.WorkerHello) -> None:
    _pid(cluster, worker, hello)
    worker.move(WorkerState.BOOTING)


def _pid(_: ClusterState, worker: Worker, hello: events.WorkerHello) -> None:
    worker.pid = hello.pid


def _serve(cluster: ClusterState, worker: Worker, _: events.WorkerReady) -> None:
    cluster.serve(worker)


def _fail(cluster: ClusterState, worker: Worker, failed: events.WorkerFailed) -> None:
    fail(cluster, worker, EndReason.BOOT_FAILED, failed.reason, permanent=failed.permanent)


def _gone(cluster: ClusterState, worker: Worker, gone: events.WorkerGone) -> None:
    del cluster.table.workers[worker.serial]
    reason = worker.end
    if reason is None:
        reason = EndReason.STOP if _leaves_for_the_stop(cluster, worker, gone) else _unordered(worker, gone)
        if reason in FAILURES:
            record_failure(cluster, worker, gone.how)
    cause = _cause(worker, reason, gone)
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
            how=_how(worker, reason, gone),
            retry_in=again_at - cluster.now if held_up else None,
            code=gone.code,
            is_candidate=worker.generation > cluster.serving,
            held=gone.held,
            cause=cause,
        )
    )
    if reason in FAILURES and worker.ready_at is not None:
        _suspect(cluster, gone.held)


def _how(worker: Worker, reason: EndReason, gone: events.WorkerGone) -> str:
    """What is said of an end. A worker that cannot start then ends by itself or is killed, whichever comes first: that
    is no news, and a SIGKILL would look like one of the kernel's. Another signal may be the cause of what was wrong.
    """
    if not worker.detail:
        return gone.how
    is_expected = reason is EndReason.BOOT_FAILED and (not gone.by_signal or gone.how == "SIGKILL")
    return worker.detail if is_expected else f"{worker.detail} ({gone.how})"


def _leaves_for_the_stop(cluster: ClusterState, worker: Worker, gone: events.WorkerGone) -> bool:
    return cluster.stop_is_announced and worker.state not in COMING and gone.code == 0


def _unordered(worker: Worker, gone: events.WorkerGone) -> EndReason:
    """The reason for the end of a worker that the supervisor has not ended."""
    if worker.state in COMING:
        return EndReason.BOOT_FAILED
    if worker.is_killed:
        return EndReason.KILLED
    if gone.for_memory:
        return EndReason.OOM
    return EndReason.SIGNAL if gone.by_signal else EndReason.EXIT


_CAUSES = {
    EndReason.HANG: Cause.HANG,
    EndReason.DRAIN_TIMEOUT: Cause.DRAIN,
    EndReason.MAX_DRAINING: Cause.DRAIN,
}
"""The causes of the ends that the supervisor has enforced. All others are Cause.STOP."""


def _cause(worker: Worker, reason: EndReason, gone: events.WorkerGone) -> Cause | None:
    """What ended the process, which need not be what the worker was to end for: it may crash while it drains."""
    if gone.code is None and not gone.held.lost:  # It never had a process, or only its parent knows how it has left.
        return None
    if worker.state is WorkerState.ENDING:
        return _CAUSES.get(reason, Cause.STOP)
    if gone.code == 0 and reason is not EndReason.EXIT:
        return Cause.DRAIN if gone.held.lost else None
    if worker.is_killed:
        return Cause.KILLED
    if gone.for_memory:
        return Cause.MEMORY
    return Cause.SIGNAL if gone.by_signal else Cause.EXIT


def _suspect(cluster: ClusterState, held: Held) -> None:
    """Note the death of a worker that had the requests `held`, and report the suspects."""
    cluster.suspects, suspicions = cluster.suspects.after_death(cluster.now, held.names)
    cluster.actions += [Suspect(each.request, each.deaths, WINDOW_SECONDS) for each in suspicions]


# ---- what is seen of it


def _killed(_: ClusterState, worker: Worker, __: events.WorkerKilled) -> None:
    worker.is_killed = True


def _debugged(_: ClusterState, worker: Worker, __: events.DebuggerListens) -> None:
    worker.is_debugged = True


def _turned(_: ClusterState, worker: Worker, turned: events.WorkerTurned) -> None:
    if worker.turned_at < worker.deadline:
        worker.turned_at = turned.at


def _alone(_: ClusterState, worker: Worker, __: events.SuccessorLost) -> None:
    if worker.end is not EndReason.STOP:
        worker.needs_successor = True


def _untold(cluster: ClusterState, worker: Worker, _: events.RetireFailed) -> None:
    # Not at once: the resource that was missing, such as a descriptor, would still be missing.
    worker.retire_not_before = cluster.now + RETIRE_AGAIN_SECONDS
    # The order of a stop needs no descriptor, so it does not fail for want of one.
    worker.needs_successor = worker.end is not EndReason.STOP


def _stall(cluster: ClusterState, worker: Worker, stalled: events.WorkerStalled) -> None:
    if worker.is_debugged:
        return
    hang = cluster.table.generations[worker.generation].settings.hang
    what = f"{stalled.what} for {stalled.seconds:.1f} s"
    if stalled.seconds >= hang:
        fail(cluster, worker, EndReason.HANG, what)
    else:
        cluster.dump_stacks(worker, what, hang)


def _overdue(cluster: ClusterState, worker: Worker, overdue: events.RequestOverdue) -> None:
    if not worker.is_debugged:
        hang = cluster.table.generations[worker.generation].settings.hang
        cluster.dump_stacks(worker, f"{overdue.request} is overdue", hang)
        if worker.state is WorkerState.READY:
            _recycle(cluster, worker, EndReason.REQUEST_TIMEOUT)


def _requests(cluster: ClusterState, worker: Worker, _: events.RequestLimitReached) -> None:
    _recycle(cluster, worker, EndReason.MAX_REQUESTS)


def _memory(cluster: ClusterState, worker: Worker, reached: events.MemoryLimitReached) -> None:
    has, may = f"{reached.found / MIB:.1f} MiB", f"{reached.allowed / MIB:.1f} MiB"
    _recycle(cluster, worker, EndReason.MAX_MEMORY, f"{has} of private memory, and limits.max_memory allows {may}")


def _recycle(cluster: ClusterState, worker: Worker, reason: EndReason, note: str = "") -> None:
    """Mark a worker for replacement. Only one is replaced at a time, and none during a rollout.

    A worker that has to wait needs no queue: while it is over its limit, its event repeats.
    """
    ready = cluster.table.in_state(WorkerState.READY)
    if cluster.rollout is not None or any(each.recycle for each in ready):
        return
    if worker.is_debugged or worker.generation != cluster.serving:
        return
    worker.recycle, worker.recycle_note = reason, note
    if note:
        text = f"a worker has {note}: it is replaced"
        cluster.note(Severity.INFO, text, slot=worker.slot, generation=worker.generation)


# ---- the table

_COLUMNS = (
    WorkerState.FORKING,
    WorkerState.BOOTING,
    WorkerState.READY,
    WorkerState.RETIRED,
    WorkerState.DRAINING,
    WorkerState.ENDING,
)
"""A worker that is gone is out of the table of workers: no event finds it."""

# fmt: off
_ROWS: dict[type[events.Event], tuple[Reaction, ...]] = {
    # event                       FORKING    BOOTING    READY      RETIRED    DRAINING   ENDING
    events.WorkerHello:          (_boot,     _pid,      _pid,      _pid,      _pid,      _pid),
    events.WorkerReady:          (ignored,   _serve,    ignored,   ignored,   ignored,   ignored),
    events.WorkerFailed:         (ignored,   _fail,     ignored,   ignored,   ignored,   ignored),
    events.WorkerGone:           (_gone,     _gone,     _gone,     _gone,     _gone,     _gone),
    events.WorkerKilled:         (_killed,   _killed,   _killed,   _killed,   _killed,   _killed),
    events.DebuggerListens:      (_debugged, _debugged, _debugged, _debugged, _debugged, _debugged),
    events.WorkerStalled:        (ignored,   ignored,   _stall,    ignored,   ignored,   ignored),
    events.WorkerTurned:         (ignored,   ignored,   ignored,   ignored,   _turned,   ignored),
    events.RequestLimitReached:  (ignored,   ignored,   _requests, ignored,   ignored,   ignored),
    events.MemoryLimitReached:   (ignored,   ignored,   _memory,   ignored,   ignored,   ignored),
    events.RequestOverdue:       (ignored,   ignored,   _overdue,  _overdue,  _overdue,  ignored),
    events.SuccessorLost:        (ignored,   ignored,   ignored,   _alone,    _alone,    ignored),
    events.RetireFailed:         (ignored,   ignored,   ignored,   _untold,   _untold,   ignored),
}
# fmt: on

WORKER_REACTIONS = reactions(_COLUMNS, _ROWS)
"""By event, and by the state that the worker has when the event comes."""
