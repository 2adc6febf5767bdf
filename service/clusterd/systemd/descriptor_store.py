"""Descriptors that systemd keeps for the next master: everything by which it goes on if this master dies.

"File Descriptor Store" in the documentation of systemd; sd_notify(3), FDSTORE=1.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from clusterd.log import Logger
from clusterd.records import dataclass
from clusterd.systemd.environment import DESCRIPTOR_STORE_VARIABLE
from clusterd.systemd.notify import Notifier

MOST_BYTES_OF_NAMES = 100_000
"""All names are in one variable of the next master's environment, LISTEN_FDNAMES. execve(2) fails with E2BIG if a
variable is longer than MAX_ARG_STRLEN, 128 KiB. The rest is left to the names of the units' sockets."""
ANSWER_SECONDS = 5.0
"""How long an answer of the manager is waited for, before a process may begin that would not outlive the master."""
_RETRY_SECONDS = 0.01
"""A datagram socket that is not connected is always ready for poll(2), so room in the manager's queue is no event."""

_STATE = "state"


class Kind(StrEnum):
    """What a stored descriptor is for. The values are short, because thousands of names share one variable."""

    STATE = _STATE
    """The state of the master. It is alone, so its name has no number."""
    CHANNEL = "c"
    """The master's end of the channel of a process."""
    STACKS = "s"
    """The memfd in which a process writes its stacks."""
    SHARED = "m"
    """Memory that all processes share: the scoreboard and the arena."""
    WAKEUP = "w"
    LISTENER = "l"
    """A listening socket that the master has bound itself."""


