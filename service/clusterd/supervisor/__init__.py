"""What to do when: pure decisions, `step(event, now) -> actions`.

Nothing here knows of processes, signals, sockets, clocks or logs, so the same events at the same
times always give the same actions, and tens of thousands of random schedules can be tried
without a fork or a sleep.
"""
