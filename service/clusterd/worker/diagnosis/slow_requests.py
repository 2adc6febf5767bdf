"""Logs each request that takes longer than log.slow, once while it runs. The engine logs it again at its end."""

from clusterd.http.engine import Engine
from clusterd.log import Logger
from clusterd.worker.diagnosis.stacks import stack_of


class SlowRequests:
    """To be asked a few times a second, on the loop's thread. It looks at every request only when one is slow."""

    def __init__(self, engine: Engine, log: Logger) -> None:
        self._engine = engine
        self._seconds = engine.settings.slow
        self._log = log
        self._reported: set[tuple[int, float]] = set()
        """The places of the requests that are reported, and when they began."""

    def tick(self, now: float) -> None:
        """Log the requests that have become slow at `now` (time.monotonic())."""
        if self._seconds is None:
            return
        slow = self._engine.in_hand.begun_before(now - self._seconds)
        found = slow - self._reported
        self._reported = slow
        if found:
            self._report({place for place, _ in found})

    def _report(self, places: set[int]) -> None:
        whole = self._engine.settings.whole_targets
        for request in self._engine.requests_in_hand():
            if request.place not in places or request.phase == "websocket":
                continue
            stack = stack_of(request.runs_in)
            self._log.warning(
                "a request is slow" + (f", most recent call last:\n{stack}" if stack else ""),
                method=request.method,
                target=request.target if whole else request.target.partition("?")[0],
                age=round(request.age, 3),
                phase=request.phase,
                peer=request.peer[0] if request.peer else None,
                request_id=request.request_id or None,
            )
