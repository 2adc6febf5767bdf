"""What the supervisor needs to know of a generation's configuration."""

from dataclasses import dataclass

from clusterd.config.model import Config, Preload


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations in seconds."""

    workers: int
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


def settings_of(config: Config, workers: int) -> Settings:
    """The supervisor's view of `config`; `workers` is the resolved count (`auto` is not a number)."""
    return Settings(
        workers=workers,
        preload=config.preload,
        surge=config.rollout.surge,
        boot_timeout=config.rollout.boot_timeout,
        settle=config.rollout.settle,
        max_draining=config.rollout.max_draining,
        drain=config.timeouts.drain,
        drain_idle=config.timeouts.drain_idle,
        hang=config.timeouts.hang,
        restart_burst=config.restarts.burst,
        restart_per=config.restarts.per,
    )
