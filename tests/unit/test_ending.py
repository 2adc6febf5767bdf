"""What the end of a process says of the application's exit handlers."""

import asyncio
import errno
import itertools
import socket
import sys
from time import monotonic
from types import SimpleNamespace
from typing import cast

import pytest

from clusterd.log import Logger
from clusterd.process import ending
from clusterd.process.ending import Ending, name_of_exit_handler
from clusterd.runtime import event_loop, originals
from tests.unit.test_handling import Lines

pytestmark = pytest.mark.engine_independent


class Closer:
    def close(self) -> None:
        pass


IGNORED = "Exception ignored in atexit callback"
HANDLERS = {
    f"{IGNORED} <function wait_for_ever at 0x7f2831505620>": "wait_for_ever",
    f"{IGNORED} <function make.<locals>.close at 0x7f2831505620>": "make.<locals>.close",
    f"{IGNORED} <bound method Closer.close of <Closer object at 0x7f28>>": "Closer.close",
    f"{IGNORED} <built-in method acquire of _thread.lock object at 0x7f28314d1280>": "acquire",
    f"{IGNORED} functools.partial(<function shut at 0x7f28>, 7)": "shut",
    f"{IGNORED} <shop.Flush object at 0x7f28>": "<shop.Flush object at 0x7f28>",
}


@pytest.mark.parametrize("message", HANDLERS)
def test_an_exit_handler_is_named_by_the_message_where_python_gives_nothing_else(message: str) -> None:
    assert name_of_exit_handler(_unraisable(None, message)) == HANDLERS[message]


def test_an_exit_handler_is_named_by_itself_where_python_gives_it() -> None:
    assert name_of_exit_handler(_unraisable(Closer().close, IGNORED)) == "Closer.close"


def _unraisable(handler: object, message: str) -> "sys.UnraisableHookArgs":
    return cast("sys.UnraisableHookArgs", SimpleNamespace(object=handler, err_msg=message))


async def said(words: list[str]) -> None:
    words.append("shut down")


@pytest.mark.parametrize("is_for_good", [False, True])
def test_what_is_to_run_at_the_end_waits_for_descriptors(is_for_good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of uvloop that lacks them when it begins to turn never turns again."""
    loop, lines, words, attempts = asyncio.new_event_loop(), Lines(), list[str](), itertools.count()

    def refuse() -> tuple[socket.socket, socket.socket]:
        if is_for_good or next(attempts) < 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return socket.socketpair()

    monkeypatch.setattr(ending, "LEAST_SECONDS", 0.2 if is_for_good else 30.0)
    monkeypatch.setattr(originals, "socketpair", refuse)
    monkeypatch.setattr(event_loop, "_kept", [])
    task = said(words)
    Ending(monotonic(), Logger(lines)).run(loop, task, "the shutdown")
    assert words == ([] if is_for_good else ["shut down"])
    event_loop.keep_none()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
