"""Writes the state of the master where it outlives it, and has systemd keep what it consists of.

The state is written before anything is done that follows from it, and before anything is shown that is counted in it.
Without systemd's store there is no next master that could go on, and nothing of this happens.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.takeover.state_file import LeaseLost, StateFile
from clusterd.supervisor.actions import Action
from clusterd.supervisor.decisions.stopping import ExitStatus
from clusterd.systemd.descriptor_store import DescriptorStore
from clusterd.systemd.descriptor_store import Kind as StoredKind

SETTLED_SECONDS = 10.0
"""How long a master serves before a crash has nothing to do with the state that it has taken over."""


class Keeper:
    """Owns the file with the state. `store` is None where nothing outlives the master; every method then does nothing,
    or at once what it is to do later.
    """

    def __init__(self, store: DescriptorStore | None, loop: asyncio.AbstractEventLoop, log: Logger) -> None:
        self._store = store
        self._loop = loop
        self._log = log
        self._file: StateFile | None = None
        self._collect: Callable[[Sequence[Action]], bytes] | None = None
        self._then: list[Callable[[], None]] = []
        self._will_write = False

    @property
    def is_busy(self) -> bool:
        """Whether systemd has not said yet that it keeps what it was given."""
        return self._store is not None and self._store.is_busy

    @property
    def names(self) -> dict[int, str]:
        """The descriptors that systemd keeps, and their names in the store."""
        return {} if self._store is None else dict(self._store.names)

    def begin(self, collect: Callable[[Sequence[Action]], bytes], file: StateFile | None) -> None:
        """Write the state from now on: `collect` returns its text. `file` is an earlier master's. Raises OSError."""
        if self._store is None:
            return
        if file is None:
            file = StateFile.create()
            self._store.add([file.descriptor], StoredKind.STATE)
        self._file, self._collect = file, collect

    def resume(self, names: Mapping[int, str]) -> None:
        """Go on with what systemd keeps already: the names of these descriptors."""
        if self._store is not None:
            self._store.resume(names)

    def has_taken_over(self) -> None:
        """Note that the take-over is over, and did not fail. A crash may still follow from what was taken over."""
        if self._file is not None:
            self._file.has_gone_on()
            self._loop.call_later(SETTLED_SECONDS, self._file.is_settled)

    def keep(self, descriptors: Sequence[int], kind: StoredKind) -> None:
        """Have systemd keep these, unless it does."""
        if self._store is not None:
            self._store.add(descriptors, kind)

    def forget(self, descriptors: Iterable[int]) -> None:
        """Have systemd close its duplicates of these."""
        if self._store is not None:
            self._store.remove(descriptors)

    def when_kept(self, child: Child, call: Callable[[], None]) -> None:
        """Call when a process would outlive this master: systemd keeps its channel, and it is in the state.

        `call` gives it its first order. It is not called if the process is dead by then.
        """
        if self._store is None:
            call()
        else:
            self._store.when_stored(lambda: self._is_kept(child, call))

    def _is_kept(self, child: Child, call: Callable[[], None]) -> None:
        if child.channel is None:
            return
        if child.kind is Kind.TEMPLATE:
            # One that imports for a state that does not know it wastes an import. One that waits for its order for
            # ever would hold up a rollout.
            call()
            child.is_kept = True
            self.write()
        else:
            child.is_kept = True
            # Its row must be its own in every state. All that are stored by now are written at once.
            self.after_write(lambda: call() if child.channel is not None else None)

    def write(self, pending: Sequence[Action] = ()) -> None:
        """Write the state. `pending` are the actions that follow from it and are not carried out yet."""
        then, self._then = self._then, []
        if self._collect is not None and self._file is not None:
            try:
                self._file.write(self._collect(pending))
            except LeaseLost:
                self._log.error("another master commands the workers: this one ends")
                self._log.finish()
                os._exit(ExitStatus.TEMPORARY)
            except OSError as error:
                self._log.error(f"the state cannot be kept for a next master: {error.strerror}")
        for call in then:
            call()

    def write_soon(self) -> None:
        """Write in the next turn of the loop what has changed in this one."""
        if self._collect is not None and not self._will_write:
            self._will_write = True
            self._loop.call_soon(self._write_now)

    def _write_now(self) -> None:
        self._will_write = False
        self.write()

    def after_write(self, call: Callable[[], None]) -> None:
        """Call when the state is written that does not need any more what `call` destroys."""
        if self._collect is None:
            call()
        else:
            self._then.append(call)
            self.write_soon()

    def end(self) -> None:
        """The service ends as it was asked to. There is nothing to go on with."""
        self._collect = None
        if self._store is not None:
            self._store.remove_all()