_NAME = re.compile(rf"{_STATE}|(?:{'|'.join(each.value for each in Kind if each is not Kind.STATE)})-([1-9][0-9]*)")


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the unit of this process keeps descriptors."""
    return environ.get(DESCRIPTOR_STORE_VARIABLE) == "yes" and bool(environ.get("NOTIFY_SOCKET"))


def is_stored_name(name: str) -> bool:
    """Return whether a passed descriptor of this name comes from the store, and not from a socket unit.

    No name can be both: a role (`sockets.Role`) is a word without a number, and is not `state`.
    """
    return _NAME.fullmatch(name) is not None


@dataclass(slots=True)
class _Barrier:
    """A question that the manager has not answered yet."""

    descriptor: int
    """The read end of a pipe. It ends when the manager has closed the other end."""
    deadline: asyncio.TimerHandle
    calls: list[Callable[[], None]]


class DescriptorStore:
    """Stores descriptors, each under a name of its own, and tells when systemd has them. It never waits.

    A descriptor that could not be stored does not stop the service. Its process drains when the master dies, as
    without a store.
    """

    def __init__(self, notifier: Notifier, loop: asyncio.AbstractEventLoop, log: Logger) -> None:
        self.names: dict[int, str] = {}
        """The name in the store of each stored descriptor of this process."""
        self._notifier = notifier
        self._loop = loop
        self._log = log
        self._last_number = 0
        self._bytes_of_names = 0
        self._barrier: _Barrier | None = None
        self._next_calls: list[Callable[[], None]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._said: set[str] = set()

    def resume(self, names: Mapping[int, str]) -> None:
        """Go on with the descriptors that systemd has passed to this process, by their numbers here."""
        self.names = dict(names)
        self._bytes_of_names = sum(map(_size, names.values()))
        self._last_number = max(map(_number, names.values()), default=0)

    def add(self, descriptors: Sequence[int], kind: str) -> None:
        """Store the descriptors, all of them or none. Those that are stored are left out.

        Each gets a name of its own. A next master goes on behind the largest number that it finds, and could give one
        again that was removed, but systemd handles all messages in order. Only `state` is given again by this one,
        after its removal. Raises ValueError: `kind` is unknown, or there is a state already.
        """
        added = self._named([each for each in descriptors if each not in self.names], Kind(kind))
        size = sum(map(_size, added.values()))
        if self._bytes_of_names + size > MOST_BYTES_OF_NAMES:
            self._say_once("systemd's store has no room for more names; further processes end when the master dies")
            return
        for descriptor, name in added.items():
            try:
                self._notifier.store(descriptor, name)
            except OSError as error:
                self._say_once(f"no descriptor is free to store another: {error.strerror}")
                self.remove(list(added))
                return
            self.names[descriptor] = name
            self._bytes_of_names += _size(name)
        self._send_the_rest()

    def remove(self, descriptors: Iterable[int]) -> None:
        """Have systemd close its duplicates of these. Those that are not stored are left out."""
        for descriptor in descriptors:
            name = self.names.pop(descriptor, None)
            if name is not None:
                self._notifier.remove(name)
                self._bytes_of_names -= _size(name)
        self._send_the_rest()

    def remove_all(self) -> None:
        """Empty the store, so that what the other ends belong to ends with this master."""
        self.remove(list(self.names))

    def when_stored(self, call: Callable[[], None]) -> None:
        """Call on the loop when systemd has handled everything that was sent until now, or does not answer."""
        self._next_calls.append(call)
        if self._barrier is None:
            self._ask()

    @property
    def is_busy(self) -> bool:
        """Whether the manager has something to answer, or has not taken all messages."""
        return self._barrier is not None or self._notifier.is_waiting

    def close(self) -> None:
        """Wait for nothing more. What was to be called is not called."""
        self._next_calls.clear()
        if self._retry is not None:
            self._retry.cancel()
        if self._barrier is not None:
            self._end(self._barrier)
            self._barrier = None

    # ---- names

    def _named(self, descriptors: Sequence[int], kind: Kind) -> dict[int, str]:
        if kind is Kind.STATE:
            if len(descriptors) > 1 or (descriptors and _STATE in self.names.values()):
                raise ValueError("there is one state")
            return dict.fromkeys(descriptors, _STATE)
        first = self._last_number + 1
        self._last_number += len(descriptors)
        return {descriptor: f"{kind}-{number}" for number, descriptor in enumerate(descriptors, first)}

    # ---- the barrier

    def _ask(self) -> None:
        calls, self._next_calls = self._next_calls, []
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._say_once(f"systemd cannot be asked whether it has stored descriptors: {error.strerror}")
            for call in calls:
                self._loop.call_soon(call)
            return
        deadline = self._loop.call_later(ANSWER_SECONDS, self._is_silent)
        self._barrier = _Barrier(read_end, deadline, calls)
        self._loop.add_reader(read_end, self._has_answered)
        try:
            self._notifier.barrier(write_end)
        except OSError as error:
            self._say_once(f"no descriptor is free to ask systemd whether it has stored others: {error.strerror}")
        finally:
            os.close(write_end)
        self._send_the_rest()

    def _is_silent(self) -> None:
        self._say_once(f"systemd has not said within {ANSWER_SECONDS:g} s that it has stored descriptors; going on")
        self._has_answered()

    def _has_answered(self) -> None:
        barrier, self._barrier = self._barrier, None
        assert barrier is not None
        self._end(barrier)
        if self._next_calls:
            # Before the calls, which may ask for more.
            self._ask()
        for call in barrier.calls:
            call()

    def _end(self, barrier: _Barrier) -> None:
        barrier.deadline.cancel()
        self._loop.remove_reader(barrier.descriptor)
        os.close(barrier.descriptor)

    # ---- sending

    def _send_the_rest(self) -> None:
        """Send again soon what the manager has no room for."""
        if self._retry is None and self._notifier.is_waiting:
            self._retry = self._loop.call_later(_RETRY_SECONDS, self._send_again)

    def _send_again(self) -> None:
        self._retry = None
        self._notifier.flush()
        self._send_the_rest()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._log.warning(text)


def _size(name: str) -> int:
    """Return what a name takes of the variable, with the colon behind it."""
    return len(name) + 1


def _number(name: str) -> int:
    """Return the number in a name, 0 if it has none."""
    found = _NAME.fullmatch(name)
    return int(found[1] or 0) if found else 0
