"""What an application gets from `from clusterd import worker`, outside of a worker."""

import os
import threading

import pytest

from clusterd import worker
from clusterd.worker import api


def test_outside_of_a_worker_there_is_nobody_to_talk_to() -> None:
    assert (worker.is_worker, worker.id, worker.generation, worker.pid) == (False, 0, 0, os.getpid())
    assert worker.should_stop is False
    with pytest.raises(worker.NotInWorker, match="no worker of clusterd"):
        worker.send("anybody?")
    with pytest.raises(worker.NotInWorker, match="no worker of clusterd"):
        worker.request("anybody?")


def test_handlers_are_registered_where_the_fork_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "handlers", [])

    @worker.on("message")
    def plain(message: str) -> str:
        return f"{message}!"

    @worker.on("message")
    async def other(message: str) -> None:
        pass

    assert api.handlers == [plain, other]
    assert plain("still itself") == "still itself!"


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no event 'massage' in a worker; there is \"message\""):
        worker.on("massage")


def test_a_handler_that_can_not_take_a_message_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes \(\); a handler of 'message' is given \(message\)"):
        worker.on("message")(lambda: None)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r'on is called with the name of an event: @worker.on\("message"\)'):
        worker.on(print)  # type: ignore[arg-type]


def test_the_stop_event_is_one_object_and_should_stop_follows_it() -> None:
    assert isinstance(worker.stop_event, threading.Event)
    assert worker.stop_event is api.stop_event
    worker.stop_event.set()
    try:
        assert worker.should_stop is True
    finally:
        worker.stop_event.clear()


def test_a_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'identity'"):
        getattr(worker, "identity")  # noqa: B009 - mypy knows that there is none


def test_everything_that_is_offered_is_there() -> None:
    for name in worker.__all__:
        assert hasattr(worker, name), name
