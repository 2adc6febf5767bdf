"""Which socket units a service expects to be passed sockets by: its own unit says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clusterd.systemd.sockets import Role

VARIABLE = "CLUSTERD_SOCKETS"
"""Set by the unit, for example `http=clusterd.socket metrics=clusterd-metrics.socket`; empty: none is expected."""

_ADMINISTRATORS = ("/etc/systemd/system", "/run/systemd/system")


@dataclass(frozen=True, slots=True)
class Expected:
    """The socket units of a service; without them it has no default addresses."""

    units: Mapping[Role, str] = field(default_factory=dict)
    is_instance: bool = False
    """Whether addresses in `listen` are its own, beside those of its socket unit."""


NOTHING = Expected()


def is_masked(unit: str) -> bool:
    """Whether an administrator has ruled a unit out (`systemctl mask`)."""
    return any(Path(directory, unit).resolve() == Path("/dev/null") for directory in _ADMINISTRATORS)


def expected_sockets(environ: Mapping[str, str], ruled_out: Callable[[str], bool] = is_masked) -> Expected:
    """What the environment of this process says of its socket units. One that is ruled out is not expected."""
    named = (word.partition("=") for word in environ.get(VARIABLE, "").split())
    units = {Role(name): unit for name, _, unit in named if name in set(Role) and unit and not ruled_out(unit)}
    return Expected(units, bool(environ.get("CLUSTERD_INSTANCE")))
