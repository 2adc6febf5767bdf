"""Leaving the rotation of load balancers, for a while or for the stop, and coming back."""

from clusterd.supervisor.actions import BeginStop, RotationChanged, SetKeepAlive
from clusterd.supervisor.events import Urgency
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import WorkerState

_SERVES_OR_MAY = (WorkerState.READY, WorkerState.RETIRED)


def is_to_be_announced(cluster: ClusterState, urgency: Urgency) -> bool:
    """Whether a stop has to wait until load balancers have noticed it. One that is not only a drain has not."""
    if urgency is not Urgency.DRAIN or cluster.stop_is_announced or cluster.rotation is Rotation.OUT:
        return False
    if cluster.phase not in (Phase.STARTING, Phase.RUNNING) or not cluster.table.in_state(*_SERVES_OR_MAY):
        return False
    return cluster.rotation is Rotation.LEAVING or _announce_seconds(cluster) > 0


def stay_out(cluster: ClusterState) -> None:
    """Begin out of the rotation: an operator has drained the service, and it has started again since."""
    cluster.is_drained = True
    cluster.out_at = cluster.now
    _enter(cluster, Rotation.OUT)


def leave(cluster: ClusterState, *, stops: bool) -> None:
    """Leave the rotation, if that is not done or under way. With `stops`, a stop follows."""
    if cluster.is_stopping:
        return
    cluster.stops_when_out = cluster.stops_when_out or stops
    cluster.is_drained = cluster.is_drained or not stops
    if cluster.rotation is Rotation.IN:
        seconds = _announce_seconds(cluster)
        cluster.out_at = cluster.now + seconds
        if seconds:
            _enter(cluster, Rotation.LEAVING)
        else:
            _go_out(cluster)


def come_back(cluster: ClusterState) -> None:
    """Take requests again, if no stop follows."""
    if cluster.stops_when_out or cluster.stop_is_announced or cluster.rotation is Rotation.IN:
        return
    cluster.is_drained = False
    was_out = cluster.rotation is Rotation.OUT
    _enter(cluster, Rotation.IN)
    if was_out:
        _set_keep_alive(cluster, is_on=True)


def advance(cluster: ClusterState) -> None:
    """Go on when the announcement is over."""
    if cluster.rotation is Rotation.LEAVING and cluster.due(cluster.out_at):
        _go_out(cluster)
    if cluster.rotation is Rotation.OUT and cluster.stops_when_out:
        cluster.stops_when_out, cluster.stop_is_announced = False, True
        cluster.actions.append(BeginStop())


def _go_out(cluster: ClusterState) -> None:
    _enter(cluster, Rotation.OUT)
    if not cluster.stops_when_out:  # The stop drains them.
        _set_keep_alive(cluster, is_on=False)


def _enter(cluster: ClusterState, rotation: Rotation) -> None:
    cluster.rotation = rotation
    seconds = cluster.out_at - cluster.now if rotation is Rotation.LEAVING else 0.0
    cluster.actions.append(RotationChanged(rotation, cluster.is_drained, cluster.stops_when_out, seconds))


def _set_keep_alive(cluster: ClusterState, *, is_on: bool) -> None:
    """Tell the workers that have served. Others are told when they begin."""
    workers = cluster.table.in_state(*_SERVES_OR_MAY)
    cluster.actions += [SetKeepAlive(worker.serial, is_on) for worker in workers]


def _announce_seconds(cluster: ClusterState) -> float:
    return cluster.table.generations[cluster.serving].settings.announce
