"""The supervisor: pure decisions about workers and templates, `step(event, now) -> actions`.

This package uses no processes, signals, sockets, clocks or logs. The same events at the same times always give the
same actions, so tests can try tens of thousands of random schedules without a fork or a sleep.
"""
