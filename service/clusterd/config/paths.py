"""The paths of the packaged services, and those at which clusterctl looks for a control socket."""

import re
from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "control.sock"
CONFIGURATIONS = Path("/etc/clusterd")
"""Where the packaged units have their configurations: clusterd.yaml, and one file for each instance."""
RUNTIME = Path("/run")
MAIN = "clusterd"
"""The name of clusterd.service, which is not an instance: it reads clusterd.yaml."""

match_instance = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.@\\-]*").fullmatch
"""Matches the instance names that systemd allows (systemd.unit(5)). Such a name cannot leave a directory."""


def runtime_directory(name: str, runtime: Path = RUNTIME) -> Path:
    """Return the runtime directory of a packaged service: of an instance, or of MAIN."""
    return runtime / (MAIN if name == MAIN else f"{MAIN}-{name}")


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
    if config is None or config.absolute() == CONFIGURATIONS / f"{MAIN}.yaml":
        return runtime_directory(MAIN) / SOCKET_NAME
    if config.absolute().parent == CONFIGURATIONS:
        return runtime_directory(config.stem) / SOCKET_NAME
    return None
