"""`clusterctl drain` and `undrain`: the requests, what is done of them, and who waits for the end."""

from collections.abc import Callable

from clusterd.master.admin.control import Peer
from clusterd.master.context import MasterContext
from clusterd.master.rotation.kept import KeptDrain
from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import WorkerState

_WITH_CONNECTIONS = (WorkerState.READY, WorkerState.RETIRED, WorkerState.DRAINING)
BACK = "`clusterctl undrain` takes it back"


@dataclass(frozen=True, slots=True)
class Left:
    """What the workers still have of clients."""

    requests: int
    connections: int

    def __str__(self) -> str:
        return f"{_count(self.requests, 'request')} and {_count(self.connections, 'connection')}"


NOTHING = Left(0, 0)


class Draining:
    """Passes the requests to the supervisor, carries out what it decides, and answers those who wait."""

    def __init__(self, context: MasterContext, kept: KeptDrain) -> None:
        self._context = context
        self._cluster = context.cluster
        self._kept = kept
        self._waiting: list[Peer] = []
        self._asked_at = 0.0
        """When the last of them has asked: it has as much time as the first."""

    # ---- requests

    def drain(self, peer: Peer, *, wait: bool) -> None:
        """Take the service out of the rotation. Answer at once, or when nothing is left, or too much after too long."""
        if why := self._why_not():
            peer.fail(why)
            return
        self._context.post_event(events.DrainAsked())
        if wait:
            self._waiting.append(peer)
            self._asked_at = self._context.loop.time()
            self.look()
        else:
            seconds = self._cluster.out_at - self._cluster.now
            when = f"in {seconds:g} s" if self._cluster.rotation is Rotation.LEAVING and seconds > 0 else "now"
            peer.succeed(f"drained: balancers are told, and connections are closed from {when} on; {BACK}")

    def undrain(self, peer: Peer) -> None:
        """Put the service back."""
        if why := self._why_not():
            peer.fail(why)
        elif self._cluster.rotation is Rotation.IN:
            peer.succeed("it was not drained")
        else:
            self._context.post_event(events.UndrainAsked())
            peer.succeed("in rotation again")

    def _why_not(self) -> str:
        cluster = self._cluster
        if cluster.is_stopping or cluster.stops_when_out:
            return "clusterd stops"
        if self._context.configurations.of(cluster.serving).run is not None:
            return "run: serves no requests, so balancers send none"
        return ""

    # ---- what is decided

    def changed(self, change: actions.RotationChanged) -> None:
        """Log and keep that the rotation has changed."""
        self._kept.keep(is_drained=change.is_drained)
        self._context.log.notice(_in_words(change))

    # ---- what is left

    @property
    def is_empty(self) -> bool:
        """Whether the workers have no connection and no request."""
        return self._left() == NOTHING

    # ---- those who wait

    def look(self) -> None:
        """Answer those who wait, if there is an answer. Called a few times a second."""
        if not self._waiting:
            return
        left, rotation = self._left(), self._cluster.rotation
        if why := self._why_not() or ("it was taken back" if rotation is Rotation.IN else ""):
            self._answer(Peer.fail, f"not drained: {why}")
        elif rotation is Rotation.OUT and left == NOTHING:
            self._answer(Peer.succeed, f"drained: nothing is left; {BACK}")
        elif rotation is Rotation.OUT and self._is_too_late():
            self._answer(Peer.fail, f"drained, but {left} are left after timeouts.drain; {BACK}")
        else:
            for peer in self._waiting:
                peer.leave_if_hung_up()
                peer.progress(f"{rotation.value}: {left} left")
            self._waiting = [peer for peer in self._waiting if not peer.is_gone]

    def _answer(self, how: Callable[[Peer, str], None], text: str) -> None:
        waiting, self._waiting = self._waiting, []
        for peer in waiting:
            how(peer, text)

    def _is_too_late(self) -> bool:
        drain = self._context.configurations.of(self._cluster.serving).timeouts.drain
        return self._context.loop.time() > max(self._cluster.out_at, self._asked_at) + drain

    def _left(self) -> Left:
        requests = connections = 0
        for worker in self._cluster.table.in_state(*_WITH_CONNECTIONS):
            child = self._context.children.get(worker.serial)
            if child is not None and child.row is not None:
                row = self._context.scoreboard.row(child.row)
                requests += row.in_flight
                connections += row.connections
        return Left(requests, connections)


def _in_words(change: actions.RotationChanged) -> str:
    match change.rotation:
        case Rotation.IN:
            return "in rotation: /readyz and the agent are ready for requests"
        case Rotation.LEAVING:
            then = "clusterd stops then" if change.stops else "connections are closed then"
            return f"leaving the rotation: everything is served as before for {change.seconds:g} s; {then}"
        case Rotation.OUT:
            return "out of rotation" if change.stops else f"out of rotation: what still comes is answered; {BACK}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
