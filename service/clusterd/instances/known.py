"""Find the instances, and the address of the metrics of each."""

from pathlib import Path

from clusterd.config.address import Address, UnixAddress
from clusterd.config.paths import CONFIGURATIONS, MAIN, RUNTIME, match_instance, runtime_directory
from clusterd.config.reading.loader import ConfigError, written_metrics
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of the instances. The defaults are those of the package; tests set others."""

    configurations: Path = CONFIGURATIONS
    runtime: Path = RUNTIME


def names(places: Places) -> list[str]:
    """The instances with metrics: each NAME.yaml beside clusterd.yaml, unless it switches its metrics off.

    The list depends on the configuration files, not on the running services. An instance that is down must stay on the
    list, because otherwise nothing would report its absence. Raises OSError if the directory cannot be read.
    """
    found = (path.stem for path in places.configurations.iterdir() if path.suffix == ".yaml")
    return sorted(name for name in found if metrics_address(places, name) is not None)


def metrics_address(places: Places, name: str) -> Address | None:
    """The address of the metrics of an instance. None if there is no such instance, or if its metrics are off.

    If the configuration file cannot be read, it is the default address: the instance may still run with an earlier
    version of the file.
    """
    config = places.configurations / f"{name}.yaml"
    if name == MAIN or not match_instance(name) or not config.is_file():
        return None
    default = UnixAddress(str(runtime_directory(name, places.runtime) / "metrics.sock"))
    try:
        return written_metrics(config, default)
    except ConfigError:
        return default
