"""How many workers are wanted."""

from clusterd.supervisor import events
from clusterd.supervisor.decisions import scaling
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.load import ScaleCause
from clusterd.supervisor.model.states import WorkerState
from clusterd.supervisor.model.table import Generation, Worker
from clusterd.supervisor.status import progress_line
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings


def test_a_number_of_workers_is_meant_whatever_a_rollout_would_make_of_it() -> None:
    supervisor = Supervisor()
    settings = supervisor_settings(workers=2)
    for event in (
        events.Start(settings),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        *(events.WorkerHello(serial, 100 + serial) for serial in (3, 4)),
        *(events.WorkerReady(serial) for serial in (3, 4)),
        events.ReloadAsked(),
        events.ConfigurationRead(supervisor_settings(workers=6)),
    ):
        supervisor.step(event, 100.0)
    rollout = supervisor.cluster.rollout
    assert rollout is not None and rollout.workers == 6
    supervisor.step(events.TemplateLoaded(5), 100.5)
    assert progress_line(supervisor.cluster, str) == (
        "Reloading: generation 2, 0 of 6 workers replaced (1 forking, 2 waits, 3 waits, 4 waits, 5 waits, 6 waits)"
    )
    supervisor.step(events.ScaleAsked(+1), 101.0)
    assert (supervisor.cluster.wanted, rollout.workers) == (3, 7)
    supervisor.step(events.CountAsked(3), 102.0)
    assert (supervisor.cluster.wanted, rollout.workers) == (3, 3)


def test_fewer_are_never_more_although_a_debugged_worker_drains_in_a_slot_that_is_gone() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=1, wanted=4, last_serial=9)
    cluster.table.generations[1] = Generation(1, supervisor_settings(workers=1, most_workers=8), preloaded=True)
    for slot in (1, 2, 3, 4, 8):
        state = WorkerState.READY if slot < 8 else WorkerState.DRAINING
        worker = Worker(slot, slot, 1, 1, 0.0, 0.0, state, is_debugged=slot == 8)
        cluster.table.workers[worker.serial] = worker
    scaling.decided(cluster, 2, ScaleCause.IDLE, "idle")
    assert cluster.wanted <= 4
