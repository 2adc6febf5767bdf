"""What the master looks at a few times a second, whatever becomes of each look.

What hangs is found here, and what a stop waits for: one look that fails, such as for want of a descriptor, must not end
them all.
"""

import asyncio
from collections.abc import Callable, Sequence

from clusterd.log import Logger
from clusterd.master.health.punctuality import LOOK_EVERY_SECONDS


class Looks:
    """Calls each of `looks` in order, again and again, on the loop. A failure is logged when it is not the last one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, looks: Sequence[Callable[[], None]], log: Logger) -> None:
        self._loop = loop
        self._looks = tuple(looks)
        self._log = log
        self._failed: dict[Callable[[], None], str] = {}

    def look(self) -> None:
        """Look once, and from then on again."""
        self._loop.call_later(LOOK_EVERY_SECONDS, self.look)
        for look in self._looks:
            try:
                look()
            except Exception as error:
                text = repr(error)
                if self._failed.get(look) != text:
                    self._failed[look] = text
                    self._log.exception("a look at the cluster failed", error)
            else:
                self._failed.pop(look, None)
