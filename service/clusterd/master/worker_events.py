"""The events of the workers, named as in Node's cluster module.

This is their only source: the event log, the hooks and `Cluster` receive them from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from signal import Signals
from typing import Any

from clusterd.master.children.in_hand import told
from clusterd.master.children.table import Children
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.states import FAILURES
from clusterd.wire.hooks import EXIT, FORK, MESSAGE, State, WorkerEvent


class WorkerEvents:
    """Keeps the state of every worker from its fork to its end. Calls `tell` with each change."""

    def __init__(self, children: Children, addresses: list[str], tell: Callable[[WorkerEvent], None]) -> None:
        self._children = children
        self._addresses = addresses
        self._tell = tell
        self._last: dict[int, WorkerEvent] = {}
        """The last event of each living worker, by serial."""

    def kept(self) -> dict[int, WorkerEvent]:
        """The last event of each living worker, by serial, with which another program of the master goes on."""
        return dict(self._last)

    def resume(self, last: Mapping[int, WorkerEvent]) -> None:
        """Go on with what an earlier program of the master has kept. Nothing is told again."""
        self._last.update(last)

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to process `event`."""
        match event:
            case events.WorkerHello(serial, pid) if serial in self._last:
                self._change(serial, "online", pid=pid)

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided on `action`, and the executor has carried it out."""
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
        """The event of a message `value` from the application in a worker. `tell` is not called."""
        return replace(self._last[serial], name=MESSAGE, arguments=(value,))

    def _forked(self, serial: int) -> None:
        child = self._children.get(serial)
        if child is not None:  # Otherwise the fork failed, and no worker exists.
            self._last[serial] = WorkerEvent(FORK, serial, child.slot, child.generation, State())
            self._tell(self._last[serial])

    def _disconnect(self, serial: int) -> None:
        """Report the disconnect once, even if the worker is told several times to drain."""
        if self._last[serial].state.is_connected:
            self._change(serial, "disconnect", is_connected=False)

    def _ended(self, ended: actions.WorkerEnded) -> None:
        left = ended.reason not in FAILURES
        self._last[ended.serial] = replace(self._last[ended.serial], reason=ended.reason.value, how=ended.how)
        self._change(
            ended.serial,
            EXIT,
            _code_and_signal(ended.code),
            is_dead=True,
            left_when_asked=left,
            cause=None if ended.cause is None else ended.cause.value,
            lost=0 if ended.cause is None else ended.held.lost,
            requests=tuple(told(ended.held)),
        )
        del self._last[ended.serial]

    def _change(self, serial: int, name: str, arguments: tuple[Any, ...] = (), **changes: Any) -> None:
        before = self._last[serial]
        worker_event = replace(before, name=name, state=replace(before.state, **changes), arguments=arguments)
        self._last[serial] = worker_event
        self._tell(worker_event)


def _code_and_signal(code: int | None) -> tuple[int | None, str | None]:
    """The exit status and the name of the signal. One of them is None; both are if the worker never had a process."""
    if code is None or code >= 0:
        return code, None
    try:
        return None, Signals(-code).name
    except ValueError:
        return None, f"signal {-code}"
