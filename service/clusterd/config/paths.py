"""The default paths at which clusterctl finds the control socket of clusterd."""

from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "control.sock"
CONFIGURATIONS = Path("/etc/clusterd")
"""Where the packaged units have their configurations: clusterd.yaml, and one file for each instance."""
RUNTIME = Path("/run")


def control_path(configured: str | None, environ: Mapping[str, str], uid: int) -> Path:
    """Return the control socket: as configured, else in the runtime directory of the unit or user, else below /tmp."""
    if configured is not None:
        return Path(configured)
    # systemd.exec(5): colons separate several directories.
    runtime_directory = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime_directory:
        return Path(runtime_directory) / SOCKET_NAME
    if user_directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(user_directory) / "clusterd" / SOCKET_NAME
    return Path(f"/tmp/clusterd-{uid}") / SOCKET_NAME


def service_path(config: Path | None) -> Path | None:
    """Return the control socket of the packaged unit that reads `config` (None: the default file), else None."""
    if config is None or config.absolute() == CONFIGURATIONS / "clusterd.yaml":
        return RUNTIME / "clusterd" / SOCKET_NAME
    if config.absolute().parent == CONFIGURATIONS:
        return RUNTIME / f"clusterd-{config.stem}" / SOCKET_NAME
    return None
