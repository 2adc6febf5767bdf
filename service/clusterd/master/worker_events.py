"""What becomes of the workers, in the words of Node's cluster: the one source of what is told about them."""

from collections.abc import Callable
from dataclasses import replace
from signal import Signals
from typing import Any

from clusterd.master.children.table import Children
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.states import FAILURES
from clusterd.wire.hooks import EXIT, FORK, MESSAGE, State, WorkerEvent


class WorkerEvents:
    """Knows how every worker is, from the order to fork it on, and calls `tell` with what changes."""

    def __init__(self, children: Children, addresses: list[str], tell: Callable[[WorkerEvent], None]) -> None:
        self._children = children
        self._addresses = addresses
        self._tell = tell
        self._last: dict[int, WorkerEvent] = {}
        """By serial."""

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to decide about `event`."""
        match event:
            case events.WorkerHello(serial, pid) if serial in self._last:
                self._change(serial, "online", pid=pid)

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided on `action`, and it was carried out."""
        match action:
            case actions.Fork(serial):
                self._forked(serial)
            case actions.Serve(serial) if serial in self._last:
                self._change(serial, "listening", (list(self._addresses),), is_connected=True, is_listening=True)
            case actions.Retire(serial) if serial in self._last:
                self._disconnect(serial)
            case actions.WorkerEnded(serial) if serial in self._last:
                self._disconnect(serial)
                self._ended(action)

    def message(self, serial: int, value: Any) -> WorkerEvent:
        """That a worker's application has sent `value`; nobody is told."""
        return replace(self._last[serial], name=MESSAGE, arguments=(value,))

    def _forked(self, serial: int) -> None:
        child = self._children.get(serial)
        if child is not None:  # otherwise it could not be forked: there never was a worker
            self._last[serial] = WorkerEvent(FORK, serial, child.slot, child.generation, State())
            self._tell(self._last[serial])

    def _disconnect(self, serial: int) -> None:
        """Once, however often it is ordered to drain."""
        if self._last[serial].state.is_connected:
            self._change(serial, "disconnect", is_connected=False)

    def _ended(self, ended: actions.WorkerEnded) -> None:
        left = ended.reason not in FAILURES
        self._last[ended.serial] = replace(self._last[ended.serial], reason=ended.reason.value, how=ended.how)
        self._change(ended.serial, EXIT, _code_and_signal(ended.code), is_dead=True, left_when_asked=left)
        del self._last[ended.serial]

    def _change(self, serial: int, name: str, arguments: tuple[Any, ...] = (), **changes: Any) -> None:
        before = self._last[serial]
        worker_event = replace(before, name=name, state=replace(before.state, **changes), arguments=arguments)
        self._last[serial] = worker_event
        self._tell(worker_event)


def _code_and_signal(code: int | None) -> tuple[int | None, str | None]:
    """The exit status and the name of the signal, of which one is None; both for what never was a process."""
    if code is None or code >= 0:
        return code, None
    try:
        return None, Signals(-code).name
    except ValueError:
        return None, f"signal {-code}"
