"""Leader/Followers (POSA2): one thread of the pool, the leader, runs the event loop while calls are short.

To pass a request to a thread and its response back takes two thread switches, which is most of the cost of a short
call. So while calls are short and many, the owner of the event loop passes the loop to one thread of the pool, the
leader. The leader runs the loop until requests wait, calls the application for them outside of the loop, and runs the
loop again, so no thread must be woken. Meanwhile the owner watches the leader. If a call takes too long, the owner
takes the loop back, and each call is made by a thread that is woken for it, as in an ordinary pool.

To run the loop, even for one turn, costs as much as a short request. So while the requests come on new connections, the
leader leaves the loop standing: it waits for connections itself, and accepts, answers and closes one after the other.
The loop turns as soon as there is something that only it can do, and at least every TURN_CALLS requests.

The owner is the thread that calls `run`: the main thread of the process, in which Python runs the signal handlers.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from clusterd.http.connection_source import Arrival, ConnectionSource
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.pool.call_durations import CallDurations
from clusterd.http.wsgi.pool.pool_thread import PoolThread
from clusterd.http.wsgi.runner import Job
from clusterd.runtime import originals

LOOK_SECONDS = 0.001
"""How often the owner checks the leader. A call that takes longer blocks the loop for this time, or at most twice."""

QUIET_LOOKS = 30
FEWEST_CALLS = 8
"""With fewer calls in so many checks the leader returns the loop: then the checks cost more than it saves."""

FREQUENT_CALLS = 4
FREQUENT_SECONDS = 0.01
"""With so many calls within so many seconds a thread becomes the leader; or with several at once."""

TURN_CALLS = 16
"""Maximum calls that the leader makes in a row before the loop turns."""

WAIT_SECONDS = 0.001
"""How long the leader waits for a connection before it runs the loop."""

STANDING_SECONDS = 0.005
"""How long the loop stands while connections come. So late, and a call later, may its timers be."""

# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_CONNECTIONS, _BOTH = Arrival.CONNECTIONS, Arrival.BOTH


class Leadership:
    """Decides which thread runs the loop: its owner, or the leader. `jobs` wait for a thread of the pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox, jobs: deque[Job]) -> None:
        self._loop = loop
        self._mailbox = mailbox
        self._jobs = jobs
        self._durations = CallDurations()
        self._is_run = False
        """Whether the owner is in `run`, and can take the loop back."""
        self._is_left = False
        self._candidate: PoolThread | None = None
        """The thread that gets the loop as soon as it has stopped."""
        self._transfer = originals.Lock()
        """Protects `leader` and `_is_running`."""
        self.leader: PoolThread | None = None
        self._is_running = False
        """Whether the leader runs the loop. If not, it makes calls, and the loop can be taken from it."""
        self._calls = 0
        """Number of calls that the leader has begun."""
        self.source: ConnectionSource | None = None
        self._awaits_connections = False
        """Whether the last thing that came was a connection, so that the loop stands still."""
        self._since_turn = 0
        """Number of calls since the last turn of the loop."""
        self._stands_until = 0.0
        """When the loop has to turn, by time.monotonic()."""
        self._wakes: deque[float] = deque(maxlen=FREQUENT_CALLS)
        """When threads were woken for calls, by time.monotonic()."""
        self._owes_turn = False
        """Whether calls have come from the loop: it has to turn after them, to send the rest and to close."""
        self._is_wanted_back = False
        self._is_turning = False
        """Whether the loop runs, and does not stand still."""
        self._will_stop = False
        """Whether the running loop was told to stop. It must not be told twice: that would stop its next run too."""
        self._returned = originals.Lock()
        """Released by a leader that returns the loop."""
        self._returned.acquire()
        self._failure: BaseException | None = None
        """The exception that ended the loop."""

    def _run_loop(self, *, once: bool = False) -> None:
        self._is_turning = True
        if once:
            self._stop_loop()
        try:
            self._loop.run_forever()
        except BaseException as error:  # The owner raises it in `run`, whichever thread runs the loop.
            self._failure = error
        self._is_turning = self._will_stop = False

    # ---- the owner

    def run(self, on_returned: Callable[[], None]) -> None:
        """Run the loop, or have a leader run it, until `leave`. Raises the exception that ended the loop, if any.

        `on_returned` is called when a leader has returned the loop, or the loop was taken back from it.
        """
        self._is_run = True
        while not self._is_left:
            self._run_loop()
            candidate, self._candidate = self._candidate, None
            if candidate is not None:
                self._promote(candidate)
                on_returned()
                if self.source is not None:
                    self._loop.call_soon(self.source.accept)  # The leader may have left some.
            if self._failure is not None:
                raise self._failure
        self._is_run = False

    def leave(self) -> None:
        """Make `run` return. Called on the loop's thread."""
        self._is_left = True
        self._stop_loop()

    def _promote(self, thread: PoolThread) -> None:
        self._calls = 0
        self._since_turn = 0
        self._awaits_connections = self._is_wanted_back = False
        self._owes_turn = True
        self._mailbox.hold()
        self.leader = thread
        thread.wake()
        waited, seen, looks, before = False, -1, 0, 0
        while not waited and not self._returned.acquire(timeout=LOOK_SECONDS):
            calls = self._calls
            looks += 1
            is_quiet = False
            if looks % QUIET_LOOKS == 0:
                is_quiet, before = calls - before < FEWEST_CALLS, calls
            if calls == seen or is_quiet:
                waited = self._want_back(is_stuck=calls == seen, is_quiet=is_quiet)
            seen = calls
        self._durations.begin_again(self._calls, waited=waited)
        self._mailbox.release()

    def _want_back(self, *, is_stuck: bool, is_quiet: bool) -> bool:
        """Take the loop from a leader that is stuck in a call, or ask one that has little to do to return it."""
        with self._transfer:
            if self.leader is None:
                return False  # The leader has just returned the loop.
            if not self._is_running:
                if is_stuck:
                    self.leader = None
                return is_stuck
        if is_quiet:
            self._loop.call_soon_threadsafe(self._stop_led_loop)
        return False

    # ---- on the loop

    def wake(self, thread: PoolThread) -> None:
        """Wake a thread for the jobs that wait, or have it become the leader."""
        may_lead = self._is_run and self.leader is None and self._candidate is None
        if may_lead and self._durations.is_short and self._are_frequent():
            self._candidate = thread
            self._stop_loop()
        else:
            thread.wake()

    def _are_frequent(self) -> bool:
        now, wakes = monotonic(), self._wakes
        wakes.append(now)
        return len(self._jobs) > 1 or (len(wakes) == FREQUENT_CALLS and now - wakes[0] < FREQUENT_SECONDS)

    def announce(self) -> bool:
        """A job waits. Returns False if there is no leader to make it: a thread must be woken then."""
        if self.leader is None:
            return False
        self._stop_loop()
        return True

    def leave_to_leader(self) -> bool:
        """Connections have come. Returns False if there is no leader to accept them."""
        if self.leader is None:
            return False
        self._awaits_connections = True
        self._stop_loop()
        return True

    def _stop_led_loop(self) -> None:
        """Stop the loop so that the leader returns it. Does nothing if it was returned in the meantime."""
        if self.leader is not None:
            self._is_wanted_back = True
            self._stop_loop()

    def _stop_loop(self) -> None:
        """Have the loop stop, if it runs. One that stands still would stop when it runs next, perhaps for others."""
        if self._is_turning and not self._will_stop:
            self._will_stop = True
            self._loop.stop()

    # ---- in a thread of the pool

    def lead(self, thread: PoolThread) -> bool:
        """Make calls and run the loop if `thread` is the leader. Returns False if it is not, and does nothing then."""
        if self.leader is not thread:
            return False
        self._use_loop(thread)
        return True

    def took(self, seconds: float, jobs: int) -> None:
        """Record that `jobs` jobs have taken `seconds` together."""
        self._durations.took(seconds, jobs)

    def waits(self, thread: PoolThread) -> None:
        """Return the loop if `thread` has it: its job cannot continue before the loop has turned."""
        with self._transfer:
            if self.leader is thread:
                self._return_loop()

    def _use_loop(self, thread: PoolThread) -> None:
        """Make calls and look for others in turn, until calls are long or the owner wants the loop back."""
        while True:
            self._make_calls(thread)
            with self._transfer:
                if self.leader is not thread:
                    return  # The owner has taken the loop back.
                if self._is_wanted_back or self._is_left or self._failure is not None or self._durations.is_long:
                    self._return_loop()
                    return
                self._is_running = True
            self._look_for_calls()
            with self._transfer:
                self._is_running = False

    def _look_for_calls(self) -> None:
        """Send what the calls have answered. Then accept connections, or have the loop turn, until calls wait."""
        try:
            self._mailbox.deliver_held()
            source = self.source if self._awaits_connections else None
            if source is not None and not self._owes_turn:
                self._accept_calls(source)
            if self._is_left or (self._jobs and self._since_turn < TURN_CALLS):
                return
            if source is not None and self._owes_turn:
                self._accept_waiting(source)
            self._turn()
        except BaseException as error:  # As where the loop runs: the owner raises it.
            self._failure = error

    def _accept_calls(self, source: ConnectionSource) -> None:
        """Accept connections until one has brought a call, or the loop has to turn."""
        while not self._jobs and not self._is_turn_due(source):
            if self._accept_one(source):
                continue
            self._mailbox.release()
            if source.has_loop_work():
                return
            came = source.wait(WAIT_SECONDS)
            self._mailbox.hold()
            if came is not _CONNECTIONS:
                self._awaits_connections = came is _BOTH
                return

    def _is_turn_due(self, source: ConnectionSource) -> bool:
        return self._since_turn >= TURN_CALLS or monotonic() >= self._stands_until or source.has_loop_work()

    def _accept_waiting(self, source: ConnectionSource) -> None:
        """Accept what waits, at most TURN_CALLS: calls from kept connections may never end, and keep out no others."""
        for _ in range(TURN_CALLS):
            if not self._accept_one(source):
                self._awaits_connections = False
                return

    def _accept_one(self, source: ConnectionSource) -> bool:
        try:
            return source.accept_one()
        except Exception as error:  # As the loop does.
            message = "a connection could not be accepted"
            self._loop.call_exception_handler({"message": message, "exception": error})
            return True

    def _turn(self) -> None:
        """Run the loop, once if calls or connections wait, or until calls do."""
        self._since_turn = 0
        self._mailbox.release()
        self._run_loop(once=bool(self._jobs) or (self._awaits_connections and self.source is not None))
        self._owes_turn = bool(self._jobs)
        self._stands_until = monotonic() + STANDING_SECONDS
        self._mailbox.hold()

    def _make_calls(self, thread: PoolThread) -> None:
        """Make up to TURN_CALLS calls."""
        made, began = 0, monotonic()
        while made < TURN_CALLS and self.leader is thread:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            made += 1
            self._calls += 1
            self._since_turn += 1
            thread.do(job, began)
        if made:
            self._durations.took(monotonic() - began, made)

    def _return_loop(self) -> None:
        self.leader = None
        self._returned.release()
