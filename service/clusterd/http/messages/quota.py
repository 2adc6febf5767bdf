"""A number of bytes that many share."""


class Quota:
    """Bytes of memory for all connections of a worker together."""

    __slots__ = ("_left", "dropped")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.dropped = 0
        """Bytes that were given back without having been used, since this was last set to 0."""

    def take(self, count: int) -> bool:
        """Use `count` bytes more, or fewer if it is negative. Returns whether there were as many left."""
        self._left -= count
        return count <= 0 or self._left >= 0
