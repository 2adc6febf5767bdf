"""How long to wait before the next attempt."""

from clusterd.supervisor.model.backoff import LONGEST_DELAY, STABLE_SECONDS, Backoff


def test_backoff_grows_to_its_bound_and_forgets_after_a_stable_time() -> None:
    backoff, delays = Backoff(), []
    for _ in range(10):
        backoff = backoff.after_failure(now=100.0, served=0.0)
        delays.append(backoff.not_before - 100.0)
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    assert backoff.after_failure(now=100.0, served=STABLE_SECONDS) == Backoff(1, 100.0)
