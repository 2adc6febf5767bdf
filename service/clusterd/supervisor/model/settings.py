"""The settings that the supervisor needs from the configuration of a generation."""

from clusterd.config.model import Config, Preload, WorkerRange
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one generation. Durations are in seconds."""

    workers: int
    """The number of workers; of a range the least one."""
    preload: Preload
    surge: int
    boot_timeout: float
    settle: float
    max_draining: int
    drain: float
    drain_idle: float
    hang: float
    restart_burst: int
    restart_per: float
    most_workers: int = 0
    """The greatest number of a range. If it is not greater than `workers`, the number is fixed."""
    shrink_after: float = 0.0
    """How long fewer workers of a range have to be enough."""
    announce: float = 0.0
    """How long the service goes on as before when it leaves the rotation of load balancers."""

    @property
    def is_elastic(self) -> bool:
        """Whether clusterd decides how many workers there are."""
        return self.most_workers > self.workers

    def within(self, workers: int) -> int:
        """The number of workers nearest to `workers` that the configuration allows."""
        return max(self.workers, min(workers, self.most_workers))

    @property
    def range_text(self) -> str:
        """The numbers of workers that the configuration allows."""
        return f"{self.workers} to {self.most_workers}" if self.is_elastic else str(self.workers)


def settings_of(config: Config, cpus: int) -> Settings:
    """The settings of `config` for the supervisor. `cpus` is the number that `auto` stands for."""
    workers = config.workers
    if isinstance(workers, WorkerRange):
        least, shrink_after = workers.min, workers.shrink_after
        most = max(least, cpus) if workers.max is None else workers.max
    else:
        least = most = cpus if workers is None else workers
        shrink_after = 0.0
    return Settings(
        workers=least,
        most_workers=most,
        shrink_after=shrink_after,
        preload=config.preload,
        surge=config.rollout.surge,
        boot_timeout=config.rollout.boot_timeout,
        settle=config.rollout.settle,
        max_draining=config.rollout.max_draining,
        announce=config.timeouts.announce if config.run is None else 0.0,  # No balancer sends a job anything.
        drain=config.timeouts.drain,
        drain_idle=config.timeouts.drain_idle,
        hang=config.timeouts.hang,
        restart_burst=config.restarts.burst,
        restart_per=config.restarts.per,
    )
