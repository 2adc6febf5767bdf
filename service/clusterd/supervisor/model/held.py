"""The requests that a worker had in hand when it died, and what it died of."""

from enum import StrEnum

from clusterd.records import dataclass


class Cause(StrEnum):
    """What a worker with requests in hand died of: the `reason` of lost requests in the metrics."""

    HANG = "hang"
    """clusterd killed it because it made no progress."""
    SIGNAL = "signal"
    """A signal that clusterd did not send killed it."""
    MEMORY = "memory"
    """The kernel killed it because memory ran out."""
    EXIT = "exit"
    """It exited, and clusterd had not asked for that."""
    DRAIN = "drain"
    """Its requests were cut at the end of its drain."""
    KILLED = "killed"
    """An operator or a program killed it."""
    STOP = "stop"
    """clusterd killed it at a stop that does not wait, or in a rollout that was withdrawn."""


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """One request. `age` is in seconds. A target has no query, unless log.targets says so."""

    method: str
    target: str
    age: float
    peer: str
    is_websocket: bool = False
    """A WebSocket that was open. It is not counted as lost, because its request was answered."""
    is_left: bool = False
    """Its client had gone, or had been answered by the server, and only the application went on with it."""

    @property
    def name(self) -> str:
        """The method and the path."""
        return f"{self.method} {self.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Held:
    """The requests of one worker, the oldest first, and how many more there were."""

    requests: tuple[HeldRequest, ...] = ()
    unnamed: int = 0

    @property
    def lost(self) -> int:
        """How many requests their clients have lost."""
        return self.unnamed + sum(not (each.is_websocket or each.is_left) for each in self.requests)

    @property
    def names(self) -> tuple[str, ...]:
        """The requests that may have killed the worker: all but WebSockets, which are open at every death."""
        return tuple(each.name for each in self.requests if not each.is_websocket)


NOTHING_HELD = Held()
