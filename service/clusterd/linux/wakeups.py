"""How processes wake each other up without a message: eventfd(2), inherited by all."""

import os
from collections.abc import Sequence

WAKEUPS = 16
"""More processes than there are share one eventfd: one too many is woken then, looks, and sleeps on."""


class Wakeups:
    """Each process waits on one eventfd, chosen by its number, and can wake every other."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.descriptors = tuple(descriptors)

    @classmethod
    def create(cls) -> "Wakeups":
        """New ones, closed on an exec unless they are passed on."""
        return cls([os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(WAKEUPS)])

    def of(self, number: int) -> int:
        """The descriptor that is readable when the process with that number is rung."""
        return self.descriptors[number % len(self.descriptors)]

    def wake(self, number: int) -> None:
        """Wake the process with that number."""
        try:
            os.eventfd_write(self.of(number), 1)
        except BlockingIOError:
            pass  # it was rung 2**64 times and has not listened: it will not hear this one either


def silence(descriptor: int) -> None:
    """The ringing has been heard."""
    try:
        os.eventfd_read(descriptor)
    except BlockingIOError:
        pass  # another process with the same eventfd was faster
