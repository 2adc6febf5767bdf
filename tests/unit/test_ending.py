"""What the end of a process says of the application's exit handlers."""

import sys
from types import SimpleNamespace
from typing import cast

import pytest

from clusterd.process.ending import name_of_exit_handler

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
