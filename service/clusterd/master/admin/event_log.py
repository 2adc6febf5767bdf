"""The event log: the last events of the cluster, for `clusterctl events`."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from clusterd.master.children.child import Child
from clusterd.supervisor import actions
from clusterd.wire.control import event_line
from clusterd.wire.hooks import EXIT, WorkerEvent

REMEMBERED = 200
REMEMBERED_MESSAGES = 50
"""Messages have a limit of their own, so that an application that sends many does not displace the other events."""

MESSAGE_BYTES = 500
"""The length up to which the event of a message contains the message, as JSON. A longer message is truncated."""

Event = dict[str, Any]


class EventLog:
    """Keeps the last events, numbered, and passes each new one to the followers. Names follow Node's cluster module."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=REMEMBERED)
        self._messages: deque[Event] = deque(maxlen=REMEMBERED_MESSAGES)
        self._number = 0
        self._followers: dict[object, Callable[[bytes], None]] = {}
        self._is_reloading = False

    @property
    def events(self) -> list[Event]:
        """The events that are kept, the oldest first."""
        return sorted((*self._events, *self._messages), key=lambda event: int(event["number"]))

    def kept(self) -> tuple[int, tuple[Event, ...], tuple[Event, ...]]:
        """What another program of the master goes on with: the number of the last event, the events, the messages."""
        return self._number, tuple(self._events), tuple(self._messages)

    def resume(self, number: int, remembered: Iterable[Event], messages: Iterable[Event]) -> None:
        """Go on with what an earlier program of the master has kept."""
        self._number = number
        self._events.extend(remembered)
        self._messages.extend(messages)

    def follow(self, who: object, tell: Callable[[bytes], None]) -> None:
        """Call `tell` with every event from now on, as a line of the control socket's protocol. `who` is the key."""
        self._followers[who] = tell

    def unfollow(self, who: object) -> None:
        """Stop calling the function of `who`. Can be called again."""
        self._followers.pop(who, None)

    def note(self, name: str, **fields: object) -> None:
        """Add an event."""
        self._notify(self._events, name, fields)

    def note_message(self, child: Child, value: Any) -> None:
        """Add a message of the application in a worker.

        The event of a long message has the first MESSAGE_BYTES characters of its JSON as a string, and its length.
        """
        text = json.dumps(value)
        said = {"data": value} if len(text) <= MESSAGE_BYTES else {"data": text[:MESSAGE_BYTES], "bytes": len(text)}
        self._notify(self._messages, "message", {**child.fields(), **said})

    def _notify(self, remembered: deque[Event], name: str, fields: dict[str, Any]) -> None:
        self._number += 1
        event = {"number": self._number, "time": round(time.time(), 3), "event": name, **fields}
        remembered.append(event)
        if self._followers:
            line = event_line(event)
            for tell in list(self._followers.values()):
                tell(line)

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """Add a worker event."""
        who = worker_event.fields()
        if worker_event.name == EXIT:
            code, by = worker_event.arguments
            how = {"reason": worker_event.reason, "how": worker_event.how, "code": code, "signal": by}
            state = worker_event.state
            self.note(EXIT, **who, **how, cause=state.cause, lost=state.lost, requests=list(state.requests))
        else:
            self.note(worker_event.name, **who)

    def note_action(self, action: actions.Action) -> None:
        """Add the event of a decision of the supervisor, if that decision has one."""
        match action:
            case actions.Scaled(before, workers, cause, reason) if workers != before:
                self.note("scale", workers=workers, before=before, cause=cause.value, reason=reason)
            case actions.Suspect(request, deaths, seconds):
                self.note("suspect", request=request, deaths=deaths, seconds=seconds)
            case actions.Announce(what):
                self._is_reloading = False
                self.note(what.value)
            case actions.RotationChanged(rotation):
                self.note("rotation", rotation=rotation.name.lower())
            case actions.RolloutStarted(number):
                self._is_reloading = True
                self.note("rollout", rollout=number)
                self.note("reloading")
            case actions.RolloutEnded(number, generation, failure):
                if self._is_reloading:  # False if a stop has interrupted the reload.
                    self._is_reloading = False
                    self.note("ready")
                self.note("rollout_end", rollout=number, generation=generation, failure=failure)
            case actions.RestartEnded(_, slot, failure):
                self.note("restart_end", slot=slot, failure=failure)
