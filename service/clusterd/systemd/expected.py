"""The socket units whose sockets a service requires. The service's own unit names them."""

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from clusterd import service_name
from clusterd.records import dataclass
from clusterd.systemd.sockets import Role

VARIABLE = "CLUSTERD_SOCKETS"
"""Set by the unit, for example `http=clusterd.socket metrics=clusterd-metrics.socket`. If empty, none is required."""

_ADMINISTRATORS = ("/etc/systemd/system", "/run/systemd/system")


@dataclass(frozen=True, slots=True)
class Expected:
    """The socket units of a service. A service that has them has no default addresses."""

    units: Mapping[Role, str] = field(default_factory=dict)
    is_instance: bool = False
    """Whether the service also listens on the addresses in `listen`, in addition to its socket unit."""


NOTHING = Expected()


def is_masked(unit: str) -> bool:
    """Return whether an administrator has masked the unit (`systemctl mask`)."""
    return any(Path(directory, unit).resolve() == Path("/dev/null") for directory in _ADMINISTRATORS)


def expected_sockets(environ: Mapping[str, str], ruled_out: Callable[[str], bool] = is_masked) -> Expected:
    """Return the socket units that this process's environment names, without those that are masked."""
    named = (word.partition("=") for word in environ.get(VARIABLE, "").split())
    units = {Role(name): unit for name, _, unit in named if name in set(Role) and unit and not ruled_out(unit)}
    return Expected(units, bool(environ.get(service_name.VARIABLE)))
