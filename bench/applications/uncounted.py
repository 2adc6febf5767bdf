"""`worker_start` of a server that counts no requests: what is left to measure is what counting them costs."""

from clusterd.metrics.shared.counting import RequestCounter


def stop_counting() -> None:
    """From now on this worker's row of the scoreboard knows of no request."""
    RequestCounter.request_done = _nothing  # type: ignore[method-assign, assignment]


def _nothing(counter: RequestCounter, status: int, seconds: float, waited: float) -> None:
    """As `RequestCounter.request_done`."""
