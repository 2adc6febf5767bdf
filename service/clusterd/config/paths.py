"""Where clusterd and clusterctl meet when nobody says where."""

from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "control.sock"


def control_path(configured: str | None, environ: Mapping[str, str], uid: int) -> Path:
    """The control socket: as configured, else in the runtime directory of the unit, of the user, or below /tmp."""
    if configured is not None:
        return Path(configured)
    # systemd.exec(5): several directories are separated by colons.
    runtime_directory = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime_directory:
        return Path(runtime_directory) / SOCKET_NAME
    if user_directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(user_directory) / "clusterd" / SOCKET_NAME
    return Path(f"/tmp/clusterd-{uid}") / SOCKET_NAME
