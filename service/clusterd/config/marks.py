"""The environment variables by which clusterd tells a process, and whoever looks at it, where it belongs."""

MASTER_PID = "CLUSTERD_MASTER_PID"
GENERATION = "CLUSTERD_GENERATION"
"""Of every process of a generation, as MASTER_PID."""

SLOT = "CLUSTERD_WORKER"
WORKER_PID = "CLUSTERD_WORKER_PID"
"""Of a worker and what it executes, as SLOT."""

OF_WORKERS = frozenset({SLOT, WORKER_PID})
ALL = OF_WORKERS | {MASTER_PID, GENERATION}
