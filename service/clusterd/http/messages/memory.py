"""A bounded cache for results that are likely to be needed again: clients and applications repeat themselves."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory(dict[Key, Value], Generic[Key, Value]):
    """A dictionary that clears itself when it is full.

    It does not evict the least recently used entry: that would require bookkeeping at every lookup, and after a clear
    the entries in use return at once. Look up with `get`, at the cost of a plain dictionary, and add with `remember`.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def remember(self, key: Key, value: Value) -> None:
        """Add an entry, and clear the cache first if it is full."""
        if len(self) >= self._most:
            self.clear()
        self[key] = value
