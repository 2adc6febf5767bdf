"""The hooks process's end of the conversation with the master (`wire/hooks.py`): operations and their outcomes."""

from concurrent.futures import Future
from functools import partial
from typing import Any

from clusterd.log import Logger
from clusterd.runtime import originals
from clusterd.wire.conversation import MOST_WAITING, Conversation, Disconnected, QueueFull, Reply
from clusterd.wire.hooks import Operation, OperationRequest, outcome, write_request
from clusterd.wire.values import RELAYED, encoded


class MasterConnection:
    """Asks the master for operations. `request` and `wait` may be called in any thread.

    The thread that runs the event loop must not call `wait`, because it receives the outcome.
    """

    def __init__(self, log: Logger) -> None:
        self.conversation = Conversation(RELAYED)
        self.log = log
        self._thread = originals.get_ident()

    def request(
        self, operation: Operation, serial: int = 0, value: Any = None, *, timeout: float | None = None
    ) -> "Future[Any]":
        """Ask for an operation. Returns a future of the outcome. Raises TypeError and ValueError for a bad `value`."""
        done: Future[Any] = Future()
        reply = self.conversation.request(
            write_request(OperationRequest(operation, serial, value)), timeout, most_waiting=None
        )
        reply.when_done(partial(_conclude, done))
        return done

    def wait(self, operation: Operation, serial: int = 0, value: Any = None) -> Any:
        """Ask for an operation and wait for its outcome. Raises the exception that it failed with."""
        if originals.get_ident() == self._thread:
            raise RuntimeError("this thread talks to the master, and cannot wait for it: do this in a handler")
        return self.request(operation, serial, value).result()


class Talk:
    """Talks to the application in one worker, through the master. May be used in any thread."""

    def __init__(self, master: MasterConnection, serial: int) -> None:
        self._master = master
        self._serial = serial
        self._lock = originals.Lock()
        self._waiting = 0
        self._is_ended = False

    def send(self, value: Any) -> None:
        """Send a message, like `Conversation.send`."""
        encoded(value)
        self._say(Operation.SEND, value, None).add_done_callback(self._sent)

    def request(self, value: Any, timeout: float | None) -> Reply:
        """Send a request, like `Conversation.request`."""
        encoded(value)
        return Reply(self._say(Operation.REQUEST, value, timeout))

    def end(self) -> None:
        """Accept no more messages, because the worker has ended."""
        self._is_ended = True

    def _say(self, operation: Operation, value: Any, timeout: float | None) -> "Future[Any]":
        with self._lock:
            if self._is_ended:
                raise Disconnected("the worker is gone")
            if self._waiting >= MOST_WAITING:
                raise QueueFull(f"{self._waiting} messages wait for the worker already")
            self._waiting += 1
        done = self._master.request(operation, self._serial, value, timeout=timeout)
        done.add_done_callback(self._over)
        return done

    def _over(self, _: "Future[Any]") -> None:
        with self._lock:
            self._waiting -= 1

    def _sent(self, done: "Future[Any]") -> None:
        """Log a failure, because the sender does not wait for the outcome.

        The end of the worker is not logged: the event `exit` reports it.
        """
        error = done.exception()
        if error is not None and not isinstance(error, Disconnected):
            self._master.log.error(f"a message to a worker was not sent: {error}")


def _conclude(done: "Future[Any]", answered: "Future[Any]") -> None:
    if not done.set_running_or_notify_cancel():
        return  # The caller has cancelled the future.
    try:
        done.set_result(outcome(answered.result()))
    except Exception as error:
        # Drop the traceback of this thread. The caller's traceback shows where the exception is raised.
        done.set_exception(error.with_traceback(None))
