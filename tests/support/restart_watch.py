"""Watches over a simulated cluster: a worker that had been ready is restarted in time."""

from dataclasses import dataclass, field

from clusterd.supervisor import actions
from clusterd.supervisor.model.cluster import ClusterState, Phase

LONGEST_SPACING = 1.0
TOLERANCE = 1e-6


@dataclass
class RestartWatch:
    """The slots that wait for a restart, known from the actions alone, and the time that they have waited."""

    newest: dict[tuple[int, int], int] = field(default_factory=dict)
    """The serial of the last worker that was forked, by slot and generation."""
    served: set[int] = field(default_factory=set)
    """The workers that have been ready."""
    since: dict[int, float] = field(default_factory=dict)
    patience: dict[int, float] = field(default_factory=dict)
    """How long each slot may wait: its place in the line, at the longest spacing there is."""
    last_fork: float = 0.0
    spacing: float = LONGEST_SPACING

    def note(self, action: actions.Action, now: float) -> None:
        match action:
            case actions.Fork(serial, _, slot, generation):
                self.newest[slot, generation] = serial
                if slot in self.since:
                    self.last_fork = now
            case actions.Serve(serial):
                self.served.add(serial)

    def look(self, cluster: ClusterState, now: float) -> None:
        """After a step: which slots wait from now on."""
        waiting = [slot for slot in cluster.slots() if self._waits(cluster, slot)]
        self.since = {slot: self.since.get(slot, now) for slot in waiting}
        for slot in waiting:
            self.patience.setdefault(slot, len(waiting) * LONGEST_SPACING)
        self.patience = {slot: self.patience[slot] for slot in waiting}
        if cluster.serving:
            self.spacing = cluster.restart_limit().spacing

    def _waits(self, cluster: ClusterState, slot: int) -> bool:
        goal = cluster.goal(slot)
        return (
            cluster.phase is Phase.RUNNING
            and cluster.table.heir(slot, goal) is None
            and cluster.table.forkable(goal) is not None
            and self.newest.get((slot, goal)) in self.served
        )

    def complaint(self, now: float) -> str:
        """Before a step at `now`: what has waited for too long by then, or nothing."""
        if not self.since:
            return ""
        if now - max(self.last_fork, min(self.since.values())) > self.spacing + TOLERANCE:
            return f"a worker that had been ready is restarted within {self.spacing:g} s: {self.since}"
        late = [slot for slot, since in self.since.items() if now - since > self.patience[slot] + TOLERANCE]
        return f"restarts come in turn: {late}" if late else ""
