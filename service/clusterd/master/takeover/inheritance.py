"""What systemd passes to a master whose predecessor is dead, and whether it can go on with it."""

import os
import select
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from clusterd.log import Logger
from clusterd.master.takeover.owners import configuration_that_serves
from clusterd.master.takeover.state import Cause, MasterState, Succession, from_text
from clusterd.master.takeover.state_file import LEASE_SECONDS, LeaseHeld, StateFile, TakeoverError
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.snapshot import SnapshotError, pending_in, restore
from clusterd.systemd.descriptor_store import ANSWER_SECONDS, Kind, is_wanted
from clusterd.systemd.environment import runtime_directory
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import stored_descriptors
from clusterd.systemd.stopping import take_note_of_death

_LOOK_SECONDS = 0.01
_GOES_ON = (Phase.RUNNING, Phase.STOPPING)


def left_by_dead_master(passed: Sequence[tuple[int, str]], log: Logger) -> Succession | None:
    """Return what a dead master has left, if there is any with which this one can go on.

    Of what it cannot go on with, everything is closed: its workers answer what they have, and end.
    """
    stored = stored_descriptors(passed)
    if not stored:
        return None
    try:
        if not is_wanted(os.environ):
            raise TakeoverError("this unit does not keep descriptors any more")
        if Kind.STATE not in stored:
            raise TakeoverError("it has left no state")
        if not _are_listeners_of(stored, passed):
            raise TakeoverError("systemd passes other sockets than to it")
        file = _take(stored[Kind.STATE], log)
        state = from_text(file.read()).passed_on(stored)
        configuration_that_serves(state)
        pending_in(state.cluster)
        if restore(state.cluster).cluster.phase not in _GOES_ON:
            raise TakeoverError("the service had not started, or had ended")
    except (TakeoverError, SnapshotError, OSError) as error:
        log.warning(f"the last master has died, and its workers drain, because this one cannot go on: {error}")
        _abandon(stored)
        return None
    for descriptor, name in passed:
        if name not in stored:
            os.close(descriptor)  # The store has another descriptor of each.
    return Succession(Cause.DEATH, state, file)


def _are_listeners_of(stored: Mapping[str, int], passed: Iterable[tuple[int, str]]) -> bool:
    """Whether each socket that the units pass is one with which the processes of the dead master serve."""
    known = {os.fstat(descriptor).st_ino for name, descriptor in stored.items() if name.startswith(f"{Kind.LISTENER}-")}
    return all(os.fstat(descriptor).st_ino in known for descriptor, name in passed if name not in stored)


def _take(descriptor: int, log: Logger) -> StateFile:
    """Take the file with the state. Raises TakeoverError, OSError.

    The service manager has given up a master that lives on, such as one that is stopped, and its descriptors are given
    to this one. It is killed, because once it were continued there would be two.
    """
    died_by_itself = take_note_of_death(runtime_directory(os.environ))
    try:
        return StateFile.take(descriptor, died_by_itself=died_by_itself)
    except LeaseHeld:
        pid = StateFile.kill_holder(descriptor)
        if pid is not None:
            log.warning(f"the last master did not end, and was killed after {LEASE_SECONDS:g} s", pid=pid)
        return StateFile.take(descriptor, died_by_itself=died_by_itself)


def _abandon(stored: Mapping[str, int]) -> None:
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
    for name, descriptor in stored.items():
        notifier.remove(name)
        os.close(descriptor)
    # Until systemd has closed its own, clients could connect to a control socket on which no master answers.
    gone, barrier = os.pipe()
    notifier.barrier(barrier)
    os.close(barrier)
    with ExitStack() as opened:
        opened.callback(os.close, gone)
        opened.callback(notifier.close)
        until = time.monotonic() + ANSWER_SECONDS
        while not notifier.flush() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        waiting = select.poll()
        waiting.register(gone, select.POLLIN)
        waiting.poll(1000 * max(0.0, until - time.monotonic()))


def state_file_of(state: MasterState) -> StateFile | None:
    """Return the file with the state that systemd keeps, if it does, for another program in the same process."""
    descriptor = next((number for number, name in state.stored.items() if name == Kind.STATE), None)
    return None if descriptor is None else StateFile.go_on(descriptor)
