"""A call of the application in a thread of the pool."""

import threading
import traceback
from math import inf

from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transfer import FileTransfer
from clusterd.http.messages.refusal import Refusal
from clusterd.http.wsgi.exchange import ClientGone, Exchange, Output, Service
from clusterd.http.wsgi.pool_thread import PoolThread, ThreadState
from clusterd.http.wsgi.threads import ThreadPool

AHEAD_BYTES = 64 * 1024
"""How much an application may have given beyond what the client's connection has taken."""


class ThreadCall(Exchange):
    """The loop sends what the thread gives, and says when there is room for more.

    A file is sent by the loop alone, and the thread is free meanwhile. Afterwards a thread runs the application's
    close(), which may take its time; the client need not wait for that.
    """

    __slots__ = ("_given", "_gone", "_pool", "_room", "_runner", "_sending", "_taken", "_written", "queued_at")

    def __init__(self, service: Service, connection: Connection, pool: ThreadPool) -> None:
        self._pool = pool
        self._runner: PoolThread | None = None
        self._room: threading.Event | None = None
        """Made when the thread first has to wait: most never do, and an Event costs as much as a whole response."""
        # Bytes: given by the thread, written to the connection, and read by the client as far as is known.
        self._given = 0
        self._written = 0
        self._taken = 0
        self._gone = False
        self._sending: _Sending | None = None
        """The file on its way."""
        self.queued_at = 0.0
        super().__init__(service, connection)

    # ---- on the thread

    def run(self, thread: PoolThread) -> None:
        """Run the application; called by the pool."""
        self._runner = thread
        last: bytes | _Sending = b""
        try:
            last = self._run()
        except BaseException:  # SystemExit and its like end a request, never a thread of the pool
            self._service.report(f"a request ended with\n{traceback.format_exc().rstrip()}")
            self.failed = True
        if isinstance(last, bytes):
            self._service.mailbox.post(self._ended, last)
        else:
            self._service.mailbox.post(self._send_file, last)

    def _run(self) -> "bytes | _Sending":
        """Returns what is left to send: the thread need not wait until the client has read that."""
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
        """The application called into the server."""
        if self._runner is not None:
            self._runner.note_progress()

    def write(self, data: bytes) -> None:
        """Have `data` sent, and wait while too much is on its way. Raises ClientGone."""
        thread = self._runner
        assert thread is not None
        if self._gone:
            raise ClientGone
        self._given += len(data)
        self._service.mailbox.post(self._send, data)
        while self._given - self._taken > AHEAD_BYTES and not self._gone:
            if self._room is None:
                self._room = threading.Event()
                continue  # the loop may have made room before it could see the event
            thread.wait_for_client(self._room)
            self._room.clear()
        thread.state = ThreadState.WORKING
        thread.note_progress()

    def close_file(self, output: Output) -> None:
        """Run the application's close(), after a transfer."""
        self.abandon(output)
        self._service.mailbox.post(self._file_closed)

    # ---- on the loop

    @property
    def phase(self) -> CallPhase:
        """How far the answer is."""
        if self.started:
            return CallPhase.SENDING
        return CallPhase.QUEUED if self._runner is None else CallPhase.RUNNING

    def _send(self, data: bytes) -> None:
        if self._gone:
            return
        self._connection.send(data)
        self._written += len(data)
        if self._connection.writable:
            self.resume()

    def _ended(self, last: bytes) -> None:
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
        self.conclude_file(sending.transfer)
        self._let_go_of_file()  # only now: it declares what is left of the response a failure

    def _let_go_of_file(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            self._pool.submit_rest(sending)

    def _file_closed(self) -> None:
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
        """It never ran."""
        if not self._gone:
            self._connection.refuse(refusal)

    def cancel(self) -> None:
        """A thread cannot be ended from outside, only with its process."""
        if self._runner is not None:
            self._service.on_overdue(f"{self._request.method} {self._request.target}")

    def disconnected(self) -> None:
        """Let the thread find out, and drop a call that still waits for one."""
        self._gone = True
        if self._runner is None and self._pool.withdraw(self):
            self.release()
        self._let_go_of_file()
        self._wake()


class _Sending:
    """A file on its way, and what has to run in a thread when it is through, or not sent any more."""

    __slots__ = ("_call", "_output", "queued_at", "transfer")

    def __init__(self, call: ThreadCall, transfer: FileTransfer, output: Output) -> None:
        self._call = call
        self._output = output
        self.transfer = transfer
        self.queued_at = inf

    def run(self, _: PoolThread) -> None:
        """Run the application's close(); called by the pool."""
        self._call.close_file(self._output)
