"""What becomes of the workers, in the words that a program's handlers are told it: those of Node's cluster.

`Cluster` is told in its own process, a hooks process in another; both hear the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clusterd.master.admin.event_log import code_and_signal
from clusterd.master.children.table import Children
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.states import FAILURES
from clusterd.wire.hooks import EXIT, FORK, MESSAGE, State, WorkerEvent


class WorkerEvents:
    """Knows how every worker is, from the order to fork it on, and tells what changes."""

    def __init__(self, children: Children, addresses: list[str], tell: Callable[[WorkerEvent], None]) -> None:
        self._children = children
        self._addresses = addresses
        self._tell = tell
        self._last: dict[int, WorkerEvent] = {}
        """By serial."""

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to hear this."""
        match event:
            case events.WorkerHello(serial, pid) if serial in self._last:
                self._change(serial, "online", pid=pid)

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided this, and it was done."""
        match action:
            case actions.Fork(serial):
                self._forked(serial)
            case actions.Serve(serial) if serial in self._last:
                self._change(serial, "listening", (list(self._addresses),), is_connected=True, is_listening=True)
            case actions.Retire(serial) if serial in self._last:
                self._disconnect(serial)
            case actions.WorkerEnded(serial) if serial in self._last:
                self._disconnect(serial)
                left = action.reason not in FAILURES
                self._change(serial, EXIT, code_and_signal(action.code), is_dead=True, left_when_asked=left)
                del self._last[serial]

    def message(self, serial: int, value: Any) -> WorkerEvent:
        """That a worker's application has said this; nobody is told."""
        return replace(self._last[serial], name=MESSAGE, arguments=(value,))

    def _forked(self, serial: int) -> None:
        child = self._children.get(serial)
        if child is not None:  # otherwise it could not be forked: there never was a worker
            self._last[serial] = WorkerEvent(FORK, serial, child.slot, child.generation, State())
            self._tell(self._last[serial])

    def _disconnect(self, serial: int) -> None:
        if self._last[serial].state.is_connected:
            self._change(serial, "disconnect", is_connected=False)

    def _change(self, serial: int, name: str, arguments: tuple[Any, ...] = (), **changes: Any) -> None:
        before = self._last[serial]
        worker_event = replace(before, name=name, state=replace(before.state, **changes), arguments=arguments)
        self._last[serial] = worker_event
        self._tell(worker_event)
