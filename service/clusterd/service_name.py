"""The name of this process's service, as systemd and operators know it: of clusterd.service or of an instance of it."""

import os

VARIABLE = "CLUSTERD_INSTANCE"
"""Set by the unit clusterd@NAME.service."""

# Read once, at the start of each process: the application may change its environment later.
INSTANCE: str | None = os.environ.get(VARIABLE) or None
SERVICE = "clusterd" if INSTANCE is None else f"clusterd@{INSTANCE}"
