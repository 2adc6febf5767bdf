"""The configuration of each generation, and what a reload would change."""

import os
import threading
from collections.abc import Callable, Mapping

from clusterd.config.changes import Change, changes
from clusterd.config.descriptors import usable_connections
from clusterd.config.model import JSON, Config
from clusterd.config.reading.loader import ConfigError
from clusterd.config.reading.problems import in_one_line
from clusterd.config.settings.schema import BY_KEY
from clusterd.config.settings.setting import Applies
from clusterd.config.written import written
from clusterd.log import Logger
from clusterd.records import dataclass
from clusterd.systemd.start_files import StartFiles, ask_for_start_files


@dataclass(frozen=True)
class Refused:
    """Why a configuration was not accepted, in one line."""

    reason: str


@dataclass(frozen=True, slots=True)
class KnownConfigurations:
    """The configurations that there are."""

    started_with: Config
    candidate: Config
    """The one that was read last. The template of its generation may still have to be started."""
    by_generation: Mapping[int, Config]


class Configurations:
    """Owns the configuration of every generation that has processes, and the one being rolled out."""

    def __init__(self, first: Config, read: Callable[[], Config], passed: frozenset[str], log: Logger) -> None:
        self._read = read
        self._passed = passed
        self._log = log
        self._started_with = first
        self._candidate = first
        # Generation 1 is asked for before its template is started.
        self._by_generation: dict[int, Config] = {1: first}
        self._start_files: StartFiles | None = None
        """None until systemd has answered."""
        self.notes: tuple[str, ...] = ()
        """One line for each change, certain or possible, that the last reload read does not apply."""

    def kept(self) -> KnownConfigurations:
        """What another program of the master goes on with."""
        return KnownConfigurations(self._started_with, self._candidate, dict(self._by_generation))

    def resume(self, kept: KnownConfigurations) -> None:
        """Go on with what an earlier program of the master has kept."""
        self._started_with, self._candidate = kept.started_with, kept.candidate
        self._by_generation = dict(kept.by_generation)

    def learn_start_files(self) -> None:
        """Ask systemd which files it read when it started this process. A thread waits for the answer."""
        threading.Thread(target=self._learn_start_files, name="clusterd-start-files", daemon=True).start()

    def _learn_start_files(self) -> None:
        self._start_files = ask_for_start_files(os.getpid())

    def read(self) -> Config | Refused:
        """Read and check the configuration for the next generation. Logs each problem and each note."""
        try:
            candidate = self._read()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error(str(problem))
            return Refused(in_one_line(error.problems))
        if refused := self._refused(candidate):
            return refused
        found = changes(written(self._started_with), written(candidate))
        settled = (change.setting for change in found if change.setting.applies is Applies.RESTART)
        notes = [self._note(setting.key) for setting in settled]
        files = self._start_files
        if files is not None:
            notes += files.changed()
        for note in notes:
            self._log.warning(note)
        if files is not None and (unseen := files.unseen()):
            self._log.notice(unseen)
            notes.append(unseen)
        self.notes = tuple(notes)
        self._candidate = candidate
        return candidate

    def running(self, generation: int) -> dict[str, JSON]:
        """The settings in effect for `generation`, in the form of `written`.

        A setting that only a restart applies has the value of the start.
        """
        at_start, now = written(self._started_with), written(self.of(generation))
        return {key: at_start[key] if BY_KEY[key].applies is Applies.RESTART else now[key] for key in now}

    def compare(self, generation: int) -> tuple[Change, ...] | Refused:
        """What a reload would change in `generation`. The configuration that was read for this is discarded."""
        try:
            candidate = self._read()
        except ConfigError as error:
            return Refused("\n".join(map(str, error.problems)))
        if refused := self._refused(candidate):
            return refused
        return changes(self.running(generation), written(candidate))

    def _refused(self, candidate: Config) -> Refused | None:
        """Refuse a change from `app` to `run` or back.

        The listening sockets are opened at the start only: a `run` worker would not serve them, and an `app` worker
        would have none.
        """
        before, after = ("app" if config.run is None else "run" for config in (self._started_with, candidate))
        return None if before == after else Refused(f"{after}: there was {before} at the start; restart clusterd")

    def _note(self, key: str) -> str:
        if key in self._passed:
            return f"{key} has changed, and is not used: systemd passes these sockets; change the socket unit"
        return f"{key} has changed: it takes effect only when clusterd is restarted"

    def adopt(self, generation: int) -> Config:
        """Assign the configuration that was read last to `generation`, and return it."""
        config = self._by_generation[generation] = self._candidate
        usable, wanted = usable_connections(config), config.limits.connections
        if usable < wanted:
            how = f"limits.connections is {wanted}, and the limit of descriptors leaves {usable} to a worker: "
            self._log.warning(f"{how}raise LimitNOFILE= of the unit (ulimit -n)")
        return config

    def has(self, generation: int) -> bool:
        """Whether the configuration of `generation` is known: that of one that is over is forgotten."""
        return generation in self._by_generation

    def of(self, generation: int) -> Config:
        """The configuration of `generation`."""
        return self._by_generation[generation]

    def forget_all_but(self, generations: set[int]) -> None:
        """Forget the configuration of every other generation."""
        for number in [number for number in self._by_generation if number not in generations]:
            del self._by_generation[number]
