"""A call of the application beside the loop: in a thread of the pool, or in a greenlet."""

from collections import deque
from math import inf
from time import monotonic

from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transports.transfer import FileTransfer
from clusterd.http.messages.refusal import Refusal
from clusterd.http.wsgi.exchange import ClientGone, Exchange, Output, Service
from clusterd.http.wsgi.runner import JobRunners, Room, Runner, RunnerState
from clusterd.log.current_request import REQUEST_ID
from clusterd.log.tracebacks import application_traceback

AHEAD_BYTES = 64 * 1024
"""Maximum bytes that an application may produce beyond what the client's connection has taken."""


class ThreadCall(Exchange):
    """A thread produces the response. The loop sends it, and tells the thread when there is room for more.

    The loop sends a file on its own, and the thread is free meanwhile. Afterwards a thread runs the application's
    close(), which may take long; the client does not wait for it.
    """

    __slots__ = (
        "_given",
        "_gone",
        "_is_sending",
        "_place",
        "_pool",
        "_produced",
        "_room",
        "_runner",
        "_sending",
        "_taken",
        "_written",
        "is_running",
        "queued_at",
    )

    def __init__(self, service: Service, connection: Connection, pool: JobRunners) -> None:
        self._pool = pool
        self._runner: Runner | None = None
        self._room: Room | None = None
        """Created when the call first has to wait. Most never do, and an Event costs as much as a whole response."""
        # Bytes that the thread has produced, that were written to the connection, and that the client has taken.
        self._given = 0
        self._produced: deque[bytes] | None = None
        """Pieces that were not written to the connection. The loop writes as much as there is when it comes to it."""
        self._is_sending = False
        """Whether the loop is about to."""
        self._written = 0
        self._taken = 0
        self._gone = False
        self._sending: _Sending | None = None
        """The file that is being sent."""
        self.queued_at = 0.0
        self.is_running = True
        self._place = connection.place
        super().__init__(service, connection)

    # ---- on the thread

    def run(self, runner: Runner, now: float) -> None:
        """Run the application. Called by the pool."""
        self._runner = runner
        asked = self._asked
        asked.waited = max(0.0, now - self.queued_at)
        if asked.id:
            REQUEST_ID.set(asked.id)
        self._connection.in_hand.runs(self._place, runner.thread)
        last: bytes | _Sending = b""
        try:
            last = self._run()
        except BaseException as error:  # SystemExit and the like end a request, never a thread of the pool.
            self._report(f"ended with\n{application_traceback(error, or_ours=True)}")
            self.failed = True
        if asked.id:
            REQUEST_ID.set(None)
        if isinstance(last, bytes):
            self._service.mailbox.post(self._ended, last)
        else:
            self._service.mailbox.post(self._send_file, last)

    def _run(self) -> "bytes | _Sending":
        """Run the application. Returns what is left to send: the thread need not wait until the client has read it."""
        output = self.begin()
        if isinstance(output, bytes):
            return output
        try:
            for data in output:
                if isinstance(data, FileTransfer):
                    return _Sending(self, data, output)
                if data:
                    self.write(data)
                elif self._gone:
                    raise ClientGone
        except ClientGone:
            self.abandon(output)
        return b""

    def note_progress(self) -> None:
        """Record that the application has called the server."""
        if self._runner is not None:
            self._runner.note_progress()

    def write(self, data: bytes) -> None:
        """Have `data` sent, and block while more than AHEAD_BYTES are not taken. Raises ClientGone."""
        runner = self._runner
        assert runner is not None
        if self._gone:
            raise ClientGone
        if self._produced is None:
            self._produced = deque()
        self._given += len(data)
        self._produced.append(data)
        if not self._is_sending:
            self._is_sending = True
            self._service.mailbox.post(self._send)
        while self._given - self._taken > AHEAD_BYTES and not self._gone:
            if self._room is None:
                self._room = runner.new_room()
                continue  # The loop may have made room before the event existed.
            began = monotonic()
            runner.wait_for_client(self._room)
            self._asked.on_client += monotonic() - began
            self._room.clear()
        runner.state = RunnerState.WORKING
        runner.note_progress()

    def close_file(self, output: Output) -> None:
        """Run the application's close() after a transfer."""
        token = REQUEST_ID.set(self._asked.id or None)
        self.abandon(output)
        REQUEST_ID.reset(token)
        self._service.mailbox.post(self._file_closed)

    # ---- on the loop

    @property
    def runs_in(self) -> object:
        """The thread's identifier, or the greenlet."""
        runner = self._runner
        if runner is None:
            return None
        return runner.thread if runner.greenlet is None else runner.greenlet

    @property
    def phase(self) -> CallPhase:
        """The phase of the request."""
        if self.started:
            return CallPhase.SENDING
        return CallPhase.QUEUED if self._runner is None else CallPhase.RUNNING

    def _send(self) -> None:
        # Cleared before the pieces are taken: a piece that comes after the last one sees it cleared, and is sent too.
        self._is_sending = False
        produced = self._produced
        assert produced is not None
        pieces = [produced.popleft() for _ in range(len(produced))]
        if self._gone:
            return
        data = b"".join(pieces)
        self._connection.send(data)
        self._written += len(data)
        if self._connection.writable:
            self.resume()

    def _ended(self, last: bytes) -> None:
        self.is_running = False
        self._pool.over()
        if self._gone:
            self.release()
        else:
            self._gone = True
            self._connection.call = None
            self._connection.send(last)
            self.conclude()

    def _send_file(self, sending: "_Sending") -> None:
        self._pool.over()
        self._runner = None
        self._sending = sending
        if self._gone:
            self._let_go_of_file()
            return
        self._connection.send_file(sending.transfer)
        if self._connection.writable:
            self.resume()

    def _file_sent(self, sending: "_Sending") -> None:
        self._gone = True
        self._connection.call = None
        self._asked.on_client += monotonic() - sending.began
        self.conclude_file(sending.transfer)
        self._let_go_of_file()  # Only now, because it marks the rest of the response as failed.

    def _let_go_of_file(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            self._pool.submit_rest(sending)

    def _file_closed(self) -> None:
        self.is_running = False
        self._pool.over()
        self.release()

    def resume(self) -> None:
        """The client has taken everything that was sent."""
        if self._sending is not None:
            self._file_sent(self._sending)
            return
        self._taken = self._written
        self._wake()

    def _wake(self) -> None:
        if self._room is not None:
            self._room.set()

    def refuse(self, refusal: Refusal) -> None:
        """Refuse the request. The call has never run."""
        self.is_running = False
        if not self._gone:
            self._connection.refuse(refusal)

    def wait_in_vain(self, refusal: Refusal) -> None:
        """Refuse the request, which has waited longer than timeouts.queue. The call has never run."""
        if not self._gone:
            self._connection.note_timeout("queue")
        self.refuse(refusal)

    def cancel(self) -> None:
        """Report the request as overdue. A thread can only be ended with its process."""
        if self._runner is not None:
            self._service.on_overdue(f"{self._request.method} {self._request.target}", self._runner.greenlet)

    def disconnected(self) -> None:
        """Mark the call as gone for its thread, and drop it if it still waits for a thread."""
        self._gone = True
        if self._runner is None and self._pool.withdraw(self):
            self.is_running = False
            self.release()
        self._let_go_of_file()
        self._wake()


class _Sending:
    """A file that is being sent, and the job that runs afterwards in a thread."""

    __slots__ = ("_call", "_output", "began", "queued_at", "transfer")

    def __init__(self, call: ThreadCall, transfer: FileTransfer, output: Output) -> None:
        self._call = call
        self._output = output
        self.transfer = transfer
        self.began = monotonic()
        self.queued_at = inf

    def run(self, _: Runner, __: float) -> None:
        """Run the application's close(). Called by the pool."""
        self._call.close_file(self._output)
