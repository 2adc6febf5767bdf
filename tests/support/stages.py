"""Checks that every connection of the engine in this process makes only the moves of `stage.MOVES`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clusterd.http.compilation import is_compiled
from clusterd.http.connections.link import Link
from clusterd.http.connections.stage import MOVES, Stage


class _CheckedStage:
    """Stands for the attribute `stage`, and keeps the moves that are not legal."""

    def __init__(self, attribute: Any) -> None:
        self._attribute = attribute
        self.illegal: list[str] = []

    def __get__(self, link: Link | None, owner: type | None = None) -> Any:
        return self if link is None else self._attribute.__get__(link)

    def __set__(self, link: Link, after: Stage) -> None:
        try:
            before = self._attribute.__get__(link)
        except AttributeError:
            pass  # It is set for the first time.
        else:
            if before is not after and after not in MOVES[before]:
                self.illegal.append(f"{before.name} to {after.name}")
        self._attribute.__set__(link, after)


@contextmanager
def only_legal_moves() -> Iterator[None]:
    """For the length of the block. A compiled engine has no attributes that can be replaced: it is not checked."""
    if is_compiled():
        yield
        return
    attribute = Link.__dict__["stage"]
    checked = _CheckedStage(attribute)
    setattr(Link, "stage", checked)  # noqa: B010 - mypy allows no attribute in place of a slot
    try:
        yield
    finally:
        setattr(Link, "stage", attribute)  # noqa: B010
    assert not checked.illegal, checked.illegal
