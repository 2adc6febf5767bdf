"""The looks of the master go on, whatever becomes of one."""

from collections.abc import Callable
from typing import Any

from clusterd.log import Level, Logger
from clusterd.log.sink import Sink
from clusterd.master.looks import Looks


class Loop:
    """Remembers what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)


def test_one_that_fails_ends_neither_the_others_nor_itself_and_is_said_once() -> None:
    loop: Any = Loop()
    seen: list[str] = []
    records: list[bytes] = []

    def fails() -> None:
        seen.append("fails")
        if len(seen) < 6:
            raise OSError(24, "Too many open files")

    def sent(payload: bytes) -> bool:
        records.append(payload)
        return True

    sink = Sink(lambda record: [record.message.encode()], sent)
    looks = Looks(loop, [fails, lambda: seen.append("looks")], Logger(sink, Level.INFO))
    looks.look()
    for _ in range(3):
        loop.later.pop()()
    assert seen == ["fails", "looks"] * 4
    assert len([each for each in records if b"a look at the cluster failed" in each]) == 1
