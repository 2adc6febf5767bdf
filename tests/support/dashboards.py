"""A dashboard with everything on it: a rollout, a slot in backoff, errors, and what an application has written."""

from clusterd.dashboard.history import Activity, Point
from clusterd.dashboard.model import (
    About,
    Bar,
    Dashboard,
    EventLine,
    Process,
    RolloutProgress,
    Slot,
    Step,
    Totals,
    Waiting,
)

HOSTILE = "<script>alert('\033[2J')</script>"

READY = Slot(
    number=1,
    state="ready",
    generation=2,
    queue=3,
    restarts=1,
    activity=Activity(rate=1234.5, cpu=0.42, requests=70_000, errors=7, p50=0.00077, p99=0.24),
    rates=(1000.0, 1234.5),
    worker=Process(2, "ready", 102, 59.94, 5, 8, 22 << 20),
    others=(Process(1, "draining", 101, 3725.0, 1, 2, 21 << 20),),
)
BACKOFF = Slot(
    number=2,
    state="backoff",
    generation=2,
    queue=0,
    restarts=6,
    activity=Activity(),
    rates=(),
    waiting=Waiting(f"RuntimeError: no database {HOSTILE}", 5, 7.5),
)
DASHBOARD = Dashboard(
    about=About(
        instance="shop",
        host="app1",
        version="1.2.3",
        pid=10,
        at=1_000_000_000.0,
        uptime=90_000.0,
        status="Reloading: generation 2, 1 of 2 workers replaced",
        not_ready=None,
        hooks=None,
    ),
    totals=Totals(1, 2, 7, 5, 3, 8, 43 << 20, Activity(1234.5, 0.42, 70_000, 7, 0.00077, 0.24)),
    bars=(Bar("threads", 4, 4), Bar("queue", 3, 100), Bar("memory of worker 1", 480 << 20, 512 << 20, "bytes")),
    rollout=RolloutProgress(2, "replacing workers", (Step(1, "ready"), Step(2, "waits"))),
    slots=(READY, BACKOFF),
    events=(
        EventLine(1_000_000_000.0, "exit", f"slot=2 how={HOSTILE}", is_failure=True),
        EventLine(999_999_999.0, "fork", "slot=2", is_failure=False),
    ),
    points=(
        Point(1000.0, 0.0, 0.0005, 0.2, 4, 0, 40 << 20),
        Point(0.0, 0.0, None, None, 0, 0, 42 << 20),
        Point(1234.5, 0.5, 0.00077, 0.24, 5, 3, 43 << 20),
    ),
)
