"""The connections of an engine. Each connection reports when it is opened and closed."""

from collections.abc import Callable
from typing import Any

from clusterd.http.connections.retirement import Retirement
from clusterd.http.connections.stream import Stream
from clusterd.http.in_hand import InHand
from clusterd.http.ports import Counters


class Registry:
    """One for each engine. `on_movable` takes connections that should move to another process, `on_closed` those that
    have closed.
    """

    def __init__(
        self,
        counters: Counters,
        in_hand: InHand,
        on_movable: Callable[[Any], None] | None,
        on_closed: Callable[[Any], None] | None,
    ) -> None:
        self.counters = counters
        self.in_hand = in_hand
        self.open: set[Stream] = set()
        self.arriving: set[Stream] = set()
        """Connections that are being set up. The engine cannot read more from them yet."""
        self.retirement = Retirement(self.open, on_movable)
        self._tunnels = 0
        self._on_closed = on_closed

    @property
    def load(self) -> int:
        """Number of connections, including those that are being set up."""
        return len(self.open) + len(self.arriving)

    def opened(self, connection: Stream) -> None:
        """Add a connection that is set up."""
        self.arriving.discard(connection)
        self.open.add(connection)
        self.counters.connections_changed(len(self.open))

    def tunnels_changed(self, change: int) -> None:
        """Count connections that carry another protocol, which is that of WebSockets."""
        self._tunnels += change
        self.counters.websockets_changed(self._tunnels)

    def closed(self, connection: Stream) -> None:
        """Remove a closed connection."""
        self.open.discard(connection)
        self.counters.connections_changed(len(self.open))
        if self._on_closed is not None:
            self._on_closed(connection)
