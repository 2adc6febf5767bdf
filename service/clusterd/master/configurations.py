"""Which generation runs on which configuration, and what a reload would change."""

from collections.abc import Callable
from dataclasses import dataclass

from clusterd.config.changes import Applies, changes
from clusterd.config.cpus import available_cpus
from clusterd.config.loader import ConfigError
from clusterd.config.model import Config
from clusterd.log import Logger
from clusterd.worker.engine_settings import usable_connections


@dataclass(frozen=True)
class Refused:
    """Why a configuration was not accepted, in one line."""

    reason: str


class Configurations:
    """Owns the configurations of the generations that live, and the one being rolled out."""

    def __init__(self, first: Config, read: Callable[[], Config], passed: frozenset[str], log: Logger) -> None:
        self._read = read
        self._passed = passed
        self._log = log
        self._started_with = first
        self._candidate = first
        self._by_generation: dict[int, Config] = {}
        self.notes: tuple[str, ...] = ()
        """What was changed and is not applied by a reload, each in one line."""

    def read(self) -> Config | Refused:
        """Read the configuration for the next generation; each problem is logged."""
        try:
            candidate = self._read()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error(str(problem))
            more = len(error.problems) - 1
            return Refused(f"{error.problems[0]}{f' (and {more} more)' if more else ''}")
        if refused := self._refused(candidate):
            return refused
        found = changes(self._started_with, candidate)
        self.notes = tuple(self._note(change.key) for change in found if change.applies is Applies.RESTART)
        for note in self.notes:
            self._log.warning(note)
        self._candidate = candidate
        return candidate

    def compare(self, generation: int) -> list[dict[str, object]] | Refused:
        """What a reload would change of what `generation` runs on; nothing is kept of what was read."""
        try:
            candidate = self._read()
        except ConfigError as error:
            return Refused("\n".join(map(str, error.problems)))
        if refused := self._refused(candidate):
            return refused
        found = changes(self.of(generation), candidate)
        return [
            {
                "key": change.key,
                "before": _written(change.before),
                "after": _written(change.after),
                "applies": change.applies.value,
            }
            for change in found
        ]

    def _refused(self, candidate: Config) -> Refused | None:
        """What is listened on is decided at the start, and would have nobody who serves it, or the other way round."""
        before, after = ("app" if config.run is None else "run" for config in (self._started_with, candidate))
        return None if before == after else Refused(f"{after}: there was {before} at the start; restart clusterd")

    def _note(self, key: str) -> str:
        if key in self._passed:
            return f"{key} has changed, and is not used: systemd passes these sockets; change the socket unit"
        return f"{key} has changed: it takes effect only when clusterd is restarted"

    def adopt(self, generation: int) -> Config:
        """`generation` runs on what was read last."""
        config = self._by_generation[generation] = self._candidate
        usable, wanted = usable_connections(config), config.limits.connections
        if usable < wanted:
            how = f"limits.connections is {wanted}, and the limit of descriptors leaves {usable} to a worker: "
            self._log.warning(f"{how}raise LimitNOFILE= of the unit (ulimit -n)")
        return config

    def of(self, generation: int) -> Config:
        """What `generation` runs on."""
        return self._by_generation[generation]

    def forget_all_but(self, generations: set[int]) -> None:
        """Keep only what lives."""
        for number in [number for number in self._by_generation if number not in generations]:
            del self._by_generation[number]


def _written(value: object) -> object:
    """As JSON has it, or in words."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def worker_count(config: Config) -> int:
    """The number of workers: as configured, or one for each CPU this service may use."""
    return available_cpus() if config.workers is None else config.workers
