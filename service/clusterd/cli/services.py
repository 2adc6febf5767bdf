"""The packaged services of this host: clusterd and its instances."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from clusterd.cli.asking import Unreachable, result_of
from clusterd.config.paths import CONFIGURATIONS, MAIN, RUNTIME, SOCKET_NAME, match_instance, runtime_directory
from clusterd.records import dataclass
from clusterd.wire.control import Command, ControlError

SECONDS = 2.0
"""The time limit for the answer of one service."""
NONE = f"no service of systemd: {CONFIGURATIONS} has no configuration (clusterctl status finds what you have started)"
"""What is said where there is no service, and may be a clusterd that somebody runs in a terminal."""


@dataclass(frozen=True, slots=True)
class State:
    """A service and what it says of itself."""

    name: str
    is_running: bool
    text: str


def configuration_of(name: str) -> Path:
    """The configuration of an instance, by its name. Raises ArgumentTypeError for what is no name."""
    if match_instance(name) is None:
        raise argparse.ArgumentTypeError(f"{name!r} is no name of an instance: clusterd@NAME.service")
    return CONFIGURATIONS / f"{name}.yaml"


def states(configurations: Path = CONFIGURATIONS, runtime: Path = RUNTIME) -> Iterator[State]:
    """Ask every service that has a configuration or a control socket, the main one first."""
    configured = {path.stem for path in configurations.glob("*.yaml")}
    sockets = {path.parent.name.removeprefix(f"{MAIN}-") for path in runtime.glob(f"{MAIN}*/{SOCKET_NAME}")}
    for name in sorted(configured | sockets, key=lambda each: (each != MAIN, each)):
        yield _state(name, runtime_directory(name, runtime) / SOCKET_NAME)


def _state(name: str, path: Path) -> State:
    if not path.exists():
        return State(name, is_running=False, text="not running")
    try:
        return State(name, is_running=True, text=str(result_of(path, Command.STATUS, SECONDS)["data"]["status"]))
    except (Unreachable, ControlError) as error:
        return State(name, is_running=False, text=str(error))
