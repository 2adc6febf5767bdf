"""What has been worked out once and is likely to be asked for again: clients and applications repeat themselves."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory(dict[Key, Value], Generic[Key, Value]):
    """A dictionary that forgets everything when it is full.

    Not the least recently used: the order would have to be kept with every look, and what matters is back at once.
    Look with `get`, which costs as much as for any dictionary, and add with `remember`.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def remember(self, key: Key, value: Value) -> None:
        """Add an entry."""
        if len(self) >= self._most:
            self.clear()
        self[key] = value
