"""Which connections an engine has, told by each as it comes and goes."""

from collections.abc import Callable
from typing import Any

from clusterd.http.connections.retirement import Retirement
from clusterd.http.connections.stream import Stream
from clusterd.http.ports import Counters


class Registry:
    """Of one engine. `on_movable` takes connections that are to move to another process, `on_closed` those closed."""

    def __init__(
        self,
        counters: Counters,
        on_movable: Callable[[Any], None] | None,
        on_closed: Callable[[Any], None] | None,
    ) -> None:
        self.counters = counters
        self.open: set[Stream] = set()
        self.arriving: set[Stream] = set()
        """Those that are being set up, of which nothing more can be read yet."""
        self.retirement = Retirement(self.open, on_movable)
        self._on_closed = on_closed

    @property
    def load(self) -> int:
        """How many there are, those being set up included."""
        return len(self.open) + len(self.arriving)

    def opened(self, connection: Stream) -> None:
        """A connection is set up."""
        self.arriving.discard(connection)
        self.open.add(connection)
        self.counters.connections_changed(len(self.open))

    def closed(self, connection: Stream) -> None:
        """A connection is no more."""
        self.open.discard(connection)
        self.counters.connections_changed(len(self.open))
        if self._on_closed is not None:
            self._on_closed(connection)
