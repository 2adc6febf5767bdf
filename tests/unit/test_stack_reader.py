"""The stacks of a process that is asked for them again and again, as one whose event loop often stalls is."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.diagnosis import stacks
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.wire.in_hand import EMPTY

pytestmark = pytest.mark.engine_independent

FRAME = '  File "shop.py", line 7 in buy\n'
DUMP = "Thread 0x00007f (most recent call first):\n" + FRAME * 1000


def test_what_was_read_of_the_stacks_takes_no_memory_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "LOOK_EVERY_SECONDS", 0.0)
    child = Child(7, Kind.WORKER, generation=1, slot=3, pid=42, stacks=new_stacks_file("stacks"))
    written = 0

    def signal(_: Child, __: int) -> None:
        nonlocal written
        written += 1
        os.write(child.stacks, f"{written} {DUMP}".encode())

    async def scenario() -> list[str]:
        loop, found = asyncio.get_running_loop(), []
        reader = StackReader(
            cast(Any, SimpleNamespace(signal=signal)), loop, cast(Logger, SimpleNamespace()), lambda _: EMPTY
        )
        for _ in range(50):
            told = loop.create_future()
            reader.threads(child, told.set_result)
            found.append(await asyncio.wait_for(told, 10))
        return found

    found = asyncio.run(scenario())
    taken = os.fstat(child.stacks).st_blocks * 512
    child.close_stacks()
    assert found == [f"{number} {DUMP}" for number in range(1, 51)]
    assert taken < 3 * len(DUMP)
