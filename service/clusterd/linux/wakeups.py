"""Lets processes wake each other without a message, by eventfd(2) descriptors that all processes inherit."""

import os
from collections.abc import Sequence

WAKEUPS = 16
"""With more processes than this, several share one eventfd. One of them may wake for nothing, and sleeps again."""


class Wakeups:
    """The eventfds. Each process waits on one, chosen by its number, and can wake every other process."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.descriptors = tuple(descriptors)

    @classmethod
    def create(cls) -> "Wakeups":
        """Create the eventfds. They are closed at exec unless they are passed on."""
        return cls([os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(WAKEUPS)])

    def of(self, number: int) -> int:
        """Return the descriptor that becomes readable when the process with that number is woken."""
        return self.descriptors[number % len(self.descriptors)]

    def wake(self, number: int) -> None:
        """Wake the process with that number."""
        try:
            os.eventfd_write(self.of(number), 1)
        except BlockingIOError:
            pass  # the counter is full: the process was woken 2**64 times and has not reacted, so once more is useless


def silence(descriptor: int) -> None:
    """Reset the descriptor after a wake-up."""
    try:
        os.eventfd_read(descriptor)
    except BlockingIOError:
        pass  # another process with the same eventfd was faster
