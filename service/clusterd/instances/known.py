"""Which instances there are, and where each has its metrics."""

import re
from dataclasses import dataclass
from pathlib import Path

from clusterd.config.address import Address, UnixAddress
from clusterd.config.paths import CONFIGURATIONS, RUNTIME
from clusterd.config.reading.loader import ConfigError, written_metrics

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.@\\-]*")
"""What systemd allows as the instance name of a unit (systemd.unit(5)); never a path of its own."""
_MAIN = "clusterd"
"""clusterd.yaml belongs to clusterd.service, which is no instance."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where instances have their files; the packaged ones unless a test says otherwise."""

    configurations: Path = CONFIGURATIONS
    runtime: Path = RUNTIME


def names(places: Places) -> list[str]:
    """The instances whose metrics can be asked for: each NAME.yaml beside clusterd.yaml, unless it switches them off.

    By the configurations and not by what runs: an instance that is down has to stay on the list, or nothing would
    report its absence. Raises OSError where the directory cannot be read.
    """
    found = (path.stem for path in places.configurations.iterdir() if path.suffix == ".yaml")
    return sorted(name for name in found if metrics_address(places, name) is not None)


def metrics_address(places: Places, name: str) -> Address | None:
    """Where an instance has its metrics; None where there is no such instance, or where it has none.

    A configuration that cannot be read leaves the default: the instance may run with what the file was before.
    """
    config = places.configurations / f"{name}.yaml"
    if name == _MAIN or not _NAME.fullmatch(name) or not config.is_file():
        return None
    default = UnixAddress(str(places.runtime / f"clusterd-{name}" / "metrics.sock"))
    try:
        return written_metrics(config, default)
    except ConfigError:
        return default
